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
use crate::platform::git;
use crate::platform::images::Images;
use crate::platform::repository::Repository;
use crate::secret::Secret;
use crate::services::settings::Settings;
use crate::wait::Look;

/// The files of the repository, and what the cluster has to know of it.
pub struct GitOps {
    known: Arc<Known>,
    first: Files,
    made: Files,
    wanted: Vec<Value>,
    /// Those that have to work. What users bring besides is theirs.
    applications: Vec<String>,
}

/// What there is.
pub struct Seen {
    login: Option<Secret>,
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
    pub fn new(known: &Arc<Known>, images: &Images, settings: &Settings) -> Result<Self> {
        let env = known.place.env;
        let manifest = files::filled(include_str!("../../manifests/gitops.yaml"), env);
        let first = files::first(env)?;
        // The one that the others come from is first.
        let applications = std::iter::once("platform").chain(files::applications(&first));
        Ok(Self {
            known: known.clone(),
            applications: applications.map(str::to_owned).collect(),
            first,
            made: files::made(env, images, settings)?,
            wanted: objects::parse(&manifest)?,
        })
    }

    fn repository(&self, login: &Secret) -> Result<Repository> {
        Repository::new(&self.known.programs, self.known.place.node(), login)
    }

    /// A copy of what was pushed, to be read and to be committed in.
    async fn copy(&self, login: &Secret) -> Result<PathBuf> {
        let dir = self.known.place.data("platform-repository");
        crate::store::remove(&dir)?;
        self.repository(login)?.clone_to(&dir).await?;
        Ok(dir)
    }

    async fn outdated(&self, login: &Secret) -> Result<Vec<String>> {
        let dir = self.copy(login).await?;
        let mut outdated = Vec::new();
        for (name, wanted) in &self.made {
            if crate::store::read(&dir.join(name))?.as_ref() != Some(wanted) {
                outdated.push(name.clone());
            }
        }
        crate::store::remove(&dir)?;
        Ok(outdated)
    }

    async fn fill(&self, login: &Secret) -> Result<()> {
        let dir = self.known.place.data("platform-repository");
        crate::store::remove(&dir)?;
        write(&dir, &self.first)?;
        write(&dir, &self.made)?;
        let repository = self.repository(login)?;
        repository
            .git(&dir, &["init", "--quiet", "--initial-branch=main"])
            .await?;
        let message = "The platform as comind-ops bootstrap makes it";
        repository.commit_and_push(&dir, message).await?;
        crate::store::remove(&dir).map(drop)
    }

    async fn update(&self, login: &Secret) -> Result<()> {
        let dir = self.copy(login).await?;
        write(&dir, &self.made)?;
        let message = "Images and addresses as comind-ops bootstrap has made them";
        self.repository(login)?
            .commit_and_push(&dir, message)
            .await?;
        crate::store::remove(&dir).map(drop)
    }

    async fn look(&self) -> Result<Look<(), String>> {
        let client = objects::client(&self.known.place.kubeconfig()).await?;
        let all = applications::list(&client).await?;
        for name in &self.applications {
            let Some(one) = all.iter().find(|one| one.name == *name) else {
                return Ok(Look::NotYet(format!("there is no application {name} yet")));
            };
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
        let login = git::login(&kubeconfig).await?;
        let empty = match &login {
            None => true,
            Some(login) => self.repository(login)?.is_empty().await?,
        };
        let outdated = match &login {
            Some(login) if !empty => self.outdated(login).await?,
            _ => Vec::new(),
        };
        let objects = objects::look(&client, &self.wanted).await?;
        Ok(Seen {
            login,
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
        let login = seen
            .login
            .context("the repository has no login yet; run this again")?;
        if seen.empty {
            self.fill(&login).await?;
        }
        if !seen.outdated.is_empty() {
            self.update(&login).await?;
        }
        objects::apply(&client, &seen.objects).await
    }

    async fn ready(&self) -> Look<(), String> {
        ready::patient(self.look().await)
    }
}
