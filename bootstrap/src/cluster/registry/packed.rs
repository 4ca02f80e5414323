//! An image as a registry keeps it: a manifest that names a configuration and layers by their digests.
//! The same recipe has the same digest on each machine and before anything is written, so whatever
//! is pulled by it is what was made here. Layers are not compressed: what a compressor writes changes
//! with its version. Format: OCI image specification 1.1. Must not know any registry.

use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::host::image::Recipe;
use crate::digest::{self, Seen};

/// What a manifest says that it is.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that is to be pulled.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What it is called where it is pulled from, with its digest.
    pub name: String,
    /// Its manifest, byte for byte.
    pub manifest: Vec<u8>,
    /// What its runtime is told.
    pub config: Vec<u8>,
    /// What it is made of.
    pub recipe: Recipe,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    /// Of its bytes, as `sha256:HEX`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// Where it lies; nowhere if it is the recipe's own and has to be written first.
    pub file: Option<PathBuf>,
}

impl Packed {
    /// Puts together what says what is in an image; `name` makes its name of its digest.
    ///
    /// # Errors
    /// When a file that goes into it cannot be read.
    pub fn of(recipe: Recipe, name: impl FnOnce(&str) -> String) -> Result<Self> {
        let mut layers = Vec::new();
        if let Some(base) = &recipe.base {
            let size = std::fs::metadata(&base.archive);
            let size = size.with_context(|| format!("cannot read {}", base.archive.display()))?;
            layers.push(Layer {
                digest: format!("sha256:{}", base.digest),
                size: size.len(),
                file: Some(base.archive.clone()),
            });
        }
        layers.push(own(&recipe).with_context(|| format!("cannot make {}", recipe.name))?);
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = recipe.config(&digests)?;
        let manifest = manifest(&config, &layers)?;
        Ok(Self {
            name: name(&digest(&manifest)),
            manifest,
            config,
            recipe,
            layers,
        })
    }

    /// The digest of what its runtime is told.
    pub fn config_digest(&self) -> String {
        digest(&self.config)
    }
}

fn manifest(config: &[u8], layers: &[Layer]) -> Result<Vec<u8>> {
    let blob = |kind: &str, digest: &str, size: u64| -> Value {
        json!({ "mediaType": kind, "digest": digest, "size": size })
    };
    let all = layers
        .iter()
        .map(|layer| blob(LAYER, &layer.digest, layer.size));
    Ok(serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIG, &digest(config), config.len() as u64),
        "layers": all.collect::<Vec<_>>(),
    }))?)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", digest::of_bytes(bytes))
}

/// The recipe's own layer, without writing it anywhere.
fn own(recipe: &Recipe) -> Result<Layer> {
    let mut seen = Seen::new(io::sink());
    recipe.layer(&mut seen)?;
    let (size, sum) = seen.finish();
    Ok(Layer {
        digest: format!("sha256:{sum}"),
        size,
        file: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Recipe {
        Recipe {
            name: "test",
            texts: vec![("etc/name", text.to_owned())],
            entrypoint: vec!["/bin/program"],
            user: "65532:65532",
            ..Recipe::default()
        }
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() -> Result<()> {
        let packed = Packed::of(recipe("one"), str::to_owned)?;
        assert_eq!(packed.name, digest(&packed.manifest));
        let mut layer = Vec::new();
        packed.recipe.layer(&mut layer)?;
        let [only] = &packed.layers[..] else {
            panic!("one layer: {:?}", packed.layers)
        };
        assert_eq!(
            (only.digest.clone(), only.size),
            (digest(&layer), layer.len() as u64)
        );
        let said: Value = serde_json::from_slice(&packed.manifest)?;
        assert_eq!(said["config"]["digest"], packed.config_digest());
        let config: Value = serde_json::from_slice(&packed.config)?;
        assert_eq!(config["rootfs"]["diff_ids"][0], only.digest);
        Ok(())
    }

    #[test]
    fn another_content_is_another_digest() -> Result<()> {
        let name = |text| Ok::<_, anyhow::Error>(Packed::of(recipe(text), str::to_owned)?.name);
        assert_eq!(name("one")?, name("one")?);
        assert_ne!(name("one")?, name("two")?);
        Ok(())
    }
}
