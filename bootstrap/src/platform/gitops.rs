//! What lies in the platform's repository at first, and the applications that come from it.
//!
//! The repository is its users': it is filled once, while it is empty, and then only the values that
//! are ours (environments/ENV/made/) are pushed when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cluster::host::steps::Known;
use crate::cluster::{objects, ready};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::platform::applications;
use crate::platform::files::{self, Files};
use crate::platform::images::Images;
use crate::platform::repository::Repository;
use crate::platform::source::Source;
use crate::services::settings::Settings;
use crate::wait::Look;

/// The files of the repository, and what the cluster has to know of it.
pub struct GitOps {
    known: Arc<Known>,
    source: Source,
    first: Files,
    made: Files,
    wanted: Vec<Value>,
    /// Those that have to work. What users bring besides is theirs.
    applications: Vec<String>,
}

/// What there is.
pub struct Seen {
    repository: Option<Repository>,
    empty: bool,
    /// Those of our values that are not there, or not so.
    outdated: Vec<String>,
    objects: Vec<objects::Seen>,
}

impl GitOps {
    /// For a cluster with these images, beside services with these settings.
    ///
    /// # Errors
    /// When a manifest is wrong.
    pub fn new(
        known: &Arc<Known>,
        source: &Source,
        images: &Images,
        settings: &Settings,
    ) -> Result<Self> {
        let env = known.place.env;
        let url = source.url();
        let manifest = files::filled(include_str!("../../manifests/gitops.yaml"), env, url);
        let first = files::first(env, url)?;
        // The one that the others come from is first.
        let applications = std::iter::once("platform").chain(files::applications(&first));
        Ok(Self {
            known: known.clone(),
            source: source.clone(),
            applications: applications.map(str::to_owned).collect(),
            first,
            made: files::made(env, &known.ways, source, images, settings)?,
            wanted: objects::parse(&manifest)?,
        })
    }

    async fn repository(&self) -> Result<Option<Repository>> {
        self.source.open(&self.known).await
    }

    /// A copy of what was pushed, to be read and to be committed in.
    async fn copy(&self, repository: &Repository) -> Result<PathBuf> {
        let dir = self.known.place.data("platform-repository");
        crate::store::remove(&dir)?;
        repository.clone_to(&dir).await?;
        Ok(dir)
    }

    async fn outdated(&self, repository: &Repository) -> Result<Vec<String>> {
        let dir = self.copy(repository).await?;
        let mut outdated = Vec::new();
        for (name, wanted) in &self.made {
            if crate::store::read(&dir.join(name))?.as_ref() != Some(wanted) {
                outdated.push(name.clone());
            }
        }
        crate::store::remove(&dir)?;
        Ok(outdated)
    }

    async fn fill(&self, repository: &Repository) -> Result<()> {
        let dir = self.known.place.data("platform-repository");
        crate::store::remove(&dir)?;
        write(&dir, &self.first)?;
        write(&dir, &self.made)?;
        repository
            .git(&dir, &["init", "--quiet", "--initial-branch=main"])
            .await?;
        let message = "The platform as comind-ops bootstrap makes it";
        repository.commit_and_push(&dir, message).await?;
        crate::store::remove(&dir).map(drop)
    }

    async fn update(&self, repository: &Repository) -> Result<()> {
        let dir = self.copy(repository).await?;
        write(&dir, &self.made)?;
        let message = "Images and addresses as comind-ops bootstrap has made them";
        repository.commit_and_push(&dir, message).await?;
        crate::store::remove(&dir).map(drop)
    }

    async fn look(&self) -> Result<Look<(), String>> {
        let kubeconfig = self.known.place.kubeconfig();
        let client = objects::client(&kubeconfig).await?;
        let repository = self.repository().await?;
        let repository = repository.context("the repository has no login yet")?;
        let head = repository.head().await?;
        let all = applications::list(&client).await?;
        for name in &self.applications {
            let Some(one) = all.iter().find(|one| one.name == *name) else {
                return Ok(Look::NotYet(format!("there is no application {name} yet")));
            };
            if one.revision != head {
                let text = format!("application {name} has not seen the newest commit yet");
                return Ok(Look::NotYet(text));
            }
            match one.look(&client).await? {
                Look::Done(()) => {}
                other => return Ok(other),
            }
        }
        Ok(Look::Done(()))
    }
}

fn write(dir: &Path, files: &Files) -> Result<()> {
    for (name, text) in files {
        let file = dir.join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, text)?;
    }
    Ok(())
}

impl Step for GitOps {
    type Seen = Seen;

    fn id(&self) -> Id {
        "gitops"
    }

    fn needs(&self) -> &'static [Id] {
        &["argocd", "git", "logins", "images-of-services", "volumes"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(300)
    }

    async fn observe(&self) -> Result<Seen> {
        let kubeconfig: PathBuf = self.known.place.kubeconfig();
        let client = objects::client(&kubeconfig).await?;
        let repository = self.repository().await?;
        let empty = match &repository {
            None => true,
            Some(repository) => repository.head().await?.is_none(),
        };
        let outdated = match &repository {
            Some(repository) if !empty => self.outdated(repository).await?,
            _ => Vec::new(),
        };
        let objects = objects::look(&client, &self.wanted).await?;
        Ok(Seen {
            repository,
            empty,
            outdated,
            objects,
        })
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let mut changes = Vec::new();
        if seen.empty {
            let count = self.first.len() + self.made.len();
            changes.push(Change::new(format!(
                "fill the empty repository with {count} files"
            )));
        }
        if !seen.outdated.is_empty() {
            let names = seen.outdated.join(", ");
            changes.push(Change::new(format!("push new values: {names}")));
        }
        changes.extend(objects::diff(&seen.objects));
        changes
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let client = objects::client(&self.known.place.kubeconfig()).await?;
        let repository = seen
            .repository
            .context("the repository has no login yet; run this again")?;
        let denied = "cannot push to the repository; REPO_USER and REPO_PASSWORD_FILE name who may";
        if seen.empty {
            self.fill(&repository).await.context(denied)?;
        }
        if !seen.outdated.is_empty() {
            self.update(&repository).await.context(denied)?;
        }
        self.source.note(&self.known.place)?;
        objects::apply(&client, &seen.objects).await
    }

    async fn ready(&self) -> Look<(), String> {
        ready::patient(self.look().await)
    }
}
