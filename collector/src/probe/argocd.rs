//! Argo CD: its applications and application sets, each a state of its own, told by a watch of
//! the Kubernetes API; the look asks the API server whether it would still tell us.
//! Must not know how a client is made or how a watch is kept alive (`crate::kube`).

pub mod application;
mod judge;
pub mod track;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comind_model::target::Target;
use futures_util::future::BoxFuture;
use kube::Api;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::duration::Span;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::kube::client::Access;
use crate::kube::feed::Feed;
use crate::kube::look::KubeSession;
use crate::kube::parts::{Feeds, Part};
use crate::kube::place;
use crate::probe::argocd::application::{Application, ApplicationSet};
use crate::probe::argocd::track::Track;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Session};
use crate::source::watch::{Teller, Watch};

/// The kind `argocd`.
pub const KIND: Kind = Kind::of::<ArgocdSettings>();
/// The kind of the part that one application is.
pub const APPLICATION: &str = "argocd_application";
/// The kind of the part that one application set is.
pub const APPLICATION_SET: &str = "argocd_application_set";

/// Settings of kind `argocd`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "argocd")]
pub struct ArgocdSettings {
    /// The namespace of the applications; `*` is all of them.
    #[serde(default = "argocd")]
    pub namespace: String,
    /// Further namespaces (Argo CD's "applications in any namespace").
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// A kubeconfig. Without one, the service account of the pod that we run in.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one by default.
    #[serde(default)]
    pub context: Option<String>,
    /// Only applications with these labels, such as `team=shop,tier!=lab`.
    #[serde(default)]
    pub selector: Option<String>,
    /// Names of applications that the platform is down without; `*` stands for any text. The label
    /// `comind.pro/required` of an application (`true`, `false`) comes before this.
    #[serde(default)]
    pub require: Vec<String>,
    /// Whether application sets are watched too.
    #[serde(default = "yes")]
    pub application_sets: bool,
    /// Time between full lists, which find what a watch may have missed.
    #[serde(default = "place::relist")]
    pub relist: Span,
    /// The longest silence of the watch that is still normal; the API server gives a sign of life
    /// about once a minute.
    #[serde(default = "place::patience")]
    pub watch_timeout: Span,
}

fn argocd() -> String {
    "argocd".to_owned()
}

fn yes() -> bool {
    true
}

impl Settings for ArgocdSettings {
    const NAME: &'static str = "argocd";
    const ABOUT: &'static str = "A watch of the applications and application sets, each a state of its own: sync, health, the last operation. The look asks the API server for one application.";
    const METRICS: &'static [FactMetric] = &[
        FactMetric {
            name: "parts",
            help: "Applications and application sets, by kind",
        },
        FactMetric {
            name: "parts_degraded",
            help: "Those that ask for attention",
        },
        FactMetric {
            name: "parts_down",
            help: "Those that do not work",
        },
    ];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let access = Access::of(self.kubeconfig.clone(), self.context.clone())?;
        Ok(Box::new(Argocd {
            access,
            settings: self,
            track: Arc::default(),
        }))
    }
}

#[derive(Clone)]
struct Argocd {
    access: Access,
    settings: ArgocdSettings,
    /// Outlives a watch that has to be opened again.
    track: Arc<Mutex<Track>>,
}

impl Argocd {
    /// Where to look: one place for all namespaces, or one for each.
    fn places(&self) -> Vec<Option<String>> {
        let named = std::iter::once(&self.settings.namespace).chain(&self.settings.namespaces);
        let mut names: Vec<_> = named.cloned().collect();
        if names.iter().any(|name| name == "*") {
            return vec![None];
        }
        names.sort();
        names.dedup();
        names.into_iter().map(Some).collect()
    }
}

impl Probe for Argocd {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            let client = self.access.client().await?;
            let mut session = KubeSession::default();
            for place in self.places() {
                let (api, what) =
                    place::objects::<Application>(&client, "applications", place.as_deref());
                session.ask(api, what);
            }
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        Some(Box::new(self.clone()))
    }
}

impl Watch for Argocd {
    fn run<'a>(&'a mut self, teller: &'a mut Teller) -> BoxFuture<'a, Failure> {
        Box::pin(async {
            match self.feeds(teller).await {
                Ok(feeds) => feeds.tell(teller).await,
                Err(failure) => failure,
            }
        })
    }

    fn patience(&self) -> Duration {
        self.settings.watch_timeout.0
    }
}

impl Argocd {
    async fn feeds(&self, teller: &Teller) -> Result<Feeds, Failure> {
        let client = self.access.client().await?;
        let clock = teller.clock();
        let mut feeds = Feeds::new(clock);
        for place in self.places() {
            let place = place.as_deref();
            let named = self.namer(
                teller,
                place.is_some() && self.settings.namespaces.is_empty(),
            );
            let (track, sets) = (self.track.clone(), named.clone());
            let feed = self.feed(place::objects::<Application>(
                &client,
                "applications",
                place,
            ));
            feeds.add(feed, move |application| {
                let target = named.application(&application);
                let (outcome, mut facts) = judge::application(&application);
                let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
                track.add(&mut facts, &target.name, &application, clock.now());
                Part {
                    target,
                    outcome,
                    facts,
                }
            });
            if self.settings.application_sets {
                let feed = self.feed(place::objects::<ApplicationSet>(
                    &client,
                    "application sets",
                    place,
                ));
                feeds.add(feed, move |set| {
                    let (outcome, facts) = judge::set(&set);
                    let target = sets.set(&set);
                    Part {
                        target,
                        outcome,
                        facts,
                    }
                });
            }
        }
        Ok(feeds)
    }

    fn feed<K>(&self, (api, what): (Api<K>, String)) -> Feed<K> {
        Feed {
            api,
            what,
            selector: self.settings.selector.clone(),
            relist: self.settings.relist.0,
        }
    }

    fn namer(&self, teller: &Teller, one_namespace: bool) -> Namer {
        Namer {
            parent: teller.target().name.clone(),
            one_namespace,
            require: self.settings.require.clone(),
        }
    }
}

/// Gives parts their names, and says which are required.
#[derive(Clone)]
struct Namer {
    parent: Arc<str>,
    one_namespace: bool,
    require: Vec<String>,
}

impl Namer {
    fn application(&self, application: &Application) -> Target {
        let name = application.metadata.name.as_deref().unwrap_or_default();
        let mut target = self.target(&application.metadata, name, APPLICATION);
        target.required = place::is_required(&application.metadata, &self.require, name);
        target
    }

    fn set(&self, set: &ApplicationSet) -> Target {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        // A set and an application may share a name.
        self.target(&set.metadata, &format!("set:{name}"), APPLICATION_SET)
    }

    fn target(&self, meta: &kube::api::ObjectMeta, name: &str, kind: &'static str) -> Target {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let full = match self.one_namespace {
            true => format!("{}/{name}", self.parent),
            false => format!("{}/{namespace}/{name}", self.parent),
        };
        Target::part(&self.parent, full, kind)
    }
}
