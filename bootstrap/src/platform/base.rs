//! The step that gives every namespace what it has to have.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::env::Env;
use crate::cluster::objects;
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::platform::rooms;
use crate::wait::Look;

/// Namespaces, quotas, limits, network policies, roles.
pub struct Base {
    kubeconfig: PathBuf,
    wanted: Vec<Value>,
}

impl Base {
    /// For this environment, in the cluster of this kubeconfig.
    pub fn new(env: Env, kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            wanted: rooms::objects(env),
        }
    }
}

impl Step for Base {
    type Seen = Vec<objects::Seen>;

    fn id(&self) -> Id {
        "base"
    }

    fn needs(&self) -> &'static [Id] {
        &["apiserver", "controller-manager"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn observe(&self) -> Result<Vec<objects::Seen>> {
        let client = objects::client(&self.kubeconfig).await?;
        objects::look(&client, &self.wanted).await
    }

    fn diff(&self, seen: &Vec<objects::Seen>) -> Vec<Change> {
        objects::diff(seen)
    }

    async fn apply(&self, seen: Vec<objects::Seen>, _: About<'_>) -> Result<()> {
        let client = objects::client(&self.kubeconfig).await?;
        objects::apply(&client, &seen).await
    }

    async fn ready(&self) -> Look<(), String> {
        Look::Done(())
    }
}
