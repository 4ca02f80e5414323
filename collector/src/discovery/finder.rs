//! Reads what asks in a cluster and keeps it up to date: feeds of Monitors and Services, and the
//! Secrets that they name. What was found stays while the API server is away.
//! Must not decide who is watched.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::meter::DiscoveryMeter;
use super::monitor::{Monitor, MonitorSpec};
use super::secrets::{At, Secrets};
use super::service;
use super::wish::{Asker, Asking, Origin, Wish};
use crate::config::discovery::Kubernetes;
use crate::config::target::MAX_TARGETS;
use crate::kube::client::Access;
use crate::kube::feed::{Feed, Told};
use crate::kube::place;
use crate::probe::failure::Failure;
use crate::source::backoff::Backoff;

/// Changes are gathered for this long before they are told.
const GATHER: Duration = Duration::from_millis(100);
/// From one try to the next while the API server is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// What the feeds tell may wait here.
const QUEUE: usize = 256;

/// All that asks.
pub type Found = BTreeMap<Asker, Asking>;

/// One kind of object in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    origin: Origin,
    namespace: Option<String>,
}

impl Place {
    fn holds(&self, asker: &Asker) -> bool {
        self.origin == asker.origin
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == asker.namespace)
    }
}

/// What a place tells, without what is of no interest.
enum Said {
    Begin,
    There(Asker, Known),
    Listed,
    Gone(Asker),
    Lost,
}

/// What is known of an asker without its Secrets.
struct Known {
    wish: Result<Wish, String>,
    generation: Option<i64>,
    made: i64,
}

impl Known {
    fn of(wish: Result<Wish, String>, meta: &ObjectMeta) -> Self {
        let made = meta.creation_timestamp.as_ref();
        Self {
            wish,
            generation: meta.generation,
            made: made.map_or(0, |time| time.0.as_second()),
        }
    }
}

/// The task.
pub struct Finder {
    section: Kubernetes,
    access: Access,
    meter: DiscoveryMeter,
    found: watch::Sender<Arc<Found>>,
    known: BTreeMap<Asker, Known>,
    secrets: Secrets,
    /// Those that a list, which is just being told, held so far.
    listing: Vec<(Place, HashSet<Asker>)>,
    /// Places of which nothing was heard so far.
    silent: HashSet<Place>,
    /// Places that are not heard of just now.
    lost: HashSet<Place>,
}

impl Finder {
    /// For a section. What was `found` before stays until there is something better.
    pub fn new(
        section: Kubernetes,
        access: Access,
        meter: DiscoveryMeter,
        found: watch::Sender<Arc<Found>>,
    ) -> Self {
        let places = places(&section);
        let before = found.borrow().clone();
        let known = before
            .iter()
            .filter(|(asker, _)| places.iter().any(|place| place.holds(asker)))
            .map(|(asker, asking)| {
                let known = Known {
                    wish: asking.wish.clone(),
                    generation: asking.generation,
                    made: asking.made,
                };
                (asker.clone(), known)
            })
            .collect();
        Self {
            section,
            access,
            meter,
            found,
            known,
            secrets: Secrets::default(),
            listing: Vec::new(),
            silent: places.into_iter().collect(),
            lost: HashSet::new(),
        }
    }

    /// Finds until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (tell, mut said) = mpsc::channel(QUEUE);
        let mut feeds = JoinSet::new();
        for place in places(&self.section) {
            let ear = Ear {
                place,
                access: self.access.clone(),
                relist: self.section.relist.0,
                meter: self.meter.clone(),
                tell: tell.clone(),
            };
            feeds.spawn(ear.listen());
        }
        drop(tell);
        let mut due: Option<Instant> = None;
        let mut secrets = tokio::time::interval(self.section.relist.0);
        secrets.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wait = due.unwrap_or_else(Instant::now);
            tokio::select! {
                () = stop.cancelled() => break,
                next = said.recv() => match next {
                    Some((place, said)) => {
                        self.hear(&place, said);
                        due.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(wait), if due.is_some() => {
                    due = None;
                    // Half a list would drop what is in the other half.
                    if self.silent.is_empty() {
                        self.publish(&stop).await;
                    }
                }
                _ = secrets.tick() => {
                    self.secrets.forget();
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                }
            }
        }
        feeds.shutdown().await;
    }

    fn hear(&mut self, place: &Place, said: Said) {
        match said {
            Said::Begin => {
                self.listing.retain(|(other, _)| other != place);
                self.listing.push((place.clone(), HashSet::new()));
            }
            Said::There(asker, known) => {
                if let Some((_, seen)) = self.listing.iter_mut().find(|(other, _)| other == place) {
                    seen.insert(asker.clone());
                }
                if self.known.len() < MAX_TARGETS || self.known.contains_key(&asker) {
                    self.known.insert(asker, known);
                }
            }
            Said::Listed => {
                self.silent.remove(place);
                self.lost.remove(place);
                if let Some(at) = self.listing.iter().position(|(other, _)| other == place) {
                    let (_, seen) = self.listing.swap_remove(at);
                    self.known
                        .retain(|asker, _| !place.holds(asker) || seen.contains(asker));
                }
            }
            Said::Gone(asker) => {
                self.known.remove(&asker);
            }
            Said::Lost => {
                self.silent.remove(place);
                self.lost.insert(place.clone());
                self.listing.retain(|(other, _)| other != place);
            }
        }
    }

    async fn publish(&mut self, stop: &CancellationToken) {
        let named: BTreeSet<At> = self
            .known
            .iter()
            .filter_map(|(asker, known)| Some((asker, known.wish.as_ref().ok()?)))
            .flat_map(|(asker, wish)| {
                let names = wish.secrets.values().map(|key| key.name.clone());
                names.map(|name| (asker.namespace.clone(), name))
            })
            .collect();
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.secrets.read(&self.access, &named) => {}
        }
        let before = self.found.borrow().clone();
        let away = !self.lost.is_empty();
        let asking = |(asker, known): (&Asker, &Known)| {
            let secrets = match &known.wish {
                Ok(wish) => self.secrets.get(&asker.namespace, &wish.secrets),
                Err(_) => Ok(BTreeMap::new()),
            };
            // A Secret that was readable stays as it was while the API server is away.
            let secrets = secrets.or_else(|problem| match before.get(asker) {
                Some(kept) if kept.secrets.is_ok() && kept.wish == known.wish && away => {
                    kept.secrets.clone()
                }
                _ => Err(problem),
            });
            let asking = Asking {
                wish: known.wish.clone(),
                secrets,
                generation: known.generation,
                made: known.made,
            };
            (asker.clone(), asking)
        };
        let found: Found = self.known.iter().map(asking).collect();
        self.found.send_if_modified(|last| {
            let changed = **last != found;
            if changed {
                *last = Arc::new(found);
            }
            changed
        });
    }
}

fn places(section: &Kubernetes) -> Vec<Place> {
    let origins = [
        (section.monitors, Origin::Monitor),
        (section.services, Origin::Service),
    ];
    let namespaces: Vec<Option<String>> = match section.namespaces.is_empty() {
        true => vec![None],
        false => section.namespaces.iter().cloned().map(Some).collect(),
    };
    let wanted = origins.into_iter().filter(|(wanted, _)| *wanted);
    wanted
        .flat_map(|(_, origin)| {
            namespaces.iter().map(move |namespace| Place {
                origin,
                namespace: namespace.clone(),
            })
        })
        .collect()
}

/// Listens to one place for ever.
struct Ear {
    place: Place,
    access: Access,
    relist: Duration,
    meter: DiscoveryMeter,
    tell: mpsc::Sender<(Place, Said)>,
}

impl Ear {
    async fn listen(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut told = false;
        let namespace = self.place.namespace.as_deref();
        let plural = match self.place.origin {
            Origin::Monitor => "Monitors (comind.pro)",
            Origin::Service => "Services",
        };
        let what = place::named(plural, namespace);
        loop {
            let (failure, listed) = match self.access.client().await {
                Err(failure) => (Some(failure), false),
                Ok(client) => match self.place.origin {
                    Origin::Monitor => {
                        let kind = ApiResource::erase::<Monitor>(&());
                        let api = match namespace {
                            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
                            None => Api::all_with(client, &kind),
                        };
                        self.hear(api, &what, of_monitor).await
                    }
                    Origin::Service => {
                        let (api, what) = place::objects(&client, plural, namespace);
                        self.hear(api, &what, of_service).await
                    }
                },
            };
            // Nobody listens any more.
            let Some(failure) = failure else { return };
            self.meter.heard(self.place.origin, namespace, false);
            if listed {
                backoff.reset();
                told = false;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("{what} are not heard of, what was found stays: {failure}");
            }
            if self
                .tell
                .send((self.place.clone(), Said::Lost))
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Why it ended (nothing when nobody listens), and whether there was a whole list before.
    async fn hear<K>(
        &self,
        api: Api<K>,
        what: &str,
        read: impl Fn(&K) -> Option<Result<Wish, String>>,
    ) -> (Option<Failure>, bool)
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static + kube::Resource,
    {
        let feed = Feed {
            api,
            what: what.to_owned(),
            selector: None,
            relist: self.relist,
        };
        let (tell, mut told) = mpsc::channel(QUEUE);
        let mut running = JoinSet::new();
        running.spawn(feed.run(tell));
        let mut listed = false;
        while let Some(told) = told.recv().await {
            let said = match told {
                Told::Begin => Said::Begin,
                Told::There(object) => {
                    let asker = self.asker(object.meta());
                    match read(&object) {
                        Some(wish) => Said::There(asker, Known::of(wish, object.meta())),
                        None => Said::Gone(asker),
                    }
                }
                Told::Gone(object) => Said::Gone(self.asker(object.meta())),
                Told::Listed => {
                    listed = true;
                    let namespace = self.place.namespace.as_deref();
                    self.meter.heard(self.place.origin, namespace, true);
                    Said::Listed
                }
                Told::Alive | Told::Broken => continue,
                Told::Failed(failure) => return (Some(failure), listed),
            };
            if self.tell.send((self.place.clone(), said)).await.is_err() {
                return (None, listed);
            }
        }
        (None, listed)
    }

    fn asker(&self, meta: &ObjectMeta) -> Asker {
        Asker {
            origin: self.place.origin,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

fn of_monitor(object: &DynamicObject) -> Option<Result<Wish, String>> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let read: Result<MonitorSpec, _> = serde_json::from_value(spec);
    let wish = read.map_err(|error| format!("`spec` cannot be read: {error}"));
    Some(wish.and_then(MonitorSpec::wish))
}

fn of_service(object: &Service) -> Option<Result<Wish, String>> {
    service::asks(object).then(|| service::wish(object))
}
