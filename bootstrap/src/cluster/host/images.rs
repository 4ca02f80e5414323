//! The step that makes images on this machine and brings them into the cluster's own store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::host::command::run;
use crate::cluster::host::image::{self, Recipe};
use crate::cluster::host::import;
use crate::cluster::host::steps::Known;
use crate::event::{About, Level};
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};

/// Images that are made here, in the cluster's own store.
pub struct Images {
    /// Of this cluster.
    pub known: Arc<Known>,
    /// The step's name.
    pub id: Id,
    /// Their names and what goes into them.
    pub recipes: Vec<(String, Recipe)>,
}

impl Images {
    async fn there(&self) -> Result<String> {
        let socket = self.known.place.runtime_socket().display().to_string();
        run("ctr", ["-a", &socket, "-n", "k8s.io", "images", "ls", "-q"]).await
    }
}

impl Step for Images {
    type Seen = Vec<String>;

    fn id(&self) -> Id {
        self.id
    }

    fn needs(&self) -> &'static [Id] {
        &["containerd"]
    }

    fn limit(&self) -> Duration {
        import::LIMIT
    }

    async fn observe(&self) -> Result<Vec<String>> {
        let there = self.there().await?;
        let there: Vec<&str> = there.lines().collect();
        let missing = self.recipes.iter().map(|(name, _)| name);
        Ok(missing
            .filter(|name| !there.contains(&name.as_str()))
            .cloned()
            .collect())
    }

    fn diff(&self, missing: &Vec<String>) -> Vec<Change> {
        missing
            .iter()
            .map(|name| Change::new(format!("make the image {name}")))
            .collect()
    }

    async fn apply(&self, missing: Vec<String>, about: About<'_>) -> Result<()> {
        let wanted: Vec<(String, Recipe)> = self
            .recipes
            .iter()
            .filter(|(name, _)| missing.contains(name))
            .cloned()
            .collect();
        about.say(Level::Doing, "bring them into the cluster");
        let place = &self.known.place;
        let dir = image::folder(place)?;
        let make = move |to| image::write(&wanted, &dir, to);
        import::import(&place.runtime_socket(), about, make).await
    }
}
