//! The step that runs the controller of Sealed Secrets with a key that was made here before.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::host::steps::Known;
use crate::cluster::objects;
use crate::cluster::ready::{self, Workload};
use crate::cluster::ways::Ways;
use crate::event::{About, now};
use crate::fingerprint;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::platform::sealing_key::Pair;
use crate::wait::Look;

/// Where it runs.
const NAMESPACE: &str = "platform";
/// The annotation of its pod that tells one key from another.
const KEY: &str = "comind.pro/key";

/// The step.
pub struct SealedSecrets {
    known: Arc<Known>,
    image: String,
}

/// What there is.
pub struct Seen {
    pair: Option<Pair>,
    objects: Vec<objects::Seen>,
}

impl SealedSecrets {
    /// On this image.
    pub fn new(known: &Arc<Known>, image: &str) -> Self {
        Self {
            known: known.clone(),
            image: image.to_owned(),
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.known.place.kubeconfig()
    }

    async fn look(&self, pair: Option<Pair>) -> Result<Seen> {
        let client = objects::client(&self.kubeconfig()).await?;
        let wanted = wanted(&self.known.ways, &self.image, pair.as_ref())?;
        let objects = objects::look(&client, &wanted).await?;
        Ok(Seen { pair, objects })
    }
}

/// What it has of the whole cluster and of namespaces, as it would be removed: without what needs a key.
///
/// # Errors
/// When the manifest is wrong.
pub fn manifest(ways: &Ways) -> Result<Vec<Value>> {
    wanted(ways, "", None)
}

/// The objects; the key comes first, since the controller reads it when it starts, and another one
/// starts it anew. Without one there is only what does not need it.
fn wanted(ways: &Ways, image: &str, pair: Option<&Pair>) -> Result<Vec<Value>> {
    let text = ways.adapted(include_str!("../../manifests/sealed-secrets.yaml"));
    let text = text.replace("@IMAGE@", image);
    let mut all = objects::parse(&objects::with_edition(&text))?;
    let Some(pair) = pair else {
        all.retain(|one| one["kind"] != "Deployment");
        return Ok(all);
    };
    let key = fingerprint::of_bytes(pair.certificate.as_bytes());
    for one in all.iter_mut().filter(|one| one["kind"] == "Deployment") {
        one["spec"]["template"]["metadata"]["annotations"][KEY] = key.clone().into();
    }
    all.insert(0, pair.secret(NAMESPACE));
    Ok(all)
}

impl Step for SealedSecrets {
    type Seen = Seen;

    fn id(&self) -> Id {
        "sealed-secrets"
    }

    fn needs(&self) -> &'static [Id] {
        &["base", "first-images", "dns"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(120)
    }

    async fn observe(&self) -> Result<Seen> {
        let place = &self.known.place;
        self.look(Pair::look(&place.home, place.env)?).await
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let mut changes = objects::diff(&seen.objects);
        if seen.pair.is_none() {
            changes.insert(0, Change::new("make a key to seal secrets with"));
        }
        changes
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let place = &self.known.place;
        let seen = match seen.pair {
            Some(_) => seen,
            None => {
                let pair = tokio::task::spawn_blocking(|| Pair::make(now())).await??;
                pair.keep(&place.home, place.env)?;
                self.look(Some(pair)).await?
            }
        };
        let client = objects::client(&self.kubeconfig()).await?;
        objects::apply(&client, &seen.objects).await
    }

    async fn ready(&self) -> Look<(), String> {
        let works = [Workload::Deployment(NAMESPACE, "sealed-secrets")];
        ready::all(&self.kubeconfig(), &works).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::env::Env;
    use crate::secret::Secret;

    #[test]
    fn it_starts_with_its_key_and_anew_with_another() -> Result<()> {
        let pair = |certificate: &str| Pair {
            key: Secret::new("k"),
            certificate: certificate.to_owned(),
        };
        let key = |all: &[Value]| {
            let found = all.iter().find(|one| one["kind"] == "Deployment");
            found.map(|one| one["spec"]["template"]["metadata"]["annotations"][KEY].clone())
        };
        assert_eq!(key(&wanted(&Ways::host(Env::Dev), "i", None)?), None);
        let one = wanted(&Ways::host(Env::Dev), "i", Some(&pair("a")))?;
        assert_eq!(one[0]["kind"], "Secret");
        let other = wanted(&Ways::host(Env::Dev), "i", Some(&pair("b")))?;
        assert_ne!(key(&one), key(&other));
        assert!(key(&one).is_some_and(|key| key.as_str().is_some_and(|key| key.len() == 16)));
        Ok(())
    }
}
