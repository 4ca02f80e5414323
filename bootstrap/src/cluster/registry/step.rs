//! The step that pushes images that are made here to where nodes pull them from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cluster::known::Known;
use crate::cluster::registry::address::Address;
use crate::cluster::registry::client::Client;
use crate::cluster::registry::packed::Packed;
use crate::event::{About, Level};
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::store;

/// The step.
pub struct Pushed {
    /// Of this cluster.
    pub known: Arc<Known>,
    /// The step's name.
    pub id: Id,
    /// Where they go.
    pub address: Address,
    /// The images.
    pub images: Vec<Packed>,
}

impl Step for Pushed {
    /// The names of those that it lacks.
    type Seen = Vec<String>;

    fn id(&self) -> Id {
        self.id
    }

    /// A slow line to it is no reason to begin anew.
    fn limit(&self) -> Duration {
        Duration::from_secs(1800)
    }

    async fn observe(&self) -> Result<Vec<String>> {
        let client = Client::new(&self.address).await?;
        let mut missing = Vec::new();
        for image in &self.images {
            if !client.has(&image.name).await? {
                missing.push(image.name.clone());
            }
        }
        Ok(missing)
    }

    fn diff(&self, missing: &Vec<String>) -> Vec<Change> {
        let push = |name: &String| Change::new(format!("push the image {name}"));
        missing.iter().map(push).collect()
    }

    async fn apply(&self, missing: Vec<String>, about: About<'_>) -> Result<()> {
        let mut client = Client::new(&self.address).await?;
        let wanted = self.images.iter();
        for image in wanted.filter(|image| missing.contains(&image.name)) {
            about.say(
                Level::Doing,
                format!("push {}: {}", image.name, size(image)),
            );
            let own = self.known.place.data("images");
            let own = own.join(format!("{}-{}.layer", self.id, image.recipe.name));
            written(image, &own).await?;
            let pushed = client.push(image, &own).await;
            store::remove(&own)?;
            pushed?;
        }
        Ok(())
    }
}

/// How much it is, if the registry has nothing of it.
fn size(image: &Packed) -> String {
    let all: u64 = image.layers.iter().map(|layer| layer.size).sum();
    format!("{} MB at most", all.div_ceil(1_000_000))
}

/// The image's own layer as a file, off the threads that wait.
async fn written(image: &Packed, to: &Path) -> Result<()> {
    let (recipe, to) = (image.recipe.clone(), to.to_owned());
    let write = move || -> Result<()> {
        let folder = to.parent().context("a layer lies in a folder")?;
        std::fs::create_dir_all(folder)?;
        recipe.layer(std::io::BufWriter::new(std::fs::File::create(&to)?))
    };
    let done = tokio::task::spawn_blocking(write).await?;
    done.with_context(|| format!("cannot write the layer of {}", image.name))
}
