//! The whole platform as one plan: services, cluster, and what every namespace has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::applied::Applied;
use crate::cluster::host::image::{Base, Recipe};
use crate::cluster::host::steps::{BUILT, Known};
use crate::cluster::kind::Cluster;
use crate::cluster::registry::address::Address;
use crate::cluster::registry::packed::Packed;
use crate::cluster::registry::step::Pushed;
use crate::plan::step::Planned;
use crate::platform::gitops::GitOps;
use crate::platform::sealed_secrets::SealedSecrets;
use crate::platform::secrets::Logins;
use crate::platform::services::ServiceStep;
use crate::platform::source::Source;
use crate::platform::watching::Watching;
use crate::platform::wires::Wires;
use crate::platform::{argocd, git, images, rooms};
use crate::services::session::Session;

/// The steps, in the order in which they are shown; `own` is the program that runs in the cluster too.
/// What they need of the cluster is made by its own steps ([`Cluster::step_of`]).
///
/// # Errors
/// When a program is missing.
pub fn steps(
    cluster: &dyn Cluster,
    session: &Arc<Session>,
    source: &Source,
    own: PathBuf,
) -> Result<Vec<Box<dyn Planned>>> {
    let known = cluster.known();
    let mut all: Vec<Box<dyn Planned>> = Vec::new();
    for service in session.settings.wanted() {
        let session = session.clone();
        all.push(Box::new(ServiceStep { session, service }));
    }
    all.extend(cluster.steps()?);
    all.push(Box::new(Applied {
        id: "base",
        needs: &["apiserver", "controller-manager"],
        limit: Duration::from_secs(60),
        kubeconfig: known.place.kubeconfig(),
        wanted: rooms::objects(known.place.env),
        works: Vec::new(),
    }));
    let base = Base::read(known.programs.file("rootfs/image-base.tar", BUILT)?)?;
    let (first, then, images) = images::recipes(&known.programs, &base, own)?;
    let mut pulled = BTreeMap::new();
    for (id, recipes) in [("first-images", first), ("images-of-services", then)] {
        all.push(match &known.ways.registry {
            None => cluster.images(id, recipes),
            Some(address) => {
                let images = packed(recipes, address, &mut pulled)?;
                let (known, address) = (known.clone(), address.clone());
                Box::new(Pushed {
                    known,
                    id,
                    address,
                    images,
                })
            }
        });
    }
    let images =
        images.renamed(|name| pulled.get(name).cloned().unwrap_or_else(|| name.to_owned()));
    all.push(argocd::step(known, &images)?);
    all.push(match source {
        Source::Own => git::step(known, &images.git)?,
        Source::Given(_, login) => Box::new(Applied {
            id: "git",
            needs: &["base"],
            limit: Duration::from_secs(30),
            kubeconfig: known.place.kubeconfig(),
            wanted: vec![source.secret(login.as_ref())],
            works: Vec::new(),
        }),
    });
    all.push(Box::new(SealedSecrets::new(known, &images.sealed_secrets)));
    all.push(Box::new(Logins::new(known, &session.settings)));
    all.push(Box::new(Wires::new(known, &session.settings)?));
    all.push(Box::new(GitOps::new(
        known,
        source,
        &images,
        &session.settings,
    )?));
    all.push(Box::new(Watching(known.clone())));
    Ok(all)
}

/// What is pushed, and under which name what is made here is then pulled.
fn packed(
    recipes: images::Recipes,
    address: &Address,
    pulled: &mut BTreeMap<String, String>,
) -> Result<Vec<Packed>> {
    let pack = |(name, recipe): (String, Recipe)| {
        let packed = Packed::of(recipe, |digest| address.image(&name, digest))?;
        pulled.insert(name, packed.name.clone());
        Ok(packed)
    };
    recipes.into_iter().map(pack).collect()
}

/// Where runs are noted.
pub fn journal(known: &Known) -> PathBuf {
    let name = format!("bootstrap-{}.jsonl", known.place.env.name());
    known.place.home.path().join(name)
}
