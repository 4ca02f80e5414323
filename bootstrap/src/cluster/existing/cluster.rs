//! A cluster that is there already, as a whole. It is never started, stopped or removed by us.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::cluster::brought::{Brought, How};
use crate::cluster::existing::step::{self, Looked};
use crate::cluster::host::image::Recipe;
use crate::cluster::kind::{Cluster, Row, whole};
use crate::cluster::known::Known;
use crate::cluster::{nodes, objects, wires};
use crate::event::{Level, Report, say};
use crate::plan::graph::Id;
use crate::plan::step::Planned;
use crate::store;

/// One of them.
pub struct ExistingCluster {
    /// Where our files about it are, and its ways.
    pub known: Arc<Known>,
    /// Where its context is.
    pub files: Vec<PathBuf>,
    /// Objects that have to be ours where they are.
    pub places: Vec<Value>,
}

impl ExistingCluster {
    async fn standing(&self) -> Result<Vec<Row>> {
        let config = step::config(&self.files, &self.known.ways.context)?;
        let client = objects::client_by(&config).await?;
        let all = nodes::list(&client).await;
        Ok(nodes::rows(&all.map_err(|why| {
            anyhow!("the cluster does not answer: {why}")
        })?))
    }

    async fn stopped(&self, report: &dyn Report) -> Result<bool> {
        let ran = wires::stop(&self.known.place).await?;
        let text = "the cluster itself is not ours: it runs on";
        say(report, Level::Note, text);
        Ok(ran)
    }

    fn owned(&self) -> Vec<String> {
        let dir = self.known.place.dir();
        let text = || format!("{} (what is known of the cluster)", dir.display());
        dir.exists().then(text).into_iter().collect()
    }

    async fn deleted(&self, report: &dyn Report) -> Result<()> {
        wires::stop(&self.known.place).await?;
        wires::remove(&self.known.place)?;
        store::remove(&self.known.place.dir())?;
        let context = &self.known.ways.context;
        let text = format!("forgot the cluster of context {context}; it runs on");
        say(report, Level::Changed, text);
        Ok(())
    }
}

impl Cluster for ExistingCluster {
    fn known(&self) -> &Arc<Known> {
        &self.known
    }

    fn lacks(&self) -> BoxFuture<'_, Option<String>> {
        std::future::ready(None).boxed()
    }

    fn steps(&self) -> Result<Vec<Box<dyn Planned>>> {
        Ok(vec![Box::new(Looked {
            known: self.known.clone(),
            files: self.files.clone(),
            places: self.places.clone(),
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
            how: How::ByHand,
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
        std::future::ready(Ok(self.owned())).boxed()
    }

    fn delete<'a>(&'a self, report: &'a dyn Report) -> BoxFuture<'a, Result<()>> {
        self.deleted(report).boxed()
    }
}
