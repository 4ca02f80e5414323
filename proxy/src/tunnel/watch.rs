//! Watches the services that routes name, and hands on which pods they have whenever that changes: a
//! pod that is about to end gets no new connection. While the cluster cannot be reached what was known
//! stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use comind_model::ingress::{Cluster, Service};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::config::KubeConfigOptions;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::gate::{self, Gate};
use super::kubeconfig;
use super::refusal::chain;
use super::resolve::{self, Known, Whose};
use crate::controller::world::Objects;
use crate::moment::Awake;

/// Changes come in swarms: after the first it is waited this long for more.
const SETTLE: Duration = Duration::from_millis(20);
/// How long until a kubeconfig is read again that could not be used.
const AGAIN: Duration = Duration::from_secs(2);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch is opened anew so often, in seconds …
const WATCH: u32 = 60;
/// … so that silence for longer means that nobody is there.
const SILENT: Duration = Duration::from_secs(75);
/// Where nothing has failed for so long the watches follow again: to connect, and the pause between two
/// tries, take less. They do not say so themselves.
const WELL: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where those are that name no cluster; the cluster that this runs in where none.
    pub cluster: Option<Cluster>,
    /// What.
    pub services: BTreeSet<Service>,
}

/// What is to be watched in one cluster.
struct Of {
    whose: Whose,
    cluster: Option<Cluster>,
    services: BTreeSet<Service>,
}

impl Wanted {
    /// By cluster: one that is away holds up no other.
    fn by_cluster(&self) -> Vec<Of> {
        let mut all: BTreeMap<Whose, BTreeSet<Service>> = BTreeMap::new();
        for service in &self.services {
            let of = all.entry(service.cluster.clone()).or_default();
            of.insert(service.clone());
        }
        let made = |(whose, services): (Whose, _)| Of {
            cluster: whose.as_deref().cloned().or_else(|| self.cluster.clone()),
            whose,
            services,
        };
        all.into_iter().map(made).collect()
    }
}

/// What one of the watches tells.
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
enum Change {
    Service(Service, Event<core::Service>),
    Slice(Service, Event<EndpointSlice>),
    Failed(&'static str, watcher::Error),
}

/// Watches what is wanted until `stop`; `gate` gets the clients for tunnels.
pub async fn run(
    mut wanted: watch::Receiver<Wanted>,
    sink: watch::Sender<Known>,
    gate: Arc<Gate>,
    stop: CancellationToken,
) {
    loop {
        let now = wanted.borrow_and_update().clone();
        let clusters = now.by_cluster();
        sink.send_if_modified(|known| {
            let before = (known.found.len(), known.trouble.len());
            let is_left = |whose: &Whose| clusters.iter().any(|of| of.whose == *whose);
            known
                .found
                .retain(|service, _| now.services.contains(service));
            known.trouble.retain(|whose, _| is_left(whose));
            before != (known.found.len(), known.trouble.len())
        });
        let following = join_all(clusters.iter().map(|of| follow(of, &sink, &gate)));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            _ = following, if !now.services.is_empty() => {}
        }
    }
}

async fn follow(wanted: &Of, sink: &watch::Sender<Known>, gate: &Gate) {
    let whose = &wanted.whose;
    loop {
        // Before it is read: a change while that lasts is then seen.
        let stamp = stamp(wanted.cluster.as_ref());
        match clients(wanted.cluster.as_ref()).await {
            Ok((watching, tunnels)) => {
                gate.set(whose, &Ok(tunnels));
                watch_all(&watching, wanted, sink, &stamp).await;
            }
            Err(lack) => {
                trouble(sink, whose, Some(lack.clone()));
                gate.set(whose, &Err(lack));
                // The wait is for a kubeconfig, or a service account, to come.
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn trouble(sink: &watch::Sender<Known>, whose: &Whose, trouble: Option<String>) {
    sink.send_if_modified(|known| {
        let changed = known.trouble.get(whose) != trouble.as_ref();
        match trouble {
            Some(trouble) => {
                if changed {
                    tracing::warn!(
                        "the pods of services cannot be watched, what is known stays: {trouble}"
                    );
                }
                known.trouble.insert(whose.clone(), trouble);
            }
            None => drop(known.trouble.remove(whose)),
        }
        changed
    });
}

/// One that watches and notices silence, and one for tunnels, which notice it themselves.
async fn clients(cluster: Option<&Cluster>) -> Result<(Client, Client), String> {
    let mut config = config(cluster).await?;
    config.connect_timeout = Some(CONNECT);
    // Whoever asks says when to ask again.
    config.default_retry = false;
    config.write_timeout = None;
    let tunnels = Client::try_from(config.clone()).map_err(|error| chain(&error))?;
    config.read_timeout = Some(SILENT);
    let watching = Client::try_from(config).map_err(|error| chain(&error))?;
    Ok((watching, tunnels))
}

/// How the cluster is asked.
///
/// # Errors
/// When the kubeconfig, or the service account, cannot be used.
pub(crate) async fn config(cluster: Option<&Cluster>) -> Result<Config, String> {
    let Some(cluster) = cluster else {
        return Config::incluster().map_err(|error| {
            format!("there is no service account of a pod ({error}); outside of a cluster name a kubeconfig in `proxy.tunnels`")
        });
    };
    let read = kubeconfig::read(cluster)?;
    let options = KubeConfigOptions {
        context: cluster.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(read, &options).await;
    config.map_err(|error| {
        let files = kubeconfig::files(cluster);
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        format!("kubeconfig {}: {}", files.join(", "), chain(&error))
    })
}

/// What changes when somebody writes the kubeconfig: a cluster that is made anew has other keys.
pub(crate) type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// What it is now.
pub(crate) fn stamp(cluster: Option<&Cluster>) -> Stamp {
    let files = cluster.map(kubeconfig::files).unwrap_or_default();
    let look = |file: PathBuf| {
        let seen = std::fs::metadata(&file).ok();
        let seen = seen.and_then(|seen| Some((seen.modified().ok()?, seen.len())));
        (file, seen)
    };
    files.into_iter().map(look).collect()
}

#[derive(Default)]
struct Seen {
    service: Objects<core::Service>,
    slices: Objects<EndpointSlice>,
}

/// Returns when the client has to be made anew.
async fn watch_all(client: &Client, wanted: &Of, sink: &watch::Sender<Known>, before: &Stamp) {
    let mut seen: BTreeMap<Service, Seen> = BTreeMap::new();
    let mut changes = changes(client, &wanted.services);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut awake, mut failed) = (Awake::default(), Instant::now());
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = looks.tick() => {
                // Whether anybody still tells is not known: it is asked anew.
                if awake.slept() {
                    return;
                }
                if failed.elapsed() >= WELL {
                    trouble(sink, &wanted.whose, None);
                }
                continue;
            }
        };
        let Some(change) = change else { return };
        let mut all = vec![change];
        // A condition, not a pause: it ends as soon as nothing more has come for that long.
        while let Ok(Some(change)) = tokio::time::timeout(SETTLE, changes.next()).await {
            all.push(change);
        }
        let mut dirty = BTreeSet::new();
        for change in all {
            match change {
                Change::Service(of, event) => {
                    if seen.entry(of.clone()).or_default().service.take(event) {
                        dirty.insert(of);
                    }
                }
                Change::Slice(of, event) => {
                    if seen.entry(of.clone()).or_default().slices.take(event) {
                        dirty.insert(of);
                    }
                }
                Change::Failed(kind, error) => {
                    failed = Instant::now();
                    trouble(
                        sink,
                        &wanted.whose,
                        Some(format!("{kind}: {}", chain(&error))),
                    );
                    if stamp(wanted.cluster.as_ref()) != *before {
                        return;
                    }
                }
            }
        }
        if !dirty.is_empty() {
            trouble(sink, &wanted.whose, None);
            tell(sink, &dirty, &seen);
        }
    }
}

fn tell(sink: &watch::Sender<Known>, dirty: &BTreeSet<Service>, seen: &BTreeMap<Service, Seen>) {
    sink.send_if_modified(|known| {
        let mut changed = false;
        for service in dirty {
            let Some(seen) = seen.get(service) else {
                continue;
            };
            if !(seen.service.whole && seen.slices.whole) {
                continue;
            }
            let slices = seen.slices.all.values().map(Arc::as_ref);
            let found = resolve::find(
                service,
                seen.service.all.values().next().map(Arc::as_ref),
                slices,
            );
            if known.found.get(service) != Some(&found) {
                known.found.insert(service.clone(), found);
                changed = true;
            }
        }
        changed
    });
}

type Changes = SelectAll<BoxStream<'static, Change>>;

fn changes(client: &Client, services: &BTreeSet<Service>) -> Changes {
    let mut all = SelectAll::new();
    for service in services {
        let config = || watcher::Config::default().timeout(WATCH);
        let named = config().fields(&format!("metadata.name={}", service.name));
        let of = config().labels(&format!("kubernetes.io/service-name={}", service.name));
        let (for_service, for_slices) = (service.clone(), service.clone());
        let services = Api::<core::Service>::namespaced(client.clone(), &service.namespace);
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), &service.namespace);
        let services = watcher::watcher(services, named).backoff(Again::default());
        let slices = watcher::watcher(slices, of).backoff(Again::default());
        let services = services.map(move |event| match event {
            Ok(event) => Change::Service(for_service.clone(), event),
            Err(error) => Change::Failed("services", error),
        });
        let slices = slices.map(move |event| match event {
            Ok(event) => Change::Slice(for_slices.clone(), event),
            Err(error) => Change::Failed("endpointslices", error),
        });
        all.push(services.boxed());
        all.push(slices.boxed());
    }
    all
}

/// At once, then ever later: as tunnels are.
#[derive(Default)]
struct Again(u32);

impl Iterator for Again {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let tries = self.0;
        self.0 = tries.saturating_add(1);
        Some(gate::pause_after(tries))
    }
}

impl Backoff for Again {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
