//! From the Gateway API's objects of a cluster to listeners of the proxy, and to what is to be told of
//! each object. Pure: the same objects make the same, whatever order they came in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comind_model::gateway::{Listener, Settings};
use comind_model::ingress::Controller;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::gateways::{self, Ports, Site};
use super::kinds::{Gateway, GatewaySpec, Kind};
use super::routes::{self, Given};
use super::status::{Condition, conditions};
use crate::controller::world::{Key, Objects, World};

/// Marks classes whose Gateways are ours.
pub const CONTROLLER: &str = "comind.pro/gateway";

/// What we serve, in the Gateway API's words and in order.
const FEATURES: [&str; 29] = [
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// An object with a status of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// A GatewayClass.
    Class,
    /// A Gateway.
    Gateway,
    /// An HTTPRoute.
    Http,
    /// A GRPCRoute.
    Grpc,
}

/// What is made of a cluster.
#[derive(Debug, Default, PartialEq)]
pub struct Made {
    /// Where requests come in, and where they go.
    pub listeners: Vec<Listener>,
    /// The statuses of ours: all of it, or of a route the parents that are ours.
    pub told: BTreeMap<(Of, Key), Value>,
}

/// Makes listeners of all that is ours.
pub fn read(world: &World, wanted: &Controller, settings: &Settings, ports: &Ports) -> Made {
    let mut made = Made::default();
    let classes = classes(world, &mut made);
    let here = |namespace: Option<String>| {
        wanted.namespaces.is_empty() || wanted.namespaces.contains(&namespace.unwrap_or_default())
    };
    let ours: Vec<(&Gateway, &GatewaySpec)> = by_age(&world.gateway.gateways)
        .into_iter()
        .filter(|gateway| here(gateway.namespace()))
        .filter_map(|gateway| Some((gateway, gateway.spec.good()?)))
        .filter(|(_, spec)| classes.contains(&spec.gateway_class_name))
        .collect();
    let mut sites = gateways::read(world, &ours, settings, ports);
    let http = by_age(&world.gateway.http)
        .into_iter()
        .map(|object| (Of::Http, "HTTPRoute", object));
    let grpc = by_age(&world.gateway.grpc)
        .into_iter()
        .map(|object| (Of::Grpc, "GRPCRoute", object));
    for (of, kind, object) in http.chain(grpc) {
        if !here(object.namespace()) {
            continue;
        }
        let told = routes::attach(world, &mut sites, Given { kind, object });
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        made.told.insert((of, key), Value::Array(told));
    }
    let alone = settings.addresses.len() < 2;
    for site in sites {
        made.told
            .insert((Of::Gateway, site.key.clone()), site.status());
        made.listeners.extend(open(site, alone));
    }
    made
}

/// The names of classes that are ours and good.
fn classes(world: &World, made: &mut Made) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for class in world.gateway.classes.all.values() {
        let Some(spec) = class
            .spec
            .good()
            .filter(|spec| spec.controller_name == CONTROLLER)
        else {
            continue;
        };
        let accepted = match spec.parameters_ref {
            None => Condition::good("Accepted"),
            Some(_) => {
                let text = "there are no parameters for this class";
                Condition::of("Accepted", false, "InvalidParameters", text)
            }
        };
        if accepted.holds {
            names.insert(class.name_any());
        }
        let generation = class.metadata.generation.unwrap_or_default();
        let features = FEATURES.map(|name| json!({ "name": name }));
        let status = json!({
            "conditions": conditions(&[accepted], generation),
            "supportedFeatures": features,
        });
        made.told
            .insert((Of::Class, (String::new(), class.name_any())), status);
    }
    names
}

/// The oldest first; of the same age by name.
fn by_age<S: Clone>(objects: &Objects<Kind<S>>) -> Vec<&Kind<S>> {
    let mut all: Vec<&Kind<S>> = objects.all.values().map(Arc::as_ref).collect();
    all.sort_by_key(|it| {
        let age = it.metadata.creation_timestamp.as_ref().map(|at| at.0);
        (age, it.metadata.namespace.clone(), it.metadata.name.clone())
    });
    all
}

/// The listeners of a Gateway where requests can come in. With one address for all it does not
/// matter by which they do.
fn open(site: Site<'_>, alone: bool) -> Vec<Listener> {
    let address = match (&site.address, alone) {
        (Ok(address), false) => address.parse().ok(),
        _ => None,
    };
    if !site.is_open() {
        return Vec::new();
    }
    let serving = site.listeners.into_iter().filter(gateways::Reading::serves);
    serving
        .map(|it| Listener {
            address,
            port: it.port,
            secure: it.secure,
            host: it.host,
            certificates: it.certificates,
            routes: it.routes,
        })
        .collect()
}
