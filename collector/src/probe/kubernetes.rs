//! Kubernetes: nodes, workloads and pods, each a state of its own, told by watches of the API.
//! Must not know how a client is made or how a watch is kept alive (`crate::kube`).

mod judge;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comind_model::fact::Facts;
use comind_model::observation::Outcome;
use comind_model::target::Target;
use futures_util::future::BoxFuture;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ObjectMeta;
use kube::{Api, Client};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::duration::Span;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::kube::client::Access;
use crate::kube::feed::Feed;
use crate::kube::look::KubeSession;
use crate::kube::parts::{Feeds, Part};
use crate::kube::place;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Session};
use crate::source::watch::{Teller, Watch};

/// The kind `kubernetes`.
pub const KIND: Kind = Kind::of::<KubernetesSettings>();

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Nodes: ready, and without pressure.
    Nodes,
    /// Deployments: their replicas are available.
    Deployments,
    /// Stateful sets: their replicas are ready.
    Statefulsets,
    /// Daemon sets: a pod is ready on each node that should have one.
    Daemonsets,
    /// Pods: crash loops, images, scheduling, readiness.
    Pods,
}

/// Settings of kind `kubernetes`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "kubernetes")]
pub struct KubernetesSettings {
    /// What is watched; all but pods by default.
    #[serde(default = "all_but_pods")]
    pub watch: Vec<Resource>,
    /// Only objects in these namespaces; all of them by default. Nodes are in none.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Only objects with these labels, such as `team=shop,tier!=lab`. Not for nodes.
    #[serde(default)]
    pub selector: Option<String>,
    /// Objects that the platform is down without, as `deployment/NAME` and the like; `*` stands for
    /// any text. The label `comind.pro/required` of an object (`true`, `false`) comes before this.
    #[serde(default)]
    pub require: Vec<String>,
    /// A kubeconfig. Without one, the service account of the pod that we run in.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one by default.
    #[serde(default)]
    pub context: Option<String>,
    /// Time between full lists, which find what a watch may have missed.
    #[serde(default = "place::relist")]
    pub relist: Span,
    /// The longest silence of all watches together that is still normal.
    #[serde(default = "place::patience")]
    pub watch_timeout: Span,
}

fn all_but_pods() -> Vec<Resource> {
    use Resource::{Daemonsets, Deployments, Nodes, Statefulsets};
    vec![Nodes, Deployments, Statefulsets, Daemonsets]
}

impl Settings for KubernetesSettings {
    const NAME: &'static str = "kubernetes";
    const ABOUT: &'static str = "Watches of nodes, deployments, stateful sets, daemon sets and (if asked) pods, each object a state of its own. The look asks the API server for one of each.";
    const METRICS: &'static [FactMetric] = &[
        FactMetric {
            name: "parts",
            help: "Objects that are watched, by kind",
        },
        FactMetric {
            name: "parts_degraded",
            help: "Those that ask for attention",
        },
        FactMetric {
            name: "parts_down",
            help: "Those that do not work",
        },
        FactMetric {
            name: "parts_left_out",
            help: "Objects beyond the bound of parts, which are not watched",
        },
    ];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        if self.watch.is_empty() {
            return Err("`watch` is empty; name what to watch, such as nodes or pods".to_owned());
        }
        let access = Access::of(self.kubeconfig.clone(), self.context.clone())?;
        Ok(Box::new(Kubernetes {
            access,
            settings: self,
        }))
    }
}

#[derive(Clone)]
struct Kubernetes {
    access: Access,
    settings: KubernetesSettings,
}

/// Something that takes in one API after the other: the look asks it, the watch feeds from it.
trait Taker {
    fn take<K: Judged>(&mut self, api: Api<K>, what: String, selector: Option<String>);
}

/// An object that can be judged.
trait Judged:
    kube::Resource<DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The word in names and the kind of the part.
    const WORD: &'static str;
    const KIND: &'static str;
    fn judge(&self) -> (Outcome, Facts);
}

macro_rules! judged {
    ($($object:ident $word:literal $kind:literal $judge:path;)*) => {
        $(impl Judged for $object {
            const WORD: &'static str = $word;
            const KIND: &'static str = $kind;
            fn judge(&self) -> (Outcome, Facts) {
                $judge(self)
            }
        })*
    };
}

judged! {
    Node "node" "kubernetes_node" judge::node;
    Deployment "deployment" "kubernetes_deployment" judge::deployment;
    StatefulSet "statefulset" "kubernetes_stateful_set" judge::stateful_set;
    DaemonSet "daemonset" "kubernetes_daemon_set" judge::daemon_set;
    Pod "pod" "kubernetes_pod" judge::pod;
}

impl Kubernetes {
    /// Hands everything that is watched to `taker`.
    fn each(&self, client: &Client, taker: &mut impl Taker) {
        for resource in &self.settings.watch {
            match resource {
                Resource::Nodes => {
                    taker.take::<Node>(Api::all(client.clone()), "nodes".to_owned(), None);
                }
                Resource::Deployments => {
                    self.in_namespaces::<Deployment>(client, "deployments", taker);
                }
                Resource::Statefulsets => {
                    self.in_namespaces::<StatefulSet>(client, "stateful sets", taker);
                }
                Resource::Daemonsets => {
                    self.in_namespaces::<DaemonSet>(client, "daemon sets", taker);
                }
                Resource::Pods => self.in_namespaces::<Pod>(client, "pods", taker),
            }
        }
    }

    fn in_namespaces<K>(&self, client: &Client, what: &str, taker: &mut impl Taker)
    where
        K: Judged + kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    {
        let mut take = |namespace| {
            let (api, what) = place::objects::<K>(client, what, namespace);
            taker.take(api, what, self.settings.selector.clone());
        };
        match self.settings.namespaces.as_slice() {
            [] => take(None),
            named => named.iter().for_each(|namespace| take(Some(namespace))),
        }
    }
}

impl Taker for KubeSession {
    fn take<K: Judged>(&mut self, api: Api<K>, what: String, _: Option<String>) {
        self.ask(api, what);
    }
}

impl Probe for Kubernetes {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            let client = self.access.client().await?;
            let mut session = KubeSession::default();
            self.each(&client, &mut session);
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        Some(Box::new(self.clone()))
    }
}

impl Watch for Kubernetes {
    fn run<'a>(&'a mut self, teller: &'a mut Teller) -> BoxFuture<'a, Failure> {
        Box::pin(async {
            let client = match self.access.client().await {
                Ok(client) => client,
                Err(failure) => return failure,
            };
            let mut feeding = Feeding {
                feeds: Feeds::new(teller.clock()),
                namer: Namer {
                    parent: teller.target().name.clone(),
                    require: self.settings.require.clone(),
                },
                relist: self.settings.relist.0,
            };
            self.each(&client, &mut feeding);
            feeding.feeds.tell(teller).await
        })
    }

    fn patience(&self) -> Duration {
        self.settings.watch_timeout.0
    }
}

struct Feeding {
    feeds: Feeds,
    namer: Namer,
    relist: Duration,
}

impl Taker for Feeding {
    fn take<K: Judged>(&mut self, api: Api<K>, what: String, selector: Option<String>) {
        let namer = self.namer.clone();
        let feed = Feed {
            api,
            what,
            selector,
            relist: self.relist,
        };
        self.feeds.add(feed, move |object: K| {
            let (outcome, facts) = object.judge();
            Part {
                target: namer.target::<K>(object.meta()),
                outcome,
                facts,
            }
        });
    }
}

/// Gives parts their names, and says which are required.
#[derive(Clone)]
struct Namer {
    parent: Arc<str>,
    require: Vec<String>,
}

impl Namer {
    fn target<K: Judged>(&self, meta: &ObjectMeta) -> Target {
        let name = meta.name.as_deref().unwrap_or_default();
        let short = format!("{}/{name}", K::WORD);
        let full = match meta.namespace.as_deref() {
            Some(namespace) => format!("{}/{namespace}/{short}", self.parent),
            None => format!("{}/{short}", self.parent),
        };
        let mut target = Target::part(&self.parent, full, K::KIND);
        target.required = place::is_required(meta, &self.require, &short);
        target
    }
}
