//! `comind-ops bootstrap`: the whole platform, from nothing, in one command.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use comind_bootstrap::bundle::GROUPS;
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::cluster::session::Session as Cluster;
use comind_bootstrap::event::{Level, now, say};
use comind_bootstrap::plan::step::graph_with;
use comind_bootstrap::platform::source::{Login, Source};
use comind_bootstrap::platform::{hosts, plan, watching};
use comind_bootstrap::secret::Secret;
use comind_bootstrap::services::session::Session;
use comind_bootstrap::watch::table;
use serde_json::json;

use crate::bundle;
use crate::cluster::tell_kind;
use crate::diagnose;
use crate::kind::KindArgs;
use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs, ServiceArgs};
use crate::planned::{self, Ended, Wishes};
use crate::services::{show, take_lock};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Bootstrap {
    /// Where the platform is to be
    #[arg(long, env = "PROFILE", value_enum, default_value = "local")]
    profile: Profile,
    #[command(flatten)]
    env: EnvArgs,
    /// Bring what this machine lacks out of this bundle first: no network is needed
    #[arg(long, value_name = "BUNDLE")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    wishes: Wishes,
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    services: ServiceArgs,
}

/// A repository that the platform is described in instead of its own.
#[derive(Args, Debug)]
struct RepositoryArgs {
    /// Describe the platform in this repository instead of one inside it. Filled if it is empty; kept for later runs
    #[arg(long, env = "REPO_URL", value_name = "URL")]
    repo_url: Option<String>,
    /// Who fetches from it and pushes to it
    #[arg(long, env = "REPO_USER", value_name = "NAME", requires = "repo_url")]
    repo_user: Option<String>,
    /// A file with that user's password or token
    #[arg(
        long,
        env = "REPO_PASSWORD_FILE",
        value_name = "FILE",
        requires = "repo_user"
    )]
    repo_password_file: Option<PathBuf>,
}

impl RepositoryArgs {
    fn source(self, place: &Place) -> Result<Source> {
        let login = self.repo_user.zip(self.repo_password_file);
        let login = login.map(|(user, file)| {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let password = Secret::new(text.trim_end());
            anyhow::Ok(Login { user, password })
        });
        Source::choose(place, self.repo_url, login.transpose()?)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Profile {
    /// This machine
    Local,
    /// AWS
    Aws,
}

impl Bootstrap {
    /// Brings the platform up, or says what that would do.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        if self.profile == Profile::Aws {
            bail!(
                "the profile aws is not there yet; PROFILE=local brings the platform up on this machine"
            );
        }
        bundle::offline(self.offline.as_deref(), GROUPS, self.wishes.plan, out).await?;
        let with_users = !self.wishes.no_kubeconfig;
        let request = self.kind.request(self.env.env, home, with_users)?;
        let found = Cluster::open(request).await?;
        let cluster = &*found.cluster;
        let known = cluster.known();
        tell_kind(&found, out);
        if let Some(lack) = cluster.lacks().await {
            bail!("{lack}");
        }
        let request = self.services.request(home)?;
        let session = Arc::new(Session::open(request.clone()).await?);
        let source = self.repository.source(&known.place)?;
        let steps = plan::steps(cluster, &session, &source, std::env::current_exe()?)?;
        let graph = graph_with(&steps, |need| cluster.step_of(need))?;
        let graph = graph.part(&self.wishes.part())?;
        if self.wishes.plan {
            return planned::show(&graph, &steps, out).await;
        }
        let _lock = take_lock(&known.place.home, out).await?;
        let (kind, because) = (session.runtime.kind().name(), &session.because);
        say(
            out,
            Level::Note,
            format!("services by {kind}, because {because}"),
        );
        session.record()?;
        found.begin()?;
        let journal = plan::journal(known);
        let carries = (journal.as_path(), "platform");
        let carried = planned::carry_out(&graph, &steps, carries, &self.wishes, out).await;
        let outcome = match carried {
            Ok(outcome) => outcome,
            Err(error) => {
                diagnose::after_failure(request, self.env, out).await;
                return Err(error);
            }
        };
        found.record()?;
        show(&session, out).await?;
        if graph.sorted().contains(&"watching") {
            show_platform(&known.place, &source, out).await?;
        }
        planned::tell(known, &outcome, out)?;
        Ok(Ended::Well)
    }
}

/// What the collector in the cluster sees, and where everything is.
async fn show_platform(place: &Place, source: &Source, out: &Output) -> Result<()> {
    let mut states = watching::states(&place.kubeconfig()).await?;
    let state = states.swap_remove(0);
    let pages = hosts::pages(place.env, source);
    let text = format!(
        "\n{}\n{}\nPasswords: comind-ops gitops login\n",
        table::brief(&state, now(), out.look()),
        hosts::table(&pages, out.look())
    );
    out.answer(&text, &json!({ "state": state, "pages": pages }))
}
