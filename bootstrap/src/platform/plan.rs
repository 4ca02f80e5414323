//! The whole platform as one plan: services, cluster, and what every namespace has.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use crate::cluster::host::steps::{self, Known};
use crate::plan::graph::Graph;
use crate::plan::step::Planned;
use crate::platform::base::Base;
use crate::platform::gitops::GitOps;
use crate::platform::services::ServiceStep;
use crate::platform::{argocd, git};
use crate::services::session::Session;

/// The steps, in the order in which they are shown.
///
/// # Errors
/// When a program is missing.
pub fn steps(known: &Arc<Known>, session: &Arc<Session>) -> Result<Vec<Box<dyn Planned>>> {
    let mut all: Vec<Box<dyn Planned>> = Vec::new();
    for service in session.settings.wanted() {
        let session = session.clone();
        all.push(Box::new(ServiceStep { session, service }));
    }
    all.extend(steps::all(known)?);
    all.push(Box::new(Base::new(
        known.place.env,
        known.place.kubeconfig(),
    )));
    all.extend(argocd::steps(known)?);
    all.extend(git::steps(known)?);
    all.push(Box::new(GitOps::new(known, &argocd::redis_image(known)?)?));
    Ok(all)
}

/// What comes when.
///
/// # Errors
/// When the steps do not fit together, which a test would have told.
pub fn graph(steps: &[Box<dyn Planned>]) -> Result<Graph> {
    Graph::new(steps.iter().map(|step| (step.id(), step.needs())))
}

/// Where runs are noted.
pub fn journal(known: &Known) -> PathBuf {
    let name = format!("bootstrap-{}.jsonl", known.place.env.name());
    known.place.home.path().join(name)
}
