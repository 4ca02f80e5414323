//! What a Kubernetes cluster has to be able to do, whatever makes it.

use std::sync::Arc;

use anyhow::Result;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::host::image::Recipe;
use crate::cluster::known::Known;
use crate::event::Report;
use crate::plan::graph::Id;
use crate::plan::step::Planned;

/// What makes a cluster.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Kubernetes' own programs as processes.
    Host,
    /// k3s in containers, by k3d.
    K3d,
    /// Nobody here: it is there already.
    Existing,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::K3d => "k3d",
            Self::Existing => "existing",
        }
    }
}

/// How one of the parts of a cluster stands: a program, a node.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub component: String,
    /// In a word: running, restarting, stopped, absent.
    pub state: &'static str,
    /// Its process.
    pub pid: Option<i32>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

impl Row {
    /// Of a part that is no process of ours.
    pub fn new(component: impl Into<String>, state: &'static str, reason: Option<String>) -> Self {
        Self {
            component: component.into(),
            state,
            pid: None,
            since: None,
            restarts: 0,
            reason,
        }
    }
}

/// The parts of a cluster that steps may need. A cluster of plain processes has a step of that name
/// for each; where a cluster is made as a whole, one step stands for all of them.
pub const PARTS: [Id; 14] = [
    "network",
    "certificates",
    "kubeconfig",
    "etcd",
    "containerd",
    "images",
    "apiserver",
    "controller-manager",
    "scheduler",
    "kubelet",
    "kube-proxy",
    "dns",
    "volumes",
    "metrics",
];

/// The step of a cluster that is made as a whole.
pub const WHOLE: Id = "cluster";

/// Which step makes a part of such a cluster; what is no part of a cluster is itself.
pub fn whole(need: Id) -> Id {
    match PARTS.contains(&need) {
        true => WHOLE,
        false => need,
    }
}

/// A cluster.
pub trait Cluster: Send + Sync {
    /// Where it is, and its ways.
    fn known(&self) -> &Arc<Known>;

    /// What this machine lacks for it; nothing when all is there.
    fn lacks(&self) -> BoxFuture<'_, Option<String>>;

    /// What makes it, in the order in which it is shown.
    ///
    /// # Errors
    /// When a program is missing.
    fn steps(&self) -> Result<Vec<Box<dyn Planned>>>;

    /// Which of its steps makes one of the [`PARTS`] that another step needs.
    fn step_of(&self, need: Id) -> Id;

    /// The step that brings these images onto its nodes, where they are not pulled.
    fn images(&self, id: Id, recipes: Vec<(String, Recipe)>) -> Box<dyn Planned>;

    /// Whether there is anything of it here.
    fn exists(&self) -> bool;

    /// How its parts stand.
    fn rows(&self) -> BoxFuture<'_, Result<Vec<Row>>>;

    /// Stops it; what it keeps stays. Says whether anything ran.
    fn stop<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<bool>>;

    /// What `delete` would remove.
    fn belongings(&self) -> BoxFuture<'_, Result<Vec<String>>>;

    /// Removes what is ours of it, with all that it keeps.
    fn delete<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<()>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_stands_for_all_parts_and_for_nothing_else() {
        assert_eq!(whole("dns"), WHOLE);
        assert_eq!(whole("base"), "base");
        assert!(!PARTS.contains(&WHOLE));
    }
}
