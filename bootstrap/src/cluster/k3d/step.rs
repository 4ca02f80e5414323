//! The only step of a cluster by k3d: its network, its nodes, and its kubeconfig as ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use crate::cluster::k3d::cli::{K3d, Listed};
use crate::cluster::k3d::config::Wanted;
use crate::cluster::k3d::{containers, network};
use crate::cluster::kind::WHOLE;
use crate::cluster::known::Known;
use crate::cluster::ready::{self, Workload};
use crate::cluster::{kubeconfig, nodes, objects, why};
use crate::event::About;
use crate::lock::{self, Lock};
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::store;
use crate::wait::{self, Gave, Look};

/// What every k3s runs for others.
const WORKS: [Workload<'static>; 3] = [
    Workload::Deployment("kube-system", "coredns"),
    Workload::Deployment("kube-system", "local-path-provisioner"),
    Workload::Deployment("kube-system", "metrics-server"),
];

/// What a run that was cut off has left is waited for as long as k3d waits for its servers.
const CUT_OFF: Duration = Duration::from_secs(300);

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
    /// What k3d has left of one that it was cut off from making.
    unfinished: bool,
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
        let Some(before) = store::read(&self.known.place.kubeconfig())? else {
            return Ok(false);
        };
        let ours = self.kubeconfig().await?;
        if before != text(&ours) {
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

    async fn create(&self) -> Result<()> {
        let config = config_file(&self.known);
        store::write(&config, self.wanted.yaml()?.as_bytes())?;
        let lock = self.at_work().await?;
        // k3d takes what it has left of itself for a cluster, which it then refuses to make.
        containers::remove_tools(&self.wanted.name).await?;
        self.k3d.create(&config, &lock).await
    }

    fn lock(&self) -> PathBuf {
        self.known.place.data("k3d.lock")
    }

    /// Held while k3d makes the cluster. A run that was killed has left k3d at it: what that comes to
    /// is waited for, since k3d takes back by name what it could not make.
    async fn at_work(&self) -> Result<Lock> {
        let file = self.lock();
        let look = || {
            std::future::ready(match lock::try_take(&file) {
                Ok(Some(lock)) => Look::Done(lock),
                Ok(None) => Look::NotYet("k3d is still making it".to_owned()),
                Err(error) => Look::Hopeless(error),
            })
        };
        wait::until(CUT_OFF, |_| {}, look).await.map_err(|gave| match gave {
            Gave::Hopeless(error) => error,
            Gave::TimedOut(why) => anyhow!(
                "{why}, for a run that was cut off {} s ago or more; end that k3d, and run this again",
                CUT_OFF.as_secs()
            ),
        })
    }

    /// Ours, as soon as the server has written it: one that was cut off may not have come so far.
    async fn kubeconfig_at_last(&self) -> Result<Value> {
        let look = async || match self.kubeconfig().await {
            Ok(ours) => Look::Done(ours),
            Err(error) => Look::<_, ()>::NotYet(format!("{error:#}")),
        };
        wait::until(CUT_OFF, |_| {}, look)
            .await
            .map_err(|gave| match gave {
                Gave::TimedOut(why) => anyhow!("{why}"),
                Gave::Hopeless(()) => anyhow!("there is no kubeconfig"),
            })
    }

    /// Whether there is less than was wanted. A cluster whose kubeconfig we have was whole once, and
    /// what is in it is its user's.
    fn unfinished(&self, cluster: Option<&Listed>) -> Result<bool> {
        if cluster.is_none_or(|one| one.has(self.wanted.agents)) {
            return Ok(false);
        }
        if self.known.place.kubeconfig().exists() {
            let name = &self.wanted.name;
            bail!(
                "the cluster {name} has not the nodes that it was made with (k3d node list); bring them back (k3d node create), or remove it (comind-ops cluster delete)"
            );
        }
        Ok(true)
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
        if self.lock().exists() {
            drop(self.at_work().await?);
        }
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
        let unfinished = self.unfinished(cluster.as_ref())?;
        let runs = cluster.as_ref().is_some_and(Listed::runs);
        let known = runs && self.is_known().await?;
        Ok(Seen {
            network,
            cluster,
            unfinished,
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
            Some(_) if seen.unfinished => changes.push(Change::new(format!(
                "have k3d make the cluster {name} anew: it was cut off from making it"
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
        if seen.unfinished {
            self.k3d.delete(name).await?;
        }
        match &seen.cluster {
            Some(_) if seen.unfinished => self.create().await?,
            None => self.create().await?,
            Some(listed) if !listed.runs() => self.k3d.start(name).await?,
            Some(_) => {}
        }
        let ours = text(&self.kubeconfig_at_last().await?);
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
