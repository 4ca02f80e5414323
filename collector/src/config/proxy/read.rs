//! From the section `proxy` as it is written to what the ingress proxy is told: addresses, ranges
//! and URLs are checked, files are read. Must not know how the proxy obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comind_model::ingress::{
    self, AccessLog, Action, Certificate, Cidr, Forward, Host, Ingress, Protocol,
};
use comind_model::login::{Demand, Logins};

use super::{Files, LogForm, PathType, Proxy, Rewrite, Route, Tls, Upstreams, gateway, login, mib};
use crate::config::access::contents;
use crate::config::files;
use crate::config::node::{Node, NodeError};

/// Where our authority is kept, below `data_dir`.
const AUTHORITY: &str = "authority";

/// What the section says; reads the files that it names and adds them to `files`.
/// `node` is the section with the paths in it resolved.
pub(in crate::config) fn read(
    node: &Node,
    data_dir: &Path,
    files: &mut BTreeSet<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Ingress, NodeError> {
    files.extend(files::fingerprints(node).into_iter().map(|(path, _)| path));
    let mut section: Proxy = node.read()?;
    let events = section.session_events.take();
    let at = |key: &str| node.get(key).unwrap_or(node);
    let Proxy { listen, tls, .. } = &section;
    if listen.is_none() && tls.is_none() {
        return Err(node.error("`listen` is missing; write an address such as 127.0.0.1:8081"));
    }
    if let Some(listen) = listen.filter(|listen| !listen.ip().is_loopback() && tls.is_none()) {
        let text =
            format!("`proxy.listen` {listen} is open beyond this machine without TLS; set `tls`");
        warnings.push(at("listen").error(text).to_string());
    }
    if !(0.0..=1.0).contains(&section.access_log_sample) {
        return Err(at("access_log_sample").error("a share lies between 0 and 1"));
    }
    let trusted = ranges(&section.trusted).map_err(|problem| at("trusted").error(problem))?;
    if section.proxy_protocol && trusted.is_empty() {
        return Err(at("proxy_protocol")
            .error("`proxy_protocol` needs `trusted`, who may send its headers"));
    }
    let made = match tls {
        Some(tls) => tls
            .read(data_dir, section.kubernetes.is_some())
            .map_err(|problem| at("tls").error(problem))?,
        None => ingress::Tls::default(),
    };
    let certificates = made.client_authorities.is_some();
    let (most, at_logins) = (section.max_sessions, at("logins"));
    let tunnels = section.cluster();
    let (written, tunnelled) = (&section.logins, tunnels.as_ref());
    let mut logins = login::read(written, most, data_dir, at_logins, certificates, tunnelled)?;
    if let Some(events) = events {
        let at = at("session_events");
        let logins = logins.as_mut();
        let logins = logins.ok_or_else(|| at.error("there are no sessions without `logins`"))?;
        logins.events = Some(events.read().map_err(|problem| at.error(problem))?);
    }
    let routes = section.routes(at("routes"), logins.as_ref(), warnings)?;
    if let Some(logins) = &mut logins {
        keep_tokens(logins, &routes);
    }
    let of_cluster = section.kubernetes.as_ref();
    let gateway = of_cluster.and_then(|it| it.gateway.as_ref());
    let more = gateway.map(|it| it.listen.clone()).unwrap_or_default();
    let gateway = gateway.map(gateway::Gateway::read).transpose();
    let gateway = gateway.map_err(|problem| at("kubernetes").error(problem))?;
    Ok(Ingress {
        listen: listen.iter().copied().chain(more).collect(),
        listen_tls: tls.iter().map(|tls| tls.listen).collect(),
        tls: made,
        workers: section.workers,
        routes,
        trusted,
        proxy_protocol: section.proxy_protocol,
        limits: section.limits.read(),
        patience: ingress::Patience {
            handshake: section.patience.handshake.0,
            head: section.patience.head.0,
            body: section.patience.body.0,
            idle: section.patience.idle.0,
        },
        drain: section.drain.0,
        access_log: AccessLog {
            form: match section.access_log {
                LogForm::Off => ingress::LogForm::Off,
                LogForm::Json => ingress::LogForm::Json,
                LogForm::Common => ingress::LogForm::Common,
            },
            sample: section.access_log_sample,
        },
        tunnels,
        kubernetes: section.kubernetes.map(|it| ingress::Controller {
            kubeconfig: it.kubeconfig,
            namespaces: it.namespaces,
            classes: it.classes,
            status: it.status,
            gateway,
        }),
        logins,
    })
}

impl Tls {
    fn read(&self, data_dir: &Path, from_cluster: bool) -> Result<ingress::Tls, String> {
        if self.certificates.is_empty() && !self.local_authority && !from_cluster {
            return Err(
                "give `certificates`, or `local_authority: true` for local names".to_owned(),
            );
        }
        let certificate = |files: &Files| {
            Ok::<_, String>(Certificate {
                chain: contents("cert_file", &files.cert_file)?.into(),
                key: contents("key_file", &files.key_file)?.into(),
                source: files.cert_file.display().to_string().into(),
            })
        };
        let authorities = self
            .client_ca_file
            .as_ref()
            .map(|file| contents("client_ca_file", file));
        Ok(ingress::Tls {
            certificates: self
                .certificates
                .iter()
                .map(certificate)
                .collect::<Result<_, _>>()?,
            client_authorities: authorities.transpose()?.map(Arc::from),
            client_optional: self.client_optional,
            own_authority: self.local_authority.then(|| data_dir.join(AUTHORITY)),
        })
    }
}

/// Logins of which a route hands on what was shown have their sessions keep it.
fn keep_tokens(logins: &mut Logins, routes: &[ingress::Route]) {
    let demands = routes.iter().filter_map(|route| route.demand.as_ref());
    for demand in demands.filter(|demand| demand.tell.token.is_some()) {
        if let Some(login) = logins.all.get_mut(&demand.login) {
            login.keep_token = true;
        }
    }
}

fn ranges(texts: &[String]) -> Result<Vec<Cidr>, String> {
    texts.iter().map(|text| text.parse()).collect()
}

impl Proxy {
    /// The cluster that is asked from outside of it.
    fn cluster(&self) -> Option<ingress::Cluster> {
        self.tunnels
            .as_ref()
            .map(super::tunnels::Tunnels::read)
            .or({
                // Whoever watches Ingress objects from outside of the cluster is outside for these as well.
                let kubeconfig = self.kubernetes.as_ref();
                let kubeconfig = kubeconfig.and_then(|it| it.kubeconfig.clone());
                kubeconfig.map(|file| ingress::Cluster {
                    kubeconfig: Some(file),
                    context: None,
                })
            })
    }

    fn routes(
        &self,
        node: &Node,
        logins: Option<&Logins>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<ingress::Route>, NodeError> {
        let mut names = BTreeSet::new();
        let mut routes = Vec::new();
        for (number, route) in self.routes.iter().enumerate() {
            let at = node.item(number).unwrap_or(node);
            let mut made = self
                .route(route, logins)
                .map_err(|problem| at.error(problem))?;
            route.demands_more(at, logins, made.demand.as_mut())?;
            if !names.insert(made.name.clone()) {
                let problem = format!("there are two routes `{}`; give one a `name`", made.name);
                return Err(at.error(problem));
            }
            let open = self.listen.is_some_and(|listen| !listen.ip().is_loopback());
            if made.demand.is_some() && open && !made.https_only {
                let text = "a login without TLS shows passwords and cookies to whoever is between; set `https_only`";
                warnings.push(at.error(text).to_string());
            }
            routes.push(made);
        }
        Ok(routes)
    }

    fn route(&self, route: &Route, logins: Option<&Logins>) -> Result<ingress::Route, String> {
        if !matches!(route.path_type, PathType::Regex) && !route.path.starts_with('/') {
            return Err(format!("`{}` is no path; it begins with `/`", route.path));
        }
        let host: Host = route.host.parse()?;
        let tls = self.tls.as_ref();
        if route.https_only && tls.is_none() {
            return Err("`https_only` needs `proxy.tls`".to_owned());
        }
        Ok(ingress::Route {
            name: match &route.name {
                Some(name) => name.as_str().into(),
                None => format!("{}{}", route.host, route.path).into(),
            },
            host,
            path: match route.path_type {
                PathType::Prefix => ingress::Path::Prefix(route.path.clone()),
                PathType::Exact => ingress::Path::Exact(route.path.clone()),
                PathType::Regex => ingress::Path::Regex(route.path.clone()),
            },
            headers: pairs(&route.headers),
            allow: ranges(&route.allow)?,
            https_only: route.https_only || tls.is_some_and(|tls| tls.redirect),
            hsts: tls.and_then(|tls| tls.hsts).map(|age| age.0),
            body_limit: route.max_body_mib.map(mib),
            demand: login::demand(route, logins)?,
            action: self.action(route)?,
        })
    }

    fn action(&self, route: &Route) -> Result<Action, String> {
        match (&route.upstream, &route.redirect, &route.respond) {
            (Some(upstreams), None, None) => Ok(Action::Forward(Box::new(Forward {
                upstream: route.upstream(upstreams)?,
                rewrite: route.rewrite.read(),
                timeouts: route.timeouts.unwrap_or(self.timeouts).read(),
            }))),
            (None, Some(redirect), None) => match redirect.status {
                301 | 302 | 303 | 307 | 308 => Ok(Action::Redirect {
                    to: redirect.to.clone(),
                    status: redirect.status,
                }),
                other => Err(format!(
                    "{other} is no redirect; write 301, 302, 303, 307 or 308"
                )),
            },
            (None, None, Some(respond)) => match respond.status {
                200..=599 => Ok(Action::Respond {
                    status: respond.status,
                    body: respond.body.as_str().into(),
                }),
                other => Err(format!(
                    "{other} is no status of an answer; write 200 to 599"
                )),
            },
            _ => Err("a route has one of `upstream`, `redirect` and `respond`".to_owned()),
        }
    }
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

impl Rewrite {
    fn read(&self) -> ingress::Rewrite {
        ingress::Rewrite {
            path: self.path.clone(),
            host: self.host.clone(),
            request_set: pairs(&self.request.set),
            request_remove: self.request.remove.clone(),
            response_set: pairs(&self.response.set),
            response_remove: self.response.remove.clone(),
            ..ingress::Rewrite::default()
        }
    }
}

impl Route {
    /// What it demands beyond a login, and what it has its upstream told.
    fn demands_more(
        &self,
        node: &Node,
        logins: Option<&Logins>,
        demand: Option<&mut Demand>,
    ) -> Result<(), NodeError> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let Some(demand) = demand else {
            return match (&self.access, &self.identity) {
                (None, None) => Ok(()),
                (Some(_), _) => Err(at("access").error("`access` needs a `login`")),
                (_, Some(_)) => Err(at("identity").error("`identity` needs a `login`")),
            };
        };
        let login = logins.and_then(|logins| logins.all.get(&demand.login));
        if let (Some(access), Some(login)) = (&self.access, login) {
            demand.right = Some(Arc::new(access.read(at("access"), login)?));
        }
        if let (Some(identity), Some(login)) = (&self.identity, login) {
            demand.tell = identity.read(at("identity"), login)?;
        }
        Ok(())
    }

    fn upstream(&self, upstreams: &Upstreams) -> Result<ingress::Upstream, String> {
        let all = match upstreams {
            Upstreams::One(url) => vec![(url, 1, &self.target)],
            Upstreams::Many(many) => many
                .iter()
                .map(|one| {
                    (
                        &one.url,
                        one.weight,
                        one.target.as_ref().map_or(&self.target, |_| &one.target),
                    )
                })
                .collect(),
        };
        if all.is_empty() {
            return Err("`upstream` is empty".to_owned());
        }
        let (mut endpoints, mut services) = (Vec::new(), Vec::new());
        let mut spoken = None;
        for (url, weight, target) in all {
            let (protocol, place) = place(url)?;
            if spoken.is_some_and(|spoken| spoken != protocol) {
                return Err("all upstreams of a route are of one scheme".to_owned());
            }
            spoken = Some(protocol);
            let target = target.as_deref().map(Arc::from);
            match place {
                Place::At(host, port) => endpoints.push(ingress::Endpoint {
                    weight,
                    target,
                    ..ingress::Endpoint::plain(host.into(), port)
                }),
                Place::Of(service) => services.push(ingress::ServiceUpstream {
                    service,
                    weight,
                    target,
                    tier: 0,
                }),
            }
        }
        if self
            .send_proxy
            .is_some_and(|version| !(1..=2).contains(&version))
        {
            return Err("`send_proxy` is 1 or 2".to_owned());
        }
        let authority = self
            .upstream_tls
            .ca_file
            .as_ref()
            .map(|file| contents("ca_file", file));
        Ok(ingress::Upstream {
            protocol: spoken.unwrap_or(Protocol::Http),
            endpoints,
            services,
            tls: ingress::UpstreamTls {
                authority: authority.transpose()?.map(Arc::from),
                name: self.upstream_tls.name.as_deref().map(Arc::from),
                insecure: self.upstream_tls.insecure,
            },
            send_proxy: self.send_proxy,
            lack: None,
        })
    }
}

/// Where an upstream is.
enum Place {
    At(String, u16),
    Of(ingress::Service),
}

/// What is spoken, and where, by an upstream's URL.
fn place(text: &str) -> Result<(Protocol, Place), String> {
    let of_service = [
        ("service://", Protocol::Http),
        ("services://", Protocol::Https),
        ("serviceh2c://", Protocol::H2c),
    ];
    for (scheme, protocol) in of_service {
        if let Some(service) = text.strip_prefix(scheme) {
            let service = service.trim_end_matches('/').parse();
            return Ok((protocol, Place::Of(service?)));
        }
    }
    let hint = "write http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or service://NAMESPACE/NAME:PORT";
    let url = url::Url::parse(text)
        .map_err(|error| format!("the upstream is no URL ({error}); {hint}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an upstream's URL has no user; set the header `authorization` in `rewrite.request.set`".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(format!(
            "an upstream has no path; use `rewrite.path`, and {hint}"
        ));
    }
    let (protocol, default) = match url.scheme() {
        "http" => (Protocol::Http, Some(80)),
        "https" => (Protocol::Https, Some(443)),
        "h2c" => (Protocol::H2c, None),
        other => return Err(format!("`{other}` is no scheme of an upstream; {hint}")),
    };
    let port = url.port().or(default).ok_or(hint)?;
    match host.is_empty() {
        true => Err(hint.to_owned()),
        false => Ok((protocol, Place::At(host.to_owned(), port))),
    }
}
