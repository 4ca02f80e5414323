//! The cluster as a whole: its plan, its end, and how it stands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::Serialize;

use crate::cluster::host::command::run;
use crate::cluster::host::components::Component;
use crate::cluster::host::groups;
use crate::cluster::host::leftovers;
use crate::cluster::host::network;
use crate::cluster::host::place::Place;
use crate::cluster::host::steps::{self, Known};
use crate::cluster::kubeconfig;
use crate::event::{About, Level, Report, say};
use crate::plan::graph::{Graph, Part};
use crate::plan::step::{Planned, graph};
use crate::store;
use crate::supervise::control;
use crate::supervise::logs;
use crate::supervise::state::Phase;

/// How long containers may take to end when they are asked to.
const GRACE: Duration = Duration::from_secs(10);

/// How one of the programs stands.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub component: &'static str,
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

/// A cluster of plain processes.
pub struct HostCluster {
    /// Where it is and what it is made with.
    pub known: Arc<Known>,
}

impl HostCluster {
    /// What has to be so that it runs.
    ///
    /// # Errors
    /// When a program is missing.
    pub fn plan(&self, part: &Part) -> Result<(Graph, Vec<Box<dyn Planned>>)> {
        let steps = steps::all(&self.known)?;
        Ok((graph(&steps)?.part(part)?, steps))
    }

    /// Where runs are noted.
    pub fn journal(&self) -> PathBuf {
        self.place().data("journal.jsonl")
    }

    fn place(&self) -> &Place {
        &self.known.place
    }

    /// Whether there is anything of it.
    pub fn exists(&self) -> bool {
        self.place().dir().exists()
    }

    /// How its programs stand.
    ///
    /// # Errors
    /// When what is noted of them cannot be read.
    pub fn rows(&self) -> Result<Vec<Row>> {
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
                component: component.name(),
                state,
                pid: standing.as_ref().and_then(|one| one.pid),
                since: standing.as_ref().and_then(|one| one.since),
                restarts: standing.as_ref().map_or(0, |one| one.restarts),
                reason: standing.and_then(|one| one.reason),
            })
        };
        Component::ALL.into_iter().map(row).collect()
    }

    fn run_dir(&self, component: Component) -> PathBuf {
        let place = self.place();
        place.home.run(&place.unit(component.name()))
    }

    /// Stops it; what it keeps stays. Says whether anything ran.
    ///
    /// # Errors
    /// With what does not end.
    pub async fn stop(&self, report: &dyn Report) -> Result<bool> {
        let about = |component: Component| About::new(component.name(), report);
        let stop = async |component: Component| {
            let ran = control::stop(&self.run_dir(component)).await?;
            if ran {
                about(component).say(Level::Changed, "stopped");
            }
            Ok::<_, anyhow::Error>(ran)
        };
        for wire in self.place().wires() {
            control::stop(&wire).await?;
        }
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

    /// What `delete` would remove.
    pub fn belongings(&self) -> Vec<String> {
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

    /// Removes it with all that it keeps.
    ///
    /// # Errors
    /// With the first thing that cannot be removed.
    pub async fn delete(&self, report: &dyn Report) -> Result<()> {
        self.stop(report).await?;
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
        let units = Component::ALL.map(|component| self.run_dir(component));
        for run_dir in units.into_iter().chain(place.wires()) {
            store::remove(&run_dir)?;
            let unit = run_dir.file_name().unwrap_or_default();
            for log in logs::files(&place.home.log(&unit.to_string_lossy())) {
                store::remove(&log)?;
            }
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

    /// Its administrator's kubeconfig.
    ///
    /// # Errors
    /// When there is no cluster.
    pub fn kubeconfig(&self) -> Result<String> {
        match store::read(&self.place().kubeconfig())? {
            Some(text) => Ok(text),
            None => bail!(
                "there is no cluster {}; comind-ops cluster create makes it",
                self.place().name()
            ),
        }
    }

    /// What this machine lacks for it; nothing when all is there.
    pub async fn lacks(&self) -> Option<String> {
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
