//! The step that applies objects under our name, and waits until what runs by them works, and what
//! they define is served.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::objects::{self, Seen};
use crate::cluster::ready::{self, Workload};
use crate::cluster::served;
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::wait::Look;

/// Objects in the cluster of a kubeconfig.
pub struct Applied {
    /// The step's name.
    pub id: Id,
    /// What has to be ready before.
    pub needs: &'static [Id],
    /// How long it may take until all of it works.
    pub limit: Duration,
    /// Of this cluster.
    pub kubeconfig: PathBuf,
    /// The objects.
    pub wanted: Vec<Value>,
    /// What has to work then.
    pub works: Vec<Workload<'static>>,
}

impl Step for Applied {
    type Seen = Vec<Seen>;

    fn id(&self) -> Id {
        self.id
    }

    fn needs(&self) -> &'static [Id] {
        self.needs
    }

    fn limit(&self) -> Duration {
        self.limit
    }

    async fn observe(&self) -> Result<Vec<Seen>> {
        let client = objects::client(&self.kubeconfig).await?;
        objects::look(&client, &self.wanted).await
    }

    fn diff(&self, seen: &Vec<Seen>) -> Vec<Change> {
        objects::diff(seen)
    }

    async fn apply(&self, seen: Vec<Seen>, _: About<'_>) -> Result<()> {
        let client = objects::client(&self.kubeconfig).await?;
        objects::apply(&client, &seen).await
    }

    async fn ready(&self) -> Look<(), String> {
        ready::patient(self.look().await)
    }
}

impl Applied {
    async fn look(&self) -> Result<Look<(), String>> {
        let client = objects::client(&self.kubeconfig).await?;
        match ready::each(&client, &self.works).await? {
            Look::Done(()) => served::all(&client, &self.wanted).await,
            other => Ok(other),
        }
    }
}
