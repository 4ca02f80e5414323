//! Takes an application back to how the repository described it before. That is a new commit: the
//! repository goes on saying what is so, and Argo CD does the rest.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cluster::env::Env;
use crate::platform::applications::Application;
use crate::platform::repository::Repository;

/// What was done.
#[derive(Debug, serde::Serialize)]
pub struct Done {
    /// The revision whose description counts again.
    pub to: String,
    /// The commit that says so.
    pub revision: String,
}

/// Takes `application` back to `revision`, or to the last one that differs.
///
/// # Errors
/// When it was never otherwise, or somebody has pushed meanwhile.
pub async fn roll_back(
    repository: &Repository,
    application: &Application,
    env: Env,
    revision: Option<&str>,
    dir: &Path,
) -> Result<Done> {
    let path = application
        .path
        .as_deref()
        .context("the application has no path in the repository")?;
    crate::store::remove(dir)?;
    repository.clone_to(dir).await?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let values = format!("environments/{}/{name}.yaml", env.name());
    let paths = [path, values.as_str()];
    let to = match revision {
        Some(revision) => full(repository, dir, revision).await?,
        None => before(repository, dir, &paths).await?,
    };
    for one in paths {
        // As a whole: what has come since goes.
        repository
            .git(dir, &["rm", "-r", "--quiet", "--ignore-unmatch", "--", one])
            .await?;
        let there = repository
            .git(dir, &["ls-tree", "--name-only", &to, "--", one])
            .await?;
        if !there.trim().is_empty() {
            repository
                .git(dir, &["checkout", "--quiet", &to, "--", one])
                .await?;
        }
    }
    let message = format!(
        "Roll back {} to {}",
        application.name,
        &to[..to.len().min(8)]
    );
    let changed = repository.git(dir, &["status", "--porcelain"]).await?;
    if changed.trim().is_empty() {
        bail!(
            "{} is as in {} already; nothing was changed",
            application.name,
            &to[..to.len().min(8)]
        );
    }
    let revision = repository.commit_and_push(dir, &message).await?;
    crate::store::remove(dir)?;
    Ok(Done { to, revision })
}

async fn full(repository: &Repository, dir: &Path, revision: &str) -> Result<String> {
    if revision.starts_with('-') {
        bail!("{revision} is no revision");
    }
    let commit = format!("{revision}^{{commit}}");
    let found = repository
        .git(dir, &["rev-parse", "--verify", "--quiet", &commit])
        .await;
    let found = found.with_context(|| format!("the repository has no revision {revision}"))?;
    Ok(found.trim().to_owned())
}

/// The commit before the last one that has changed any of these paths.
async fn before(repository: &Repository, dir: &Path, paths: &[&str]) -> Result<String> {
    let args = [&["log", "--format=%H", "--max-count=1", "--"], paths].concat();
    let last = repository.git(dir, &args).await?;
    let last = last.trim();
    let parent = repository
        .git(
            dir,
            &["rev-parse", "--verify", "--quiet", &format!("{last}^")],
        )
        .await;
    match parent {
        Ok(parent) if !last.is_empty() => Ok(parent.trim().to_owned()),
        _ => bail!("it was never described otherwise"),
    }
}
