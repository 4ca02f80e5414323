//! `comind-ops gitops …`: the platform's repository and what comes of it.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use comind_bootstrap::cluster::objects;
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::platform::applications::{self, Application};
use comind_bootstrap::platform::source::{Login, Source};
use comind_bootstrap::platform::{argocd, logins, rollback};
use comind_bootstrap::secret::Secret;
use serde_json::json;

use crate::cluster::known;
use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};
use crate::planned::Ended;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Gitops {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    env: EnvArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Argo CD's applications; exit 1 unless all are synced and healthy
    Status,
    /// The logins of the repository and of Argo CD. Shows passwords
    Login,
    /// What an application was made from, the newest last
    History {
        /// Its name
        application: String,
    },
    /// Describe an application as it was before, by a new commit
    Rollback {
        /// Its name
        application: String,
        /// As in this revision [default: before its last change]
        revision: Option<String>,
    },
}

impl Gitops {
    /// Does what is asked.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        let known = known(self.env.env, home, false)?;
        let place = &known.place;
        let client = objects::client(&place.kubeconfig())
            .await
            .context("there is no platform here; comind-ops bootstrap makes it")?;
        match self.what {
            What::Status => {
                let all = applications::list(&client).await?;
                let text = applications::table(&all, out.look());
                out.answer(&text, &json!({ "applications": all }))?;
                return Ok(Ended::by(all.iter().all(Application::is_well)));
            }
            What::Login => {
                let source = Source::choose(place, None, None)?;
                let url = source.url_from_here(&known.ways);
                let login = source.login(&place.kubeconfig()).await?;
                let login = login.unwrap_or(Login {
                    user: "-".to_owned(),
                    password: Secret::new("-"),
                });
                let (repository_user, repository) = (login.user, login.password);
                let admin = argocd::first_password(&place.kubeconfig()).await?;
                let admin = admin.expose();
                let services = format!("platform-{}", self.env.env.name());
                let minio = logins::look(&client, &services, "minio-auth", "secret_key").await?;
                let minio = minio.context("MinIO has no login yet")?;
                let (user, minio) = (logins::MINIO_USER, minio.expose());
                let text = format!(
                    "repository  {url}\n  user      {}\n  password  {}\nArgo CD\n  user      admin\n  password  {admin}\nMinIO\n  user      {user}\n  password  {minio}\n",
                    repository_user,
                    repository.expose()
                );
                let value = json!({
                    "repository": { "url": url, "user": repository_user, "password": repository.expose() },
                    "argocd": { "user": "admin", "password": admin },
                    "minio": { "user": user, "password": minio },
                });
                out.answer(&text, &value)?;
            }
            What::History { application } => {
                let one = named(&applications::list(&client).await?, &application)?;
                let text: String = one.history.iter().map(|one| format!("{one}\n")).collect();
                out.answer(
                    &text,
                    &json!({ "application": application, "history": one.history }),
                )?;
            }
            What::Rollback {
                application,
                revision,
            } => {
                let one = named(&applications::list(&client).await?, &application)?;
                let source = Source::choose(place, None, None)?;
                let repository = source.open(&known).await?;
                let repository = repository.context("the repository has no login yet")?;
                let dir = place.data("rollback");
                let done =
                    rollback::roll_back(&repository, &one, self.env.env, revision.as_deref(), &dir)
                        .await?;
                say(
                    out,
                    Level::Changed,
                    format!("{application} is described as in {} again", done.to),
                );
                out.answer(&format!("{}\n", done.revision), &json!(done))?;
            }
        }
        Ok(Ended::Well)
    }
}

fn named(all: &[Application], name: &str) -> Result<Application> {
    let found = all.iter().find(|one| one.name == name).cloned();
    found.with_context(|| {
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        format!(
            "there is no application {name}; there are: {}",
            names.join(", ")
        )
    })
}
