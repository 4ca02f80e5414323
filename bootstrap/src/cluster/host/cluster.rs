//! The cluster as a whole: how it stands, and its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::future::try_join_all;

use crate::cluster::host::command::run;
use crate::cluster::host::components::Component;
use crate::cluster::host::groups;
use crate::cluster::host::image::Recipe;
use crate::cluster::host::images::Images;
use crate::cluster::host::leftovers;
use crate::cluster::host::network;
use crate::cluster::host::place::Place;
use crate::cluster::host::steps::{self, Known};
use crate::cluster::kind::{Cluster, Row};
use crate::cluster::{kubeconfig, wires};
use crate::event::{About, Level, Report, say};
use crate::plan::graph::Id;
use crate::plan::step::Planned;
use crate::store;
use crate::supervise::control;
use crate::supervise::state::Phase;

/// How long containers may take to end when they are asked to.
const GRACE: Duration = Duration::from_secs(10);

/// A cluster of plain processes.
pub struct HostCluster {
    /// Where it is and what it is made with.
    pub known: Arc<Known>,
}

impl HostCluster {
    fn place(&self) -> &Place {
        &self.known.place
    }

    fn standing(&self) -> Result<Vec<Row>> {
        let row = |component: Component| {
            let run_dir = self.run_dir(component);
            let standing = control::look(&run_dir)?;
            let state = match standing.as_ref().map(|one| one.phase) {
                None => "absent",
                Some(Phase::Running) => "running",
                Some(Phase::Waiting) => "restarting",
                Some(Phase::Stopped) => "stopped",
            };
            Ok(Row {
                pid: standing.as_ref().and_then(|one| one.pid),
                since: standing.as_ref().and_then(|one| one.since),
                restarts: standing.as_ref().map_or(0, |one| one.restarts),
                ..Row::new(component.name(), state, standing.and_then(|one| one.reason))
            })
        };
        Component::ALL.into_iter().map(row).collect()
    }

    fn run_dir(&self, component: Component) -> PathBuf {
        let place = self.place();
        place.home.run(&place.unit(component.name()))
    }

    async fn stopped(&self, report: &dyn Report) -> Result<bool> {
        let about = |component: Component| About::new(component.name(), report);
        let stop = async |component: Component| {
            let ran = control::stop(&self.run_dir(component)).await?;
            if ran {
                about(component).say(Level::Changed, "stopped");
            }
            Ok::<_, anyhow::Error>(ran)
        };
        wires::stop(self.place()).await?;
        // First whoever would start again what ends now.
        let first = [
            Component::Kubelet,
            Component::KubeProxy,
            Component::Scheduler,
            Component::ControllerManager,
        ];
        let mut ran = try_join_all(first.map(stop)).await?.contains(&true);
        leftovers::end_containers(self.place(), GRACE).await?;
        for component in [Component::Containerd, Component::ApiServer, Component::Etcd] {
            ran |= stop(component).await?;
        }
        leftovers::unmount(self.place())?;
        Ok(ran)
    }

    fn owned(&self) -> Vec<String> {
        let place = self.place();
        let mut all = Vec::new();
        if place.dir().exists() {
            all.push(format!(
                "{} (objects, containers, volumes)",
                place.dir().display()
            ));
        }
        if place.dir().exists() && place.namespace().exists() {
            all.push(format!("the network namespace {}", place.name()));
        }
        all
    }

    async fn deleted(&self, report: &dyn Report) -> Result<()> {
        self.stopped(report).await?;
        let place = self.place();
        if kubeconfig::remove_from(&steps::note(place), &place.name())? {
            say(
                report,
                Level::Changed,
                format!("took the context {} out of the kubeconfig", place.name()),
            );
        }
        network::remove(place).await?;
        groups::remove(place)?;
        wires::remove(place)?;
        for component in Component::ALL {
            wires::forget(place, &self.run_dir(component))?;
        }
        store::remove(&place.dir()).with_context(|| {
            format!(
                "cannot remove {}; something in there may still be mounted (findmnt)",
                place.dir().display()
            )
        })?;
        say(
            report,
            Level::Changed,
            format!("removed the cluster {}", place.name()),
        );
        Ok(())
    }

    async fn lacking(&self) -> Option<String> {
        if !crate::home::is_root() {
            return Some(
                "a cluster of plain processes needs root: it makes networks and mounts".to_owned(),
            );
        }
        if let Err(error) = run("ip", ["-V"]).await {
            return Some(format!("{error:#}"));
        }
        None
    }
}

impl Cluster for HostCluster {
    fn known(&self) -> &Arc<Known> {
        &self.known
    }

    fn lacks(&self) -> BoxFuture<'_, Option<String>> {
        self.lacking().boxed()
    }

    fn steps(&self) -> Result<Vec<Box<dyn Planned>>> {
        steps::all(&self.known)
    }

    fn step_of(&self, need: Id) -> Id {
        need
    }

    fn images(&self, id: Id, recipes: Vec<(String, Recipe)>) -> Box<dyn Planned> {
        let known = self.known.clone();
        Box::new(Images { known, id, recipes })
    }

    fn exists(&self) -> bool {
        self.place().dir().exists()
    }

    fn rows(&self) -> BoxFuture<'_, Result<Vec<Row>>> {
        std::future::ready(self.standing()).boxed()
    }

    fn stop<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<bool>> {
        self.stopped(report).boxed()
    }

    fn belongings(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        std::future::ready(Ok(self.owned())).boxed()
    }

    fn delete<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<()>> {
        self.deleted(report).boxed()
    }
}
