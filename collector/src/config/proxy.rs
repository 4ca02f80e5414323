//! The section `proxy`: its keys, and from them to what the ingress proxy is told.
//! Must not know how the proxy obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::{
    self, AccessLog, Action, Certificate, Cidr, Forward, Host, Ingress, Protocol,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::access::contents;
use super::duration::Span;
use super::files;
use super::node::{Node, NodeError};
use super::sections::address;

/// Where our authority is kept, below `data_dir`.
const AUTHORITY: &str = "authority";

/// The ingress proxy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Address and port for HTTP without TLS.
    #[serde(default, deserialize_with = "maybe_address")]
    #[schemars(with = "Option<String>", extend("examples" = ["127.0.0.1:8081"]))]
    listen: Option<SocketAddr>,
    /// HTTPS.
    #[serde(default)]
    tls: Option<Tls>,
    /// Threads that carry requests; one a core where 0.
    #[serde(default)]
    workers: usize,
    /// Which requests go where: the most specific host, then the longest path, then the most
    /// headers.
    #[serde(default)]
    routes: Vec<Route>,
    /// Addresses (`10.0.0.0/8`) whose `X-Forwarded-For` and PROXY headers are believed.
    #[serde(default)]
    trusted: Vec<String>,
    /// Each connection begins with a PROXY header (version 1 or 2), and only those of `trusted`
    /// are taken.
    #[serde(default)]
    proxy_protocol: bool,
    /// Bounds.
    #[serde(default)]
    limits: Limits,
    /// How long clients are waited for.
    #[serde(default)]
    patience: Patience,
    /// How long upstreams are waited for, where a route says nothing.
    #[serde(default)]
    timeouts: Timeouts,
    /// At SIGTERM, how long requests and upgraded connections have to finish.
    #[serde(default = "drain")]
    drain: Span,
    /// What is written to the standard output of each request.
    #[serde(default)]
    access_log: LogForm,
    /// The share of good requests that is logged; failed ones always are.
    #[serde(default = "all")]
    #[schemars(range(min = 0.0, max = 1.0))]
    access_log_sample: f64,
    /// Ingress objects of a cluster are obeyed too.
    #[serde(default)]
    kubernetes: Option<Kubernetes>,
}

fn drain() -> Span {
    Span(Duration::from_secs(20))
}

fn all() -> f64 {
    1.0
}

fn maybe_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

/// HTTPS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Address and port.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String", extend("examples" = ["127.0.0.1:8443"]))]
    listen: SocketAddr,
    /// Shown by the names that stand in them; the first to whoever asks for another name.
    /// Followed when the files change; a broken one leaves the one before in force.
    #[serde(default)]
    certificates: Vec<Files>,
    /// Names below `localhost` and `nip.io` that have no certificate get one of an authority of
    /// our own in `data_dir`; `comind-ops tls trust` says how to make browsers believe it.
    #[serde(default)]
    local_authority: bool,
    /// PEM file with who signs clients' certificates; then all must show one.
    #[serde(default)]
    client_ca_file: Option<PathBuf>,
    /// Plain HTTP is answered with a redirect to HTTPS, whatever the route.
    #[serde(default)]
    redirect: bool,
    /// Browsers are told to use HTTPS alone for so long.
    #[serde(default)]
    hsts: Option<Span>,
}

/// A certificate with its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// PEM file with the certificate, followed by those that lead to its authority.
    cert_file: PathBuf,
    /// PEM file with its key.
    key_file: PathBuf,
}

/// Requests of one kind, and what becomes of them: one of `upstream`, `redirect`, `respond`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in metrics and logs; host and path where not given.
    #[serde(default)]
    name: Option<String>,
    /// Host name, `*.example.org`, or `*` for any.
    host: String,
    /// Path.
    #[serde(default = "root")]
    path: String,
    /// Whether `path` is for itself and what lies below it, for itself alone, or a regular
    /// expression.
    #[serde(default)]
    path_type: PathType,
    /// Only requests with all of these headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Where they go: a URL, or a list of URLs or maps with `url`, `weight` and `target`. With
    /// `http://`, `https://`, `h2c://` (HTTP/2 without TLS, for gRPC), or
    /// `service://NAMESPACE/NAME:PORT`.
    #[serde(default)]
    upstream: Option<Upstreams>,
    /// About TLS towards `https://` upstreams.
    #[serde(default)]
    upstream_tls: UpstreamTls,
    /// Connections to the upstream begin with a PROXY header of this version.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2))]
    send_proxy: Option<u8>,
    /// The target of `targets` that watches the upstream: while it is down, requests go elsewhere.
    #[serde(default)]
    target: Option<String>,
    /// They are sent elsewhere.
    #[serde(default)]
    redirect: Option<Redirect>,
    /// They are answered here.
    #[serde(default)]
    respond: Option<Respond>,
    /// What is changed on the way.
    #[serde(default)]
    rewrite: Rewrite,
    /// Only clients with these addresses.
    #[serde(default)]
    allow: Vec<String>,
    /// Plain HTTP is answered with a redirect to HTTPS.
    #[serde(default)]
    https_only: bool,
    /// The largest body of a request, in MiB.
    #[serde(default)]
    max_body_mib: Option<u64>,
    /// How long the upstream is waited for.
    #[serde(default)]
    timeouts: Option<Timeouts>,
}

fn root() -> String {
    "/".to_owned()
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathType {
    /// This one and those below it.
    #[default]
    Prefix,
    /// This one alone.
    Exact,
    /// A regular expression, from the beginning of the path.
    Regex,
}

/// One URL, or several.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Upstreams {
    /// One.
    One(String),
    /// Several: requests go to the better of two that are drawn by weight.
    Many(Vec<Endpoint>),
}

impl<'de> Deserialize<'de> for Upstreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Upstreams;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Upstreams, E> {
                Ok(Upstreams::One(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Upstreams, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Upstreams::Many(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// One of several upstreams.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where it is.
    url: String,
    /// Its share beside the others; 0 gets nothing.
    #[serde(default = "one")]
    weight: u32,
    /// The target that watches it.
    #[serde(default)]
    target: Option<String>,
}

fn one() -> u32 {
    1
}

/// TLS towards upstreams.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM file with its authority, in place of the system's.
    ca_file: Option<PathBuf>,
    /// The name that its certificate must have.
    name: Option<String>,
    /// Whatever it shows is good.
    insecure: bool,
}

/// They are sent elsewhere.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// A URL or a path; `$path` stands for the path and query that was asked for.
    to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    status: u16,
}

fn found() -> u16 {
    302
}

/// They are answered here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// The status.
    #[serde(default = "good")]
    status: u16,
    /// The text.
    #[serde(default)]
    body: String,
}

fn good() -> u16 {
    200
}

/// What is changed on the way.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Takes the place of the route's path; with `$1`, … where that is a regular expression.
    path: Option<String>,
    /// `Host` for the upstream, in place of the client's.
    host: Option<String>,
    /// Headers of the request.
    request: Headers,
    /// Headers of the answer.
    response: Headers,
}

/// Headers that are changed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Set, in place of what is there.
    set: BTreeMap<String, String>,
    /// Removed.
    remove: Vec<String>,
}

/// Bounds; a client is an address, or a /64 of IPv6.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections.
    connections: usize,
    /// Open connections of one client.
    connections_per_client: usize,
    /// Requests a second of one client; unlimited where not given.
    requests_per_second: Option<u32>,
    /// Requests at once of one client after a rest.
    burst: u32,
    /// The head of a request, in KiB.
    head_kib: usize,
    /// The body of a request, in MiB; unlimited where not given.
    max_body_mib: Option<u64>,
    /// Requests under way on one HTTP/2 connection.
    streams: u32,
    /// Connections to one upstream endpoint, for each worker.
    upstream_connections: usize,
    /// Requests that wait for one of those, for each worker.
    pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = ingress::Limits::default();
        Self {
            connections: limits.connections,
            connections_per_client: limits.connections_per_client,
            requests_per_second: limits.requests_per_second,
            burst: limits.burst,
            head_kib: limits.head_bytes / 1024,
            max_body_mib: None,
            streams: limits.streams,
            upstream_connections: limits.upstream_connections,
            pending: limits.pending,
        }
    }
}

impl Limits {
    fn read(&self) -> ingress::Limits {
        ingress::Limits {
            connections: self.connections,
            connections_per_client: self.connections_per_client,
            requests_per_second: self.requests_per_second,
            burst: self.burst,
            head_bytes: self.head_kib.clamp(8, 1024) * 1024,
            body_bytes: self.max_body_mib.map(mib),
            streams: self.streams,
            upstream_connections: self.upstream_connections.max(1),
            pending: self.pending,
        }
    }
}

fn mib(count: u64) -> u64 {
    count.saturating_mul(1024 * 1024)
}

/// How long clients are waited for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// For TLS and PROXY headers.
    handshake: Span,
    /// From the first byte of a head to its last.
    head: Span,
    /// Between two pieces of a body.
    body: Span,
    /// Between two requests.
    idle: Span,
}

impl Default for Patience {
    fn default() -> Self {
        let ingress::Patience {
            handshake,
            head,
            body,
            idle,
        } = ingress::Patience::default();
        Self {
            handshake: Span(handshake),
            head: Span(head),
            body: Span(body),
            idle: Span(idle),
        }
    }
}

/// How long upstreams are waited for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a connection, TLS included.
    connect: Span,
    /// For the head of an answer.
    first_byte: Span,
    /// Between two pieces of a body.
    idle: Span,
    /// Between two pieces of a stream of events, a gRPC call, a WebSocket.
    stream_idle: Span,
    /// For all of a plain request; for ever where not given.
    total: Option<Span>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let timeouts = ingress::Timeouts::default();
        Self {
            connect: Span(timeouts.connect),
            first_byte: Span(timeouts.first_byte),
            idle: Span(timeouts.idle),
            stream_idle: Span(timeouts.stream_idle),
            total: timeouts.total.map(Span),
        }
    }
}

impl Timeouts {
    fn read(self) -> ingress::Timeouts {
        ingress::Timeouts {
            connect: self.connect.0,
            first_byte: self.first_byte.0,
            idle: self.idle.0,
            stream_idle: self.stream_idle.0,
            total: self.total.map(|total| total.0),
        }
    }
}

/// What is written of each request.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogForm {
    /// Nothing.
    #[default]
    Off,
    /// A JSON object a line.
    Json,
    /// The common log format.
    Common,
}

/// Ingress objects of a cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// A kubeconfig; without one, the service account of the pod that this runs in.
    #[serde(default)]
    kubeconfig: Option<PathBuf>,
    /// Only in these namespaces; in all where empty.
    #[serde(default)]
    namespaces: Vec<String>,
    /// The ingress classes that are ours.
    #[serde(default = "classes")]
    classes: Vec<String>,
    /// Addresses or host names that are written into the status of Ingress objects.
    #[serde(default)]
    status: Vec<String>,
}

fn classes() -> Vec<String> {
    ["comind", "nginx"].map(str::to_owned).into()
}

/// What the section says; reads the files that it names and adds them to `files`.
/// `node` is the section with the paths in it resolved.
pub(super) fn read(
    node: &Node,
    data_dir: &Path,
    files: &mut BTreeSet<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Ingress, NodeError> {
    files.extend(files::fingerprints(node).into_iter().map(|(path, _)| path));
    let section: Proxy = node.read()?;
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
    let routes = section.routes(at("routes"), warnings)?;
    Ok(Ingress {
        listen: listen.iter().copied().collect(),
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
        kubernetes: section.kubernetes.map(|it| ingress::Controller {
            kubeconfig: it.kubeconfig,
            namespaces: it.namespaces,
            classes: it.classes,
            status: it.status,
        }),
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
            own_authority: self.local_authority.then(|| data_dir.join(AUTHORITY)),
        })
    }
}

fn ranges(texts: &[String]) -> Result<Vec<Cidr>, String> {
    texts.iter().map(|text| text.parse()).collect()
}

impl Proxy {
    fn routes(
        &self,
        node: &Node,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<ingress::Route>, NodeError> {
        let mut names = BTreeSet::new();
        let mut routes = Vec::new();
        for (number, route) in self.routes.iter().enumerate() {
            let at = node.item(number).unwrap_or(node);
            let made = self.route(route).map_err(|problem| at.error(problem))?;
            if !names.insert(made.name.clone()) {
                let problem = format!("there are two routes `{}`; give one a `name`", made.name);
                return Err(at.error(problem));
            }
            if route.is_service() {
                let text = "`service://` is reached by the name of the service: that works in a cluster only";
                warnings.push(at.error(text).to_string());
            }
            routes.push(made);
        }
        Ok(routes)
    }

    fn route(&self, route: &Route) -> Result<ingress::Route, String> {
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
        }
    }
}

impl Route {
    fn is_service(&self) -> bool {
        matches!(&self.upstream, Some(Upstreams::One(url)) if url.starts_with("service://"))
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
        let mut endpoints = Vec::new();
        let mut spoken = None;
        for (url, weight, target) in all {
            let (protocol, host, port) = place(url)?;
            if spoken.is_some_and(|spoken| spoken != protocol) {
                return Err("all upstreams of a route are of one scheme".to_owned());
            }
            spoken = Some(protocol);
            let target = target.as_deref().map(Arc::from);
            endpoints.push(ingress::Endpoint {
                host: host.into(),
                port,
                weight,
                target,
            });
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

/// What is spoken, host and port of an upstream's URL.
fn place(text: &str) -> Result<(Protocol, String, u16), String> {
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
    if url.scheme() == "service" {
        let (name, port) = url
            .path()
            .trim_start_matches('/')
            .rsplit_once(':')
            .ok_or(hint)?;
        let port = port.parse().map_err(|_| hint)?;
        return Ok((Protocol::Http, format!("{name}.{host}.svc"), port));
    }
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
        false => Ok((protocol, host.to_owned(), port)),
    }
}
