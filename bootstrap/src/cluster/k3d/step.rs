//! The only step of a cluster by k3d: its network, its nodes, and its kubeconfig as ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cluster::k3d::cli::{K3d, Listed};
use crate::cluster::k3d::config::Wanted;
use crate::cluster::k3d::{containers, network};
use crate::cluster::kind::WHOLE;
use crate::cluster::known::Known;
use crate::cluster::ready::{self, Workload};
use crate::cluster::{kubeconfig, nodes, objects, why};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::store;
use crate::wait::Look;

/// What every k3s runs for others.
const WORKS: [Workload<'static>; 3] = [
    Workload::Deployment("kube-system", "coredns"),
    Workload::Deployment("kube-system", "local-path-provisioner"),
    Workload::Deployment("kube-system", "metrics-server"),
];

/// The step.
pub struct Made {
    /// Of this cluster.
    pub known: Arc<Known>,
    /// The program.
    pub k3d: K3d,
    /// What is wanted of it.
    pub wanted: Wanted,
}

/// What there is.
pub struct Seen {
    network: network::Seen,
    cluster: Option<Listed>,
    /// Its kubeconfig is where it should be, and says what the cluster says.
    known: bool,
}

/// Where it is noted what the cluster was made by.
pub fn config_file(known: &Known) -> PathBuf {
    known.place.config("k3d.yaml")
}

/// Where it is noted which file knows the cluster.
pub fn note(known: &Known) -> PathBuf {
    known.place.data("kubeconfig-of")
}

impl Made {
    /// Ours, out of what k3d gives.
    async fn kubeconfig(&self) -> Result<Value> {
        let name = &self.wanted.name;
        let given = kubeconfig::parse(&self.k3d.kubeconfig(name).await?)?;
        let context = &given["contexts"][0]["name"];
        kubeconfig::only(&given, context.as_str().unwrap_or_default(), name)
    }

    async fn is_known(&self) -> Result<bool> {
        let ours = self.kubeconfig().await?;
        let file = self.known.place.kubeconfig();
        if store::read(&file)?.as_deref() != Some(&text(&ours)) {
            return Ok(false);
        }
        let Some(users) = &self.known.users_kubeconfig else {
            return Ok(true);
        };
        let before = kubeconfig::all_of(std::slice::from_ref(users))?;
        Ok(kubeconfig::merged(&before, &ours, true)? == before)
    }

    /// k3d makes clusters and does not change them.
    fn check_same(&self) -> Result<()> {
        let Some(before) = store::read(&config_file(&self.known))? else {
            return Ok(());
        };
        if before != self.wanted.yaml()? {
            let name = &self.wanted.name;
            bail!(
                "the cluster {name} was made otherwise ({}), and k3d does not change clusters; ask for the same, or remove it first (comind-ops cluster delete)",
                config_file(&self.known).display()
            );
        }
        Ok(())
    }

    async fn look(&self) -> Result<Look<(), String>> {
        let client = objects::client(&self.known.place.kubeconfig()).await?;
        let all = nodes::list(&client).await;
        let all = all.map_err(|why| anyhow::anyhow!("the API does not answer: {why}"))?;
        if let Some(reason) = all.iter().find_map(why::node) {
            return Ok(Look::NotYet(reason));
        }
        ready::each(&client, &WORKS).await
    }
}

fn text(config: &Value) -> String {
    format!("{config:#}\n")
}

impl Step for Made {
    type Seen = Seen;

    fn id(&self) -> Id {
        WHOLE
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(660)
    }

    async fn observe(&self) -> Result<Seen> {
        let name = &self.wanted.name;
        let network = network::look(self.known.place.env).await?;
        if network == network::Seen::Stranger {
            bail!(
                "there is a Docker network {name} which is not ours; docker network rm {name}, or choose another ENV"
            );
        }
        let cluster = self.k3d.look(name).await?;
        if let Some(listed) = &cluster {
            if !containers::ours(&listed.name).await? {
                bail!(
                    "there is a k3d cluster {name} which is not ours; remove it, choose another ENV, or use it: --cluster existing --context k3d-{name}"
                );
            }
            self.check_same()?;
        }
        let runs = cluster.as_ref().is_some_and(Listed::runs);
        let known = runs && self.is_known().await?;
        Ok(Seen {
            network,
            cluster,
            known,
        })
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let Wanted {
            name,
            image,
            agents,
            ..
        } = &self.wanted;
        let env = self.known.place.env;
        let mut changes = Vec::new();
        if seen.network == network::Seen::Absent {
            let addresses = env.network();
            changes.push(Change::new(format!(
                "make the Docker network {name} ({addresses})"
            )));
        }
        match &seen.cluster {
            None => changes.push(Change::new(format!(
                "have k3d make the cluster {name}: a server and {agents} agents of {image}"
            ))),
            Some(listed) if !listed.runs() => {
                changes.push(Change::new(format!("have k3d start the cluster {name}")));
            }
            Some(_) => {}
        }
        if !seen.known {
            let file = self.known.place.kubeconfig();
            changes.push(Change::new(format!("write {}", file.display())));
            if let Some(file) = &self.known.users_kubeconfig {
                let file = file.display();
                changes.push(Change::new(format!("put the context {name} into {file}")));
            }
        }
        changes
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let (name, file) = (&self.wanted.name, self.known.place.kubeconfig());
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        if seen.network == network::Seen::Absent {
            network::make(self.known.place.env).await?;
        }
        match &seen.cluster {
            None => {
                let config = config_file(&self.known);
                store::write(&config, self.wanted.yaml()?.as_bytes())?;
                self.k3d.create(&config).await?;
            }
            Some(listed) if !listed.runs() => self.k3d.start(name).await?,
            Some(_) => {}
        }
        let ours = text(&self.kubeconfig().await?);
        store::write(&file, ours.as_bytes())?;
        if let Some(users) = &self.known.users_kubeconfig {
            kubeconfig::merge_into(users, &ours, &note(&self.known))?;
        }
        Ok(())
    }

    async fn ready(&self) -> Look<(), String> {
        ready::patient(self.look().await)
    }
}
