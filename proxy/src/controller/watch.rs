//! Watches a cluster, and hands on what is made of it whenever that changes. While the cluster
//! cannot be reached, or denies something, what was made before stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::Controller;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::gateway::gateways::Ports;
use super::gateway::kinds::{self, Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use super::gateway::read as gateway;
use super::gateway::tell::{self, StatusTeller};
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
    GatewayClass(Event<GatewayClass>),
    Gateway(Event<Gateway>),
    HttpRoute(Event<HttpRoute>),
    GrpcRoute(Event<GrpcRoute>),
    Grant(Event<ReferenceGrant>),
    Namespace(Event<Namespace>),
    Failed(&'static str, watcher::Error),
}

impl Change {
    /// What is watched, as the API calls it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Ingress(_) => "ingresses",
            Self::Class(_) => "ingressclasses",
            Self::Service(_) => "services",
            Self::Slice(_) => "endpointslices",
            Self::Secret(_) => "secrets",
            Self::GatewayClass(_) => "gatewayclasses",
            Self::Gateway(_) => "gateways",
            Self::HttpRoute(_) => "httproutes",
            Self::GrpcRoute(_) => "grpcroutes",
            Self::Grant(_) => "referencegrants",
            Self::Namespace(_) => "namespaces",
            Self::Failed(kind, _) => kind,
        }
    }
}

/// What is made of a cluster. What has not been listed yet makes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Of its Ingress objects.
    pub ingress: Option<Arc<Made>>,
    /// Of its Gateways.
    pub gateway: Option<Arc<gateway::Made>>,
}

/// Where what is made goes.
pub type Sink = watch::Sender<Found>;

/// Watches until `stop`, for a proxy that listens on these ports.
pub async fn run(wanted: Controller, ports: Ports, sink: Sink, stop: CancellationToken) {
    let watching = async {
        loop {
            match client(wanted.kubeconfig.as_deref()).await {
                Ok(client) => follow(client, &wanted, &ports, &sink).await,
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

async fn follow(client: Client, wanted: &Controller, ports: &Ports, sink: &Sink) {
    let mut world = World::default();
    let mut changes = changes(&client, wanted);
    let mut tellers = Tellers {
        ingress: Teller::new(client.clone(), wanted.status.clone()),
        gateway: StatusTeller::default(),
        client,
    };
    let mut failing = BTreeSet::new();
    // A new client begins with what the one before has found.
    let mut found = sink.borrow().clone();
    let mut told = true;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = tellers.done(), if !told => {
                told = tellers.tell(&world, &found);
                continue;
            }
        };
        let Some(change) = change else { return };
        let mut dirty = take(&mut world, change, &mut failing);
        // A condition, not a pause: it ends as soon as nothing more has come for that long.
        while let Ok(Some(change)) = tokio::time::timeout(SETTLE, changes.next()).await {
            dirty |= take(&mut world, change, &mut failing);
        }
        if !dirty {
            continue;
        }
        let next = look(&world, wanted, ports, &found);
        if found != next {
            tracing::info!(
                routes = next.ingress.as_ref().map(|made| made.routes.len()),
                certificates = next.ingress.as_ref().map(|made| made.certificates.len()),
                listeners = next.gateway.as_ref().map(|made| made.listeners.len()),
                "routes of the cluster"
            );
            sink.send_replace(next.clone());
        }
        found = next;
        told = tellers.tell(&world, &found);
    }
}

/// What is made of the cluster now; what lacks a list stays as it was.
fn look(world: &World, wanted: &Controller, ports: &Ports, before: &Found) -> Found {
    let mut next = before.clone();
    if world.is_whole() {
        next.ingress = Some(Arc::new(read::read(world, wanted)));
    }
    if let Some(settings) = &wanted.gateway
        && world.is_whole_for_gateways()
    {
        let made = gateway::read(world, wanted, settings, ports);
        next.gateway = Some(Arc::new(made));
    }
    next
}

/// Those who tell the cluster.
struct Tellers {
    client: Client,
    ingress: Teller,
    gateway: StatusTeller,
}

impl Tellers {
    /// Until all that is being told has been told.
    async fn done(&mut self) {
        self.ingress.done().await;
        self.gateway.done().await;
    }

    /// False when something has to wait.
    fn tell(&mut self, world: &World, found: &Found) -> bool {
        let of_ingress = found.ingress.as_ref().filter(|_| world.is_whole());
        let of_gateway = found
            .gateway
            .as_ref()
            .filter(|_| world.is_whole_for_gateways());
        let first = of_ingress.is_none_or(|made| self.ingress.tell(world, made));
        let now = jiff::Timestamp::now();
        let second =
            of_gateway.is_none_or(|made| self.gateway.tell(&self.client, world, made, now));
        first && second
    }
}

/// Whether it may change what is made.
fn take(world: &mut World, change: Change, failing: &mut BTreeSet<&'static str>) -> bool {
    let kind = change.kind();
    let gateway = &mut world.gateway;
    let dirty = match change {
        Change::Ingress(event) => world.ingresses.take(event),
        Change::Class(event) => world.classes.take(event),
        Change::Service(event) => world.services.take(event),
        Change::Slice(event) => world.slices.take(event),
        Change::Secret(event) => world.secrets.take(event),
        Change::GatewayClass(event) => gateway.classes.take(event),
        Change::Gateway(event) => gateway.gateways.take(event),
        Change::HttpRoute(event) => gateway.http.take(event),
        Change::GrpcRoute(event) => gateway.grpc.take(event),
        Change::Grant(event) => gateway.grants.take(event),
        Change::Namespace(event) => gateway.namespaces.take(event),
        Change::Failed(kind, error) => {
            // Once for a row of failures: the watch tries again by itself, ever slower.
            if failing.insert(kind) {
                tracing::warn!(
                    kind,
                    "the cluster cannot be watched, its last routes stay in force: {error}"
                );
            }
            return false;
        }
    };
    if dirty && failing.remove(kind) {
        tracing::info!(kind, "the cluster is watched again");
    }
    dirty
}

type Changes = SelectAll<BoxStream<'static, Change>>;

fn changes(client: &Client, wanted: &Controller) -> Changes {
    let mut all = SelectAll::new();
    // Of all namespaces where several are wanted: what is not ours is not read further.
    let namespace = match wanted.namespaces.as_slice() {
        [only] => Some(only.as_str()),
        _ => None,
    };
    if wanted.gateway.is_some() {
        gateway_changes(client, namespace, &mut all);
    }
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

/// The watches that Gateways need besides.
fn gateway_changes(client: &Client, namespace: Option<&str>, all: &mut Changes) {
    fn add<S>(
        all: &mut Changes,
        (client, namespace): (&Client, Option<&str>),
        (resource, name): (ApiResource, &'static str),
        wrap: fn(Event<kinds::Kind<S>>) -> Change,
    ) where
        S: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        all.push(stream(api, name, wrap, watcher::Config::default()));
    }
    let here = (client, namespace);
    let of = |of, name| (tell::resource(of), name);
    let classes = of(gateway::Of::Class, "gatewayclasses");
    add(all, (client, None), classes, Change::GatewayClass);
    let gateways = of(gateway::Of::Gateway, "gateways");
    add(all, here, gateways, Change::Gateway);
    let http = of(gateway::Of::Http, "httproutes");
    add(all, here, http, Change::HttpRoute);
    let grpc = of(gateway::Of::Grpc, "grpcroutes");
    add(all, here, grpc, Change::GrpcRoute);
    // The version that every release since 0.6 has.
    let grants = kinds::resource("ReferenceGrant", "v1beta1", "referencegrants");
    add(all, here, (grants, "referencegrants"), Change::Grant);
    let namespaces = Api::all(client.clone());
    all.push(stream(
        namespaces,
        "namespaces",
        Change::Namespace,
        watcher::Config::default(),
    ));
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
