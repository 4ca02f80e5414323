//! The only step of a cluster that is there already: it looks, says what the cluster lacks, and keeps
//! a kubeconfig with its context alone beside our other files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cluster::existing::looks::{self, architecture};
use crate::cluster::kind::WHOLE;
use crate::cluster::known::Known;
use crate::cluster::{kubeconfig, objects};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};

/// The step.
pub struct Looked {
    /// Of this cluster.
    pub known: Arc<Known>,
    /// Where its context is.
    pub files: Vec<PathBuf>,
    /// Objects that have to be ours where they are.
    pub places: Vec<Value>,
}

/// A kubeconfig with its context alone, and whether we have that already.
pub struct Seen {
    config: String,
    kept: bool,
}

/// A kubeconfig with one context of these files.
///
/// # Errors
/// When there is no such context.
pub fn config(files: &[PathBuf], context: &str) -> Result<Value> {
    kubeconfig::only(&kubeconfig::all_of(files)?, context, context)
}

impl Step for Looked {
    type Seen = Seen;

    fn id(&self) -> Id {
        WHOLE
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn observe(&self) -> Result<Seen> {
        let (place, context) = (&self.known.place, &self.known.ways.context);
        let config = config(&self.files, context)?;
        let client = objects::client_by(&config).await?;
        let seen = looks::look(&client, place.env, &self.places).await?;
        let lacks = seen.lacks(architecture());
        if !lacks.is_empty() {
            let (server, version) = (kubeconfig::server(&config), &seen.version);
            bail!(
                "the cluster of context {context} (Kubernetes {version} at {server}) lacks {}",
                lacks.join("; ")
            );
        }
        let config = format!("{config:#}\n");
        let kept = crate::store::read(&place.kubeconfig())?.as_deref() == Some(&config);
        Ok(Seen { config, kept })
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let (context, file) = (&self.known.ways.context, self.known.place.kubeconfig());
        let keep = || Change::new(format!("keep the context {context} in {}", file.display()));
        (!seen.kept).then(keep).into_iter().collect()
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let file = self.known.place.kubeconfig();
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        crate::store::write(&file, seen.config.as_bytes())
    }
}
