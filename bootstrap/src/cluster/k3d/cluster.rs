//! A cluster by k3d as a whole: whether there can be one, how it stands, and its end.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bollard::Docker;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::cluster::brought::{Brought, How};
use crate::cluster::host::image::Recipe;
use crate::cluster::k3d::cli::K3d;
use crate::cluster::k3d::config::Wanted;
use crate::cluster::k3d::step::{Made, note};
use crate::cluster::k3d::{containers, network};
use crate::cluster::kind::{Cluster, Row, whole};
use crate::cluster::known::Known;
use crate::cluster::{kubeconfig, wires};
use crate::event::{Level, Report, say};
use crate::plan::graph::Id;
use crate::plan::step::Planned;
use crate::programs::Programs;
use crate::services::docker::{engine, images};
use crate::store;

/// One of them.
pub struct K3dCluster {
    /// Where our files about it are, and its ways.
    pub known: Arc<Known>,
    /// What is wanted of it.
    pub wanted: Wanted,
}

/// Whether k3d can make a cluster of this image here, and why.
///
/// # Errors
/// With what lacks.
pub async fn can_make(programs: &Programs, image: &str) -> Result<String, String> {
    let words = |error: anyhow::Error| format!("{error:#}");
    let docker = engine::connect().await.map_err(words)?;
    let k3d = K3d::find(programs).map_err(|error| format!("Docker answers, but {error:#}"))?;
    let pulled = or_pulled(&docker, image).await?;
    let tools = k3d.tools_image().await.map_err(words)?;
    or_pulled(&docker, &tools).await?;
    Ok(match pulled {
        false => format!("Docker answers, k3d is here, and so is {image}"),
        true => format!("Docker answers, k3d is here, and {image} can be pulled"),
    })
}

/// Whether an image that is needed has to be pulled.
async fn or_pulled(docker: &Docker, image: &str) -> Result<bool, String> {
    let there = images::present(docker, image).await;
    if there.map_err(|error| format!("{error:#}"))? {
        return Ok(false);
    }
    let can = images::pullable(docker, image).await;
    can.map(|()| true).map_err(|why| {
        format!(
            "Docker answers and k3d is here, but {image} is neither here nor to be pulled: {why}"
        )
    })
}

impl K3dCluster {
    fn k3d(&self) -> Result<K3d> {
        K3d::find(&self.known.programs)
    }

    fn name(&self) -> &str {
        &self.wanted.name
    }

    async fn lacking(&self) -> Option<String> {
        if let Err(error) = engine::connect().await {
            return Some(format!("{error:#}"));
        }
        self.k3d().err().map(|error| format!("{error:#}"))
    }

    async fn standing(&self) -> Result<Vec<Row>> {
        let listed = self.k3d()?.look(self.name()).await?;
        let absent = || vec![Row::new(self.name(), "absent", None)];
        Ok(listed.map_or_else(absent, |listed| listed.rows()))
    }

    /// Ours is stopped and removed; what is not is none of our business.
    async fn ours(&self) -> Result<Option<(K3d, bool)>> {
        let k3d = self.k3d()?;
        let Some(listed) = k3d.look(self.name()).await? else {
            return Ok(None);
        };
        let ours = containers::ours(&listed.name).await?;
        Ok(ours.then(|| (k3d, listed.runs())))
    }

    async fn stopped(&self, report: &dyn Report) -> Result<bool> {
        let mut ran = wires::stop(&self.known.place).await?;
        if let Some((k3d, true)) = self.ours().await? {
            k3d.stop(self.name()).await?;
            say(
                report,
                Level::Changed,
                format!("stopped the cluster {}", self.name()),
            );
            ran = true;
        }
        Ok(ran)
    }

    async fn owned(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        if self.ours().await?.is_some() {
            all.push(format!(
                "the k3d cluster {} (objects, containers, volumes)",
                self.name()
            ));
        }
        if network::look(self.known.place.env).await? == network::Seen::Ours {
            all.push(format!("the Docker network {}", self.name()));
        }
        let dir = self.known.place.dir();
        if dir.exists() {
            all.push(format!("{} (what is known of it)", dir.display()));
        }
        Ok(all)
    }

    async fn deleted(&self, report: &dyn Report) -> Result<()> {
        let place = &self.known.place;
        wires::stop(place).await?;
        wires::remove(place)?;
        if let Some((k3d, _)) = self.ours().await? {
            k3d.delete(self.name()).await?;
        }
        if network::look(place.env).await? == network::Seen::Ours {
            containers::remove_tools(self.name()).await?;
        }
        if kubeconfig::remove_from(&note(&self.known), self.name())? {
            let text = format!("took the context {} out of the kubeconfig", self.name());
            say(report, Level::Changed, text);
        }
        network::remove(place.env).await?;
        store::remove(&place.dir()).context("the cluster is gone, but its folder is not")?;
        say(
            report,
            Level::Changed,
            format!("removed the cluster {}", self.name()),
        );
        Ok(())
    }
}

impl Cluster for K3dCluster {
    fn known(&self) -> &Arc<Known> {
        &self.known
    }

    fn lacks(&self) -> BoxFuture<'_, Option<String>> {
        self.lacking().boxed()
    }

    fn steps(&self) -> Result<Vec<Box<dyn Planned>>> {
        Ok(vec![Box::new(Made {
            known: self.known.clone(),
            k3d: self.k3d()?,
            wanted: self.wanted.clone(),
        })])
    }

    fn step_of(&self, need: Id) -> Id {
        whole(need)
    }

    fn images(&self, id: Id, recipes: Vec<(String, Recipe)>) -> Box<dyn Planned> {
        Box::new(Brought {
            known: self.known.clone(),
            id,
            recipes,
            how: How::K3d,
        })
    }

    fn exists(&self) -> bool {
        self.known.place.dir().exists()
    }

    fn rows(&self) -> BoxFuture<'_, Result<Vec<Row>>> {
        self.standing().boxed()
    }

    fn stop<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<bool>> {
        self.stopped(report).boxed()
    }

    fn belongings(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.owned().boxed()
    }

    fn delete<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<()>> {
        self.deleted(report).boxed()
    }
}
