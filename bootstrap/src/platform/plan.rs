//! The whole platform as one plan: services, cluster, and what every namespace has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::applied::Applied;
use crate::cluster::host::image::Base;
use crate::cluster::host::steps::{self, BUILT, Known};
use crate::plan::step::Planned;
use crate::platform::argocd::RedisImage;
use crate::platform::gitops::GitOps;
use crate::platform::services::ServiceStep;
use crate::platform::{argocd, git, rooms};
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
    all.push(Box::new(Applied {
        id: "base",
        needs: &["apiserver", "controller-manager"],
        limit: Duration::from_secs(60),
        kubeconfig: known.place.kubeconfig(),
        wanted: rooms::objects(known.place.env),
        works: Vec::new(),
    }));
    let base = Base::read(known.programs.file("rootfs/image-base.tar", BUILT)?)?;
    let (argocd, RedisImage(redis)) = argocd::steps(known, &base)?;
    all.extend(argocd);
    all.extend(git::steps(known, &base)?);
    all.push(Box::new(GitOps::new(known, &redis)?));
    Ok(all)
}

/// Where runs are noted.
pub fn journal(known: &Known) -> PathBuf {
    let name = format!("bootstrap-{}.jsonl", known.place.env.name());
    known.place.home.path().join(name)
}
