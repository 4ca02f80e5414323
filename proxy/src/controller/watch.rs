//! Watches a cluster, and hands on what is made of it whenever that changes. While the cluster
//! cannot be reached, or denies something, what was made before stays.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::Controller;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::read::{self, Made};
use super::tell::Teller;
use super::world::World;

/// Changes come in swarms (a roll-out, a relist): after the first it is waited this long for more.
const SETTLE: Duration = Duration::from_millis(20);
/// How long until a client is tried again that could not be made.
const AGAIN: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// What one of the watches tells.
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
enum Change {
    Ingress(Event<Ingress>),
    Class(Event<IngressClass>),
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
    Secret(Event<Secret>),
    Failed(&'static str, watcher::Error),
}

/// Where what is made goes.
pub type Sink = watch::Sender<Option<Arc<Made>>>;

/// Watches until `stop`.
pub async fn run(wanted: Controller, sink: Sink, stop: CancellationToken) {
    let watching = async {
        loop {
            match client(wanted.kubeconfig.as_deref()).await {
                Ok(client) => follow(client, &wanted, &sink).await,
                Err(error) => tracing::error!("the Ingress controller has no cluster: {error}"),
            }
            // The wait is for a kubeconfig or a service account to come.
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watching => {}
    }
}

async fn client(kubeconfig: Option<&Path>) -> Result<Client, String> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| {
            format!("there is no service account of a pod ({error}); outside of a cluster name a `kubeconfig`")
        })?,
        Some(file) => {
            let told = |error: &dyn std::fmt::Display| format!("kubeconfig {}: {error}", file.display());
            let read = Kubeconfig::read_from(file).map_err(|error| told(&error))?;
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            config.map_err(|error| told(&error))?
        }
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| error.to_string())
}

async fn follow(client: Client, wanted: &Controller, sink: &Sink) {
    let mut world = World::default();
    let mut changes = changes(&client, &wanted.namespaces);
    let mut teller = Teller::new(client, wanted.status.clone());
    let mut failing: Option<&'static str> = None;
    let mut made: Option<Arc<Made>> = None;
    let mut told = true;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = teller.done(), if !told => {
                told = made.as_ref().is_none_or(|made| teller.tell(&world, made));
                continue;
            }
        };
        let Some(change) = change else { return };
        let mut dirty = take(&mut world, change, &mut failing);
        // A condition, not a pause: it ends as soon as nothing more has come for that long.
        while let Ok(Some(change)) = tokio::time::timeout(SETTLE, changes.next()).await {
            dirty |= take(&mut world, change, &mut failing);
        }
        if !dirty || !world.is_whole() {
            continue;
        }
        let next = Arc::new(read::read(&world, wanted));
        if made.as_ref() != Some(&next) {
            tracing::info!(
                routes = next.routes.len(),
                certificates = next.certificates.len(),
                "routes of the cluster"
            );
            sink.send_replace(Some(next.clone()));
        }
        told = teller.tell(&world, &next);
        made = Some(next);
    }
}

/// Whether it may change what is made.
fn take(world: &mut World, change: Change, failing: &mut Option<&'static str>) -> bool {
    let dirty = match change {
        Change::Ingress(event) => world.ingresses.take(event),
        Change::Class(event) => world.classes.take(event),
        Change::Service(event) => world.services.take(event),
        Change::Slice(event) => world.slices.take(event),
        Change::Secret(event) => world.secrets.take(event),
        Change::Failed(kind, error) => {
            // Once for a row of failures: the watch tries again by itself, ever slower.
            if failing.replace(kind).is_none() {
                tracing::warn!(
                    kind,
                    "the cluster cannot be watched, its last routes stay in force: {error}"
                );
            }
            return false;
        }
    };
    if dirty && failing.take().is_some() {
        tracing::info!("the cluster is watched again");
    }
    dirty
}

type Changes = SelectAll<BoxStream<'static, Change>>;

fn changes(client: &Client, namespaces: &[String]) -> Changes {
    let mut all = SelectAll::new();
    // Of all namespaces where several are wanted: what is not ours is not read further.
    let namespace = match namespaces {
        [only] => Some(only.as_str()),
        _ => None,
    };
    let tls = watcher::Config::default().fields("type=kubernetes.io/tls");
    all.push(stream(
        api(client, namespace),
        "ingresses",
        Change::Ingress,
        watcher::Config::default(),
    ));
    all.push(stream(
        Api::all(client.clone()),
        "ingressclasses",
        Change::Class,
        watcher::Config::default(),
    ));
    all.push(stream(
        api(client, namespace),
        "services",
        Change::Service,
        watcher::Config::default(),
    ));
    all.push(stream(
        api(client, namespace),
        "endpointslices",
        Change::Slice,
        watcher::Config::default(),
    ));
    all.push(stream(
        api(client, namespace),
        "secrets",
        Change::Secret,
        tls,
    ));
    all
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn stream<K>(
    api: Api<K>,
    kind: &'static str,
    wrap: fn(Event<K>) -> Change,
    config: watcher::Config,
) -> BoxStream<'static, Change>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let events = watcher::watcher(api, config).default_backoff();
    events
        .map(move |event| match event {
            Ok(event) => wrap(event),
            Err(error) => Change::Failed(kind, error),
        })
        .boxed()
}
