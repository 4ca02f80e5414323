//! What the proxy of a session is told. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use comind_model::ingress::{
    AccessLog, Action, Endpoint, Forward, Host, Ingress, Limits, LogForm, Path, Patience, Protocol,
    Rewrite, Route, ServiceUpstream, Timeouts, Tls, Upstream, UpstreamTls,
};

use super::choose::{Way, Ways};
use super::profile::Profile;
use super::wish::{Site, Wish};

/// For a connection: an API server that starts again, and a network that is away for a moment, are
/// waited for.
const CONNECT: Duration = Duration::from_secs(30);
/// What is under way has so long at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// What gRPC calls say that they are, also those for browsers (`argocd --grpc-web`).
const CALLS: [&str; 4] = [
    "application/grpc",
    "application/grpc+proto",
    "application/grpc-web",
    "application/grpc-web+proto",
];

/// Everything, with these routes to services.
pub fn everything(wish: &Wish, page_at: SocketAddr, services: Vec<Route>) -> Ingress {
    let start = |host: &str| {
        let endpoint = Endpoint::plain(page_at.ip().to_string().into(), page_at.port());
        let page = upstream(Protocol::Http, vec![endpoint], Vec::new());
        route(host, page)
    };
    let mut routes = vec![start("localhost"), start("127.0.0.1")];
    routes.extend(services);
    Ingress {
        listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), wish.port)],
        listen_tls: Vec::new(),
        tls: Tls::default(),
        workers: 1,
        routes,
        trusted: Vec::new(),
        proxy_protocol: false,
        limits: Limits::default(),
        patience: Patience::default(),
        drain: DRAIN,
        access_log: AccessLog {
            form: LogForm::Off,
            sample: 1.0,
        },
        kubernetes: None,
        logins: None,
        tunnels: None,
    }
}

/// What has been found of a service.
#[derive(Debug)]
pub struct Found<'a> {
    /// Which ways work.
    pub ways: &'a Ways,
    /// The Service's own address.
    pub direct: Option<&'a (String, u16)>,
    /// It speaks TLS itself; the ingress before it does not.
    pub tls: bool,
}

/// The routes to a service; `alone`: there is one cluster only.
pub fn routes(site: &Site, profile: &Profile, found: &Found<'_>, alone: bool) -> Vec<Route> {
    let upstream = ways(site, profile, found);
    let own = site.host(profile);
    let mut all = vec![route(&own, upstream.clone())];
    if let Some(below) = &profile.below {
        all.push(taking_away(below, &own, upstream.clone()));
    }
    if profile.needs.calls && alone {
        for host in ["localhost", "127.0.0.1"] {
            all.extend(CALLS.map(|kind| Route {
                name: own.as_str().into(),
                headers: vec![("content-type".to_owned(), kind.to_owned())],
                ..route(host, upstream.clone())
            }));
        }
    }
    all
}

/// Those that work, the best first; a tunnel in any case, which then says why there is none.
fn ways(site: &Site, profile: &Profile, found: &Found<'_>) -> Upstream {
    let mut endpoints = Vec::new();
    if let Some(at) = site.ingress.filter(|_| found.ways.is_usable(Way::Ingress)) {
        endpoints.push(Endpoint {
            plain: true,
            ..tier(at.ip().to_string(), at.port(), Way::Ingress)
        });
    }
    if let Some((host, port)) = found.direct.filter(|_| found.ways.is_usable(Way::Service)) {
        endpoints.push(tier(host.clone(), *port, Way::Service));
    }
    let service = ServiceUpstream {
        service: profile.service.clone(),
        weight: 1,
        target: None,
        tier: Way::Tunnel as u8,
    };
    let protocol = match found.tls {
        true => Protocol::Https,
        false => Protocol::Http,
    };
    upstream(protocol, endpoints, vec![service])
}

fn tier(host: String, port: u16, way: Way) -> Endpoint {
    Endpoint {
        tier: way as u8,
        ..Endpoint::plain(host.into(), port)
    }
}

fn upstream(
    protocol: Protocol,
    endpoints: Vec<Endpoint>,
    services: Vec<ServiceUpstream>,
) -> Upstream {
    Upstream {
        protocol,
        endpoints,
        services,
        tls: UpstreamTls {
            // Who it is has been proved by the API server that leads there; its certificate is
            // commonly one that it has made for itself.
            insecure: protocol == Protocol::Https,
            ..UpstreamTls::default()
        },
        send_proxy: None,
        lack: None,
    }
}

fn route(host: &str, upstream: Upstream) -> Route {
    route_of(host, "/", upstream, Rewrite::default())
}

/// A route below a path that its upstream does not see.
fn taking_away(below: &str, host: &str, upstream: Upstream) -> Route {
    let rewrite = Rewrite {
        path: Some("/".to_owned()),
        ..Rewrite::default()
    };
    route_of(host, below, upstream, rewrite)
}

fn route_of(host: &str, path: &str, upstream: Upstream, rewrite: Rewrite) -> Route {
    let action = Action::Forward(Box::new(Forward {
        upstream,
        rewrite,
        timeouts: Timeouts {
            connect: CONNECT,
            ..Timeouts::default()
        },
    }));
    let path = Path::Prefix(path.to_owned());
    Route::open(host, Host::Exact(host.to_owned()), path, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::profile;

    fn site(label: Option<&str>) -> Site {
        let at = ([127, 0, 0, 1], 80).into();
        let cluster = comind_model::ingress::Cluster::default();
        let label = label.map(str::to_owned);
        Site::new(label, cluster, Some(at), profile::known("dev"))
    }

    fn argocd(site: &Site, tls: bool, alone: bool) -> Vec<Route> {
        let mut ways = Ways::default();
        for way in Way::ALL {
            ways.take(way, Ok(String::new()));
            ways.take(way, Ok(String::new()));
        }
        let found = Found {
            ways: &ways,
            direct: Some(&("10.0.0.1".to_owned(), 80)),
            tls,
        };
        let argocd = site.profiles.iter().find(|one| one.name == "argocd");
        routes(site, argocd.unwrap(), &found, alone)
    }

    fn upstream_of(route: &Route) -> Upstream {
        match &route.action {
            Action::Forward(forward) => forward.upstream.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_speaks_tls_is_talked_to_so_and_its_ingress_is_not() {
        let routes = argocd(&site(None), true, true);
        let to = upstream_of(&routes[0]);
        assert_eq!((to.protocol, to.tls.insecure), (Protocol::Https, true));
        let plain: Vec<bool> = to.endpoints.iter().map(|one| one.plain).collect();
        assert_eq!(plain, [true, false]);
        let to = upstream_of(&argocd(&site(None), false, true)[0]);
        assert_eq!((to.protocol, to.tls.insecure), (Protocol::Http, false));
    }

    #[test]
    fn calls_to_localhost_are_for_the_one_that_is_called() {
        let routes = argocd(&site(None), false, true);
        assert_eq!(routes.len(), 1 + 2 * CALLS.len());
        assert!(routes[1..].iter().all(|route| route.headers.len() == 1));
        // Which of several would it be?
        let routes = argocd(&site(Some("work")), false, false);
        assert_eq!(routes.len(), 1);
        let host = Host::Exact("argocd.work.localhost".to_owned());
        assert_eq!(routes[0].host, host);
    }
}
