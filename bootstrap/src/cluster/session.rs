//! Chooses the cluster that a command is about, says why that one, and remembers it for later
//! commands.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::auto::{Found, choose};
use crate::cluster::existing::cluster::ExistingCluster;
use crate::cluster::existing::{looks, step};
use crate::cluster::host::cluster::HostCluster;
use crate::cluster::host::place::Place;
use crate::cluster::k3d::cluster::{K3dCluster, can_make};
use crate::cluster::k3d::config::{IMAGE, Wanted};
use crate::cluster::kind::{Cluster, Kind};
use crate::cluster::known::Known;
use crate::cluster::registry::address::Address;
use crate::cluster::ways::{NodePorts, Ways};
use crate::cluster::{kubeconfig, nodes, objects};
use crate::programs::Programs;
use crate::store;
use crate::supervise::control::Launcher;

/// What the command line knows.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where files are.
    pub place: Place,
    /// Where programs are.
    pub programs: Programs,
    /// How a supervisor is started.
    pub launcher: Launcher,
    /// The user's kubeconfig, if it is to know the cluster.
    pub users_kubeconfig: Option<PathBuf>,
    /// Where the contexts of clusters are that are there already.
    pub kubeconfigs: Vec<PathBuf>,
    /// The kind that is asked for; `auto` is none.
    pub kind: Option<Kind>,
    /// What else is asked for.
    pub asked: Asked,
    /// Ports of nodes that are wanted on this machine's loopback, and where.
    pub ports: Vec<(u16, u16)>,
    /// Objects that have to be ours where they are.
    pub places: Vec<Value>,
}

/// What a cluster is to be like; remembered for later commands.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Asked {
    /// The context of one that is there already.
    pub context: Option<String>,
    /// Where the ports of its nodes are reached.
    pub node: Option<IpAddr>,
    /// Where images are pushed to and pulled from.
    pub registry: Option<Address>,
    /// k3d: how many nodes there are besides the server.
    pub agents: Option<u32>,
    /// k3d: the nodes' image.
    pub image: Option<String>,
}

impl Asked {
    /// With what was asked for before, where nothing is asked for now.
    fn or(self, before: Self) -> Self {
        Self {
            context: self.context.or(before.context),
            node: self.node.or(before.node),
            registry: self.registry.or(before.registry),
            agents: self.agents.or(before.agents),
            image: self.image.or(before.image),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Record {
    kind: Kind,
    #[serde(flatten)]
    asked: Asked,
    /// Where the context was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kubeconfigs: Vec<PathBuf>,
}

/// A cluster, ready to be worked with.
pub struct Session {
    /// It.
    pub cluster: Box<dyn Cluster>,
    /// Why that one.
    pub because: String,
    record: Record,
    file: PathBuf,
}

fn file(place: &Place) -> PathBuf {
    let name = format!("cluster-{}.json", place.env.name());
    place.home.path().join(name)
}

/// What made this environment's cluster before. One that is older than this record is of plain
/// processes.
fn recorded(place: &Place) -> Result<Option<Record>> {
    let record: Option<Record> = store::read_json(&file(place))?;
    let older = || {
        place.dir().exists().then(|| Record {
            kind: Kind::Host,
            asked: Asked::default(),
            kubeconfigs: Vec::new(),
        })
    };
    Ok(record.or_else(older))
}

impl Session {
    /// Opens the cluster to change it: chooses its kind, looking for k3d if need be.
    ///
    /// # Errors
    /// When none can be made, or another one was made before.
    pub async fn open(mut request: Request) -> Result<Self> {
        let before = recorded(&request.place)?;
        let mut found = Found {
            before: before.as_ref().map(|record| record.kind),
            context: request.asked.context.clone(),
            ..Found::default()
        };
        let asked = request.asked.clone();
        request.take(before.as_ref());
        if request.kind.is_none() && found.context.is_none() && found.before.is_none() {
            let image = request.asked.image.as_deref().unwrap_or(IMAGE);
            found.k3d = Some(can_make(&request.programs, image).await);
            found.host_lacks = request.host().lacks().await;
        }
        let choice = choose(request.kind, &found).map_err(|why| anyhow!(why))?;
        asked.check(choice.kind)?;
        let mut because = choice.because;
        if choice.kind == Kind::Existing {
            because = format!("{because}: {}", request.find().await?);
        }
        Ok(request.session(choice.kind, because))
    }

    /// Opens the cluster as it was made last, to look at it or to stop it.
    ///
    /// # Errors
    /// When what was remembered of it cannot be read.
    pub fn open_as_is(mut request: Request) -> Result<Self> {
        let before = recorded(&request.place)?;
        request.take(before.as_ref());
        let asked = request.kind.unwrap_or(Kind::Host);
        let kind = before.map_or(asked, |record| record.kind);
        Ok(request.session(kind, "the cluster was made so".to_owned()))
    }

    /// Remembers it before it is made, so that a run that is cut off is gone on with; what was made
    /// before is still remembered as it was made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(&self) -> Result<()> {
        match self.file.exists() {
            true => Ok(()),
            false => self.record(),
        }
    }

    /// Remembers it as it was made, so that later commands need not be told again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&self) -> Result<()> {
        let known: Option<Record> = store::read_json(&self.file)?;
        if known.as_ref() == Some(&self.record) {
            return Ok(());
        }
        self.cluster.known().place.home.create()?;
        store::write_json(&self.file, &self.record)
    }

    /// Forgets it, after it was removed.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self) -> Result<()> {
        store::remove(&self.file).map(drop)
    }
}

impl Asked {
    /// What is asked for has to be of use.
    fn check(&self, kind: Kind) -> Result<()> {
        let of_another = [
            ("--context", self.context.is_some(), Kind::Existing),
            ("--node-address", self.node.is_some(), Kind::Existing),
            ("--agents", self.agents.is_some(), Kind::K3d),
            ("--k3s-image", self.image.is_some(), Kind::K3d),
        ];
        let wrong = of_another
            .into_iter()
            .find(|(_, given, of)| *given && *of != kind);
        match wrong {
            Some((option, _, of)) => bail!(
                "{option} is of clusters of the kind {}, and this one is of the kind {}",
                of.name(),
                kind.name()
            ),
            None => Ok(()),
        }
    }
}

impl Request {
    /// What was asked for before counts where nothing is asked for now.
    fn take(&mut self, before: Option<&Record>) {
        let Some(before) = before else {
            return;
        };
        let asked = std::mem::take(&mut self.asked);
        self.asked = asked.or(before.asked.clone());
        if !before.kubeconfigs.is_empty() {
            self.kubeconfigs.clone_from(&before.kubeconfigs);
        }
    }

    fn host(&self) -> HostCluster {
        let ways = Ways {
            registry: self.asked.registry.clone(),
            ..Ways::host(self.place.env)
        };
        HostCluster {
            known: self.known(ways),
        }
    }

    fn known(&self, ways: Ways) -> Arc<Known> {
        Arc::new(Known {
            place: self.place.clone(),
            ways,
            programs: self.programs.clone(),
            launcher: self.launcher.clone(),
            users_kubeconfig: self.users_kubeconfig.clone(),
        })
    }

    /// Finds the context, and where the ports of its nodes are; says what cluster that is.
    async fn find(&mut self) -> Result<String> {
        let all = kubeconfig::all_of(&self.kubeconfigs)?;
        let context = match &self.asked.context {
            Some(context) => context.clone(),
            None => all["current-context"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        let config = step::config(&self.kubeconfigs, &context)
            .context("--context names the cluster to use")?;
        let client = objects::client_by(&config).await?;
        let (version, _) = looks::version(&client)
            .await
            .with_context(|| format!("context {context} at {}", kubeconfig::server(&config)))?;
        if self.asked.node.is_none() {
            // Who may not see nodes is told so by the cluster's step.
            let all = nodes::list(&client).await.unwrap_or_default();
            self.asked.node = nodes::address(&all);
        }
        self.asked.context = Some(context.clone());
        let server = kubeconfig::server(&config);
        Ok(format!(
            "context {context}, Kubernetes {version} at {server}"
        ))
    }

    fn cluster(&self, kind: Kind) -> Box<dyn Cluster> {
        let env = self.place.env;
        let ways = |context: String, ports| Ways {
            kind,
            context,
            ports,
            registry: self.asked.registry.clone(),
        };
        match kind {
            Kind::Host => Box::new(self.host()),
            Kind::K3d => {
                let ways = ways(env.cluster(), NodePorts::Mapped(self.ports.clone()));
                Box::new(K3dCluster {
                    known: self.known(ways),
                    wanted: Wanted {
                        name: env.cluster(),
                        image: self.asked.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
                        agents: self.asked.agents.unwrap_or(0),
                        ports: self.ports.clone(),
                        plain: self.asked.registry.clone().filter(Address::plain),
                    },
                })
            }
            Kind::Existing => {
                let context = self.asked.context.clone().unwrap_or_default();
                let node = self.asked.node.unwrap_or(env.node().into());
                Box::new(ExistingCluster {
                    known: self.known(ways(context, NodePorts::At(node))),
                    files: self.kubeconfigs.clone(),
                    places: self.places.clone(),
                })
            }
        }
    }

    fn session(self, kind: Kind, because: String) -> Session {
        let kubeconfigs = match kind {
            Kind::Existing => self.kubeconfigs.clone(),
            Kind::Host | Kind::K3d => Vec::new(),
        };
        Session {
            cluster: self.cluster(kind),
            because,
            record: Record {
                kind,
                asked: self.asked.clone(),
                kubeconfigs,
            },
            file: file(&self.place),
        }
    }
}
