//! Which pods a service has, as its EndpointSlices name them, and what routes make of that. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comind_model::ingress::{
    Action, Cluster, Endpoint, Pod, Route, Service, ServiceUpstream, Upstream,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// One place of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its address.
    pub address: String,
    /// The port there.
    pub port: u16,
    /// The pod that has it, where it is one.
    pub pod: Option<String>,
}

/// What is known of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that are ready.
    pub places: Vec<Place>,
    /// Why there may be none.
    pub lack: String,
    /// The address of the Service itself, where it has one, and its port there.
    pub address: Option<(String, u16)>,
}

/// What is known of all that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// By service; one that has not been seen yet is missing.
    pub found: BTreeMap<Service, Found>,
    /// Why a cluster cannot be watched now. What is known stays in force.
    pub trouble: BTreeMap<Whose, String>,
}

/// Whose services: of the cluster that they name, or of the one that need not be named.
pub type Whose = Option<Arc<Cluster>>;

/// What a service is made of.
pub fn find<'a>(
    wanted: &Service,
    service: Option<&core::Service>,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Found {
    let none = |lack: String| Found {
        lack,
        ..Found::default()
    };
    let Some(spec) = service.and_then(|service| service.spec.as_ref()) else {
        return none(format!("there is no service {wanted}"));
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return none(format!(
            "service {wanted} is of type ExternalName, which is not followed"
        ));
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    let fits = |port: &&core::ServicePort| {
        port.name.as_deref() == Some(&*wanted.port) || wanted.port.parse() == Ok(port.port)
    };
    let Some(port) = ports.iter().find(fits) else {
        let all: Vec<String> = ports.iter().map(shown).collect();
        return none(format!(
            "service {wanted} has no such port; it has {}",
            all.join(", ")
        ));
    };
    let (places, unready) = ready(slices, port.name.as_deref());
    let lack = match (places.is_empty(), unready) {
        (false, _) => String::new(),
        (true, 0) => format!("service {wanted} has no pod"),
        (true, count) => format!("service {wanted} has no ready pod ({count} not ready)"),
    };
    let address = spec
        .cluster_ip
        .clone()
        .filter(|ip| !matches!(ip.as_str(), "" | "None"));
    Found {
        places: places.into_iter().collect(),
        lack,
        address: address.zip(u16::try_from(port.port).ok()),
    }
}

fn shown(port: &core::ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    }
}

/// The ready places of slices at a port, in order, so that the same pods make the same route; and how
/// many others there are. A port without a name is the only one of its service.
pub fn ready<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: Option<&str>,
) -> (BTreeSet<Place>, usize) {
    let port = port.filter(|name| !name.is_empty());
    let (mut found, mut unready) = (BTreeSet::new(), 0);
    for slice in slices.filter(|slice| slice.address_type != "FQDN") {
        let named = slice
            .ports
            .iter()
            .flatten()
            .find(|it| it.name.as_deref().filter(|name| !name.is_empty()) == port);
        let number = named.and_then(|it| it.port);
        let Some(number) = number.and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            // What says nothing about itself is ready.
            let conditions = endpoint.conditions.as_ref();
            if conditions.and_then(|conditions| conditions.ready) == Some(false) {
                unready += 1;
                continue;
            }
            let of_pod = endpoint.target_ref.as_ref();
            let of_pod = of_pod.filter(|it| it.kind.as_deref() == Some("Pod"));
            let pod = of_pod.and_then(|it| it.name.clone());
            found.extend(endpoint.addresses.iter().map(|address| Place {
                address: address.clone(),
                port: number,
                pod: pod.clone(),
            }));
        }
    }
    (found, unready)
}

/// All services that routes ask for.
pub fn wanted(routes: &[Route]) -> BTreeSet<Service> {
    let upstreams = routes.iter().filter_map(|route| match &route.action {
        Action::Forward(forward) => Some(&forward.upstream),
        _ => None,
    });
    upstreams
        .flat_map(|upstream| &upstream.services)
        .map(|one| one.service.clone())
        .collect()
}

/// A route with the pods of its services in their place; `tunnels`: they are reached through the API
/// server, else straight.
pub fn resolved(mut route: Route, known: &Known, tunnels: bool) -> Route {
    if let Action::Forward(forward) = &mut route.action {
        let services = std::mem::take(&mut forward.upstream.services);
        if !services.is_empty() {
            for endpoint in &mut forward.upstream.endpoints {
                endpoint.weight = endpoint.weight.saturating_mul(WHOLE);
            }
        }
        for one in &services {
            add(&mut forward.upstream, one, known, tunnels);
        }
    }
    route
}

fn add(upstream: &mut Upstream, one: &ServiceUpstream, known: &Known, tunnels: bool) {
    let service = &one.service;
    // What names its cluster is not in ours.
    let tunnels = tunnels || service.cluster.is_some();
    let (endpoints, lack) = match known.found.get(service) {
        Some(found) => through(found, one, tunnels),
        None => unseen(one, known, tunnels),
    };
    upstream.endpoints.extend(endpoints);
    if let Some(lack) = lack {
        upstream.lack = Some(lack.into());
    }
}

fn through(found: &Found, one: &ServiceUpstream, tunnels: bool) -> (Vec<Endpoint>, Option<String>) {
    let places = found.places.iter();
    let places: Vec<&Place> = match tunnels {
        true => places.filter(|place| place.pod.is_some()).collect(),
        false => places.collect(),
    };
    let lack = match (places.is_empty(), found.places.is_empty()) {
        (false, _) => None,
        (true, true) => Some(found.lack.clone()),
        (true, false) => Some(format!(
            "what service {} has are no pods, and a tunnel leads to pods only",
            one.service
        )),
    };
    // The service has its share, however many pods it is.
    let share = u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
    let weight = match one.weight {
        0 => 0,
        weight => (weight.saturating_mul(WHOLE) / share).max(1),
    };
    let made = |place: &Place| Endpoint {
        host: place.address.as_str().into(),
        port: place.port,
        weight,
        target: one.target.clone(),
        tier: one.tier,
        as_host: None,
        pod: place.pod.as_deref().filter(|_| tunnels).map(|name| {
            Arc::new(Pod {
                cluster: one.service.cluster.clone(),
                namespace: one.service.namespace.clone(),
                name: name.into(),
            })
        }),
        plain: false,
    };
    (places.into_iter().map(made).collect(), lack)
}

/// Divided among the pods of a service of weight 1.
const WHOLE: u32 = 5040;

/// In a cluster a service has a name that leads to it also for those who may not watch.
fn unseen(one: &ServiceUpstream, known: &Known, tunnels: bool) -> (Vec<Endpoint>, Option<String>) {
    let service = &one.service;
    if let (false, Ok(port)) = (tunnels, service.port.parse()) {
        let endpoint = Endpoint {
            host: format!("{}.{}.svc", service.name, service.namespace).into(),
            port,
            weight: one.weight.saturating_mul(WHOLE),
            target: one.target.clone(),
            tier: one.tier,
            as_host: None,
            pod: None,
            plain: false,
        };
        return (vec![endpoint], None);
    }
    let lack = match known.trouble.get(&service.cluster) {
        Some(trouble) => format!("service {service} is not known: {trouble}"),
        None => format!("service {service} is being looked for"),
    };
    (Vec::new(), Some(lack))
}

#[cfg(test)]
mod tests;
