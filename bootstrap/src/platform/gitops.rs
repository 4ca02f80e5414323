//! What lies in the platform's repository at first, and the applications that come from it.
//!
//! The repository is its users': it is filled once, while it is empty, and not written again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cluster::host::steps::Known;
use crate::cluster::{objects, ready};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::platform::applications::{self, Application};
use crate::platform::repository::Repository;
use crate::platform::{git, logins};
use crate::secret::Secret;
use crate::wait::Look;

/// The files of the repository, and what the cluster has to know of it.
pub struct GitOps {
    known: Arc<Known>,
    files: BTreeMap<String, String>,
    wanted: Vec<Value>,
}

/// What there is.
pub struct Seen {
    login: Option<Secret>,
    empty: bool,
    redis: bool,
    objects: Vec<objects::Seen>,
}

impl GitOps {
    /// For a cluster where services run on this image of Redis.
    ///
    /// # Errors
    /// When a manifest is wrong.
    pub fn new(known: &Arc<Known>, redis_image: &str) -> Result<Self> {
        let env = known.place.env.name();
        let filled = |text: &str| {
            text.replace("@REPOSITORY@", git::REPOSITORY)
                .replace("@ENV@", env)
        };
        Ok(Self {
            known: known.clone(),
            files: files(env, redis_image, &filled),
            wanted: objects::parse(&filled(include_str!("../../manifests/gitops.yaml")))?,
        })
    }

    fn repository(&self, login: &Secret) -> Result<Repository> {
        Repository::new(&self.known.programs, self.known.place.node(), login)
    }

    async fn fill(&self, login: &Secret) -> Result<()> {
        let repository = self.repository(login)?;
        let dir = self.known.place.data("first-commit");
        crate::store::remove(&dir)?;
        for (name, text) in &self.files {
            let file = dir.join(name);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&file, text)?;
        }
        repository
            .git(&dir, &["init", "--quiet", "--initial-branch=main"])
            .await?;
        let message = "The platform as comind-ops bootstrap makes it";
        repository.commit_and_push(&dir, message).await?;
        crate::store::remove(&dir)?;
        Ok(())
    }

    async fn look(&self) -> Result<Look<(), String>> {
        let client = objects::client(&self.known.place.kubeconfig()).await?;
        let all = applications::list(&client).await?;
        // Those that services.yaml makes of the folders come after the first one.
        let wanted = 1 + self
            .files
            .keys()
            .filter(|name| name.ends_with("/Chart.yaml"))
            .count();
        let reasons: Vec<String> = all.iter().filter_map(Application::complaint).collect();
        Ok(match reasons.first() {
            Some(reason) => Look::NotYet(reason.clone()),
            None if all.len() < wanted => {
                Look::NotYet(format!("{} of {wanted} applications are there", all.len()))
            }
            None => Look::Done(()),
        })
    }
}

/// The repository's first files. Pure.
fn files(
    env: &str,
    redis_image: &str,
    filled: &dyn Fn(&str) -> String,
) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut add = |name: &str, text: String| files.insert(name.to_owned(), text);
    add("README.md", README.to_owned());
    add(
        "platform/services.yaml",
        filled(include_str!("../../gitops/platform/services.yaml")),
    );
    add(
        "platform/apps.yaml",
        filled(include_str!("../../gitops/platform/apps.yaml")),
    );
    add("apps/.gitkeep", String::new());
    for (name, text) in [
        (
            "Chart.yaml",
            include_str!("../../../helm/platform/redis/Chart.yaml"),
        ),
        (
            "values.yaml",
            include_str!("../../../helm/platform/redis/values.yaml"),
        ),
        (
            "templates/redis.yaml",
            include_str!("../../../helm/platform/redis/templates/redis.yaml"),
        ),
    ] {
        add(&format!("services/redis/{name}"), text.to_owned());
    }
    add(
        &format!("environments/{env}/redis.yaml"),
        format!("image: {{ name: \"{redis_image}\", pullPolicy: Never }}\n"),
    );
    files
}

const README: &str = "# The platform\n\nArgo CD makes the cluster as this repository says, a moment after each push.\n\n\
    - `platform/` what Argo CD itself is told: the sets of applications\n\
    - `services/NAME/` one chart for each of the platform's services\n\
    - `environments/ENV/NAME.yaml` what differs there\n\
    - `apps/NAME/` one folder for each of your applications, in the namespace user-apps\n";

const REDIS_LOGIN: &str = "redis-auth";

impl Step for GitOps {
    type Seen = Seen;

    fn id(&self) -> Id {
        "gitops"
    }

    fn needs(&self) -> &'static [Id] {
        &["argocd", "git"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(180)
    }

    async fn observe(&self) -> Result<Seen> {
        let kubeconfig: PathBuf = self.known.place.kubeconfig();
        let client = objects::client(&kubeconfig).await?;
        let login = git::login(&kubeconfig).await?;
        let namespace = format!("platform-{}", self.known.place.env.name());
        let redis = logins::look(&client, &namespace, REDIS_LOGIN, "password")
            .await?
            .is_some();
        let empty = match &login {
            None => true,
            Some(login) => self.repository(login)?.is_empty().await?,
        };
        let objects = objects::look(&client, &self.wanted).await?;
        Ok(Seen {
            login,
            empty,
            redis,
            objects,
        })
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let mut changes = Vec::new();
        if !seen.redis {
            changes.push(Change::new("make a password for the platform's Redis"));
        }
        if seen.empty {
            let count = self.files.len();
            changes.push(Change::new(format!(
                "fill the empty repository with {count} files"
            )));
        }
        changes.extend(objects::diff(&seen.objects));
        changes
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let client = objects::client(&self.known.place.kubeconfig()).await?;
        if !seen.redis {
            let namespace = format!("platform-{}", self.known.place.env.name());
            let password = logins::password()?;
            let secret = logins::secret(
                &namespace,
                REDIS_LOGIN,
                &[],
                &[("password", password.expose())],
            );
            objects::apply(&client, &objects::look(&client, &[secret]).await?).await?;
        }
        if seen.empty {
            let login = seen
                .login
                .context("the repository has no login yet; run this again")?;
            self.fill(&login).await?;
        }
        objects::apply(&client, &seen.objects).await
    }

    async fn ready(&self) -> Look<(), String> {
        ready::patient(self.look().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_of_the_chart_is_in_the_repository() -> Result<()> {
        let there = files("dev", "i", &|text| text.to_owned());
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/platform/redis");
        let mut left = vec![chart.clone()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                if path.is_dir() {
                    left.push(path);
                    continue;
                }
                let name = format!("services/redis/{}", path.strip_prefix(&chart)?.display());
                assert_eq!(
                    there.get(&name),
                    Some(&std::fs::read_to_string(&path)?),
                    "{name}"
                );
            }
        }
        Ok(())
    }
}
