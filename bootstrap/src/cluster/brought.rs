//! The step that brings images that are made here to nodes that are not processes of ours: by k3d, by
//! whoever has the nodes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::cluster::host::image::{self, Recipe};
use crate::cluster::k3d::cli::K3d;
use crate::cluster::known::Known;
use crate::cluster::{nodes, objects, ready};
use crate::event::{About, Level};
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::wait::Look;

/// How they get there.
pub enum How {
    /// k3d carries them in.
    K3d,
    /// Whoever has the nodes carries them in.
    ByHand,
}

/// The step.
pub struct Brought {
    /// Of this cluster.
    pub known: Arc<Known>,
    /// The step's name.
    pub id: Id,
    /// Their names and what goes into them.
    pub recipes: Vec<(String, Recipe)>,
    /// How they get there.
    pub how: How,
}

/// What somebody has to do who has the nodes. Pure.
fn by_hand(missing: &[String], archive: &std::path::Path) -> String {
    format!(
        "the nodes lack images: {}. They are all in {}: bring them onto each node (ctr -n k8s.io images import FILE) and run this again, or name a registry that they pull from (--image-registry), to which they are then pushed",
        missing.join(", "),
        archive.display()
    )
}

impl Brought {
    async fn missing(&self) -> Result<Vec<String>> {
        let client = objects::client(&self.known.place.kubeconfig()).await?;
        let all = nodes::list(&client).await.map_err(|why| anyhow!(why))?;
        let wanted: Vec<String> = self.recipes.iter().map(|(name, _)| name.clone()).collect();
        Ok(nodes::lacking(&all, &wanted))
    }
}

impl Step for Brought {
    type Seen = Vec<String>;

    fn id(&self) -> Id {
        self.id
    }

    fn needs(&self) -> &'static [Id] {
        &["containerd"]
    }

    fn limit(&self) -> Duration {
        // As long as k3d's own import may take, and a look at the end of it.
        Duration::from_secs(660)
    }

    async fn observe(&self) -> Result<Vec<String>> {
        self.missing().await
    }

    fn diff(&self, missing: &Vec<String>) -> Vec<Change> {
        let bring = |name: &String| Change::new(format!("bring the image {name} to the nodes"));
        missing.iter().map(bring).collect()
    }

    async fn apply(&self, missing: Vec<String>, about: About<'_>) -> Result<()> {
        let all = self.recipes.clone();
        let archive = image::archive(&self.known.place, self.id, all).await?;
        match &self.how {
            How::ByHand => bail!("{}", by_hand(&missing, &archive)),
            How::K3d => {
                about.say(Level::Doing, "bring them into the cluster");
                let k3d = K3d::find(&self.known.programs)?;
                k3d.import(&archive, &self.known.place.name()).await?;
                crate::store::remove(&archive).map(drop)
            }
        }
    }

    /// Nodes name what they have every few seconds: a run before that would bring it once more.
    async fn ready(&self) -> Look<(), String> {
        ready::patient(self.missing().await.map(|missing| match missing.first() {
            None => Look::Done(()),
            Some(image) => Look::NotYet(format!("the nodes do not name {image} yet")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::by_hand;

    #[test]
    fn what_is_to_be_done_by_hand_is_said() {
        let said = by_hand(&["comind.local/git:1".to_owned()], "/a/first.tar".as_ref());
        insta::assert_snapshot!(said, @"the nodes lack images: comind.local/git:1. They are all in /a/first.tar: bring them onto each node (ctr -n k8s.io images import FILE) and run this again, or name a registry that they pull from (--image-registry), to which they are then pushed");
    }
}
