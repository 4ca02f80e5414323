//! The section `proxy`: its keys, their defaults, their words in the schema. What is made of them
//! is in `read`.

mod gateway;
mod identity;
mod kubernetes;
pub mod login;
mod read;
mod session_events;
mod tunnels;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use comind_model::ingress;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

pub(super) use self::read::read;
use super::duration::Span;
use super::sections::address;

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
    /// Ways to log in, by name; a route says which with `login`.
    #[serde(default)]
    logins: BTreeMap<String, login::Login>,
    /// Sessions at once; further ones are refused.
    #[serde(default = "most_sessions")]
    max_sessions: usize,
    /// What happens to sessions is told to a cluster as Events.
    #[serde(default)]
    session_events: Option<session_events::SessionEvents>,
    /// Ingress objects of a cluster are obeyed too.
    #[serde(default)]
    kubernetes: Option<Kubernetes>,
    /// Services of routes are reached by tunnels. Without it, straight: that works in their cluster.
    #[serde(default)]
    tunnels: Option<tunnels::Tunnels>,
}

fn drain() -> Span {
    Span(Duration::from_secs(20))
}

fn most_sessions() -> usize {
    100_000
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
    /// PEM file with who signs clients' certificates; then all must show one, unless
    /// `client_optional`.
    #[serde(default)]
    client_ca_file: Option<PathBuf>,
    /// Who shows none is let in all the same; routes with a `certificate` login ask for one.
    #[serde(default)]
    client_optional: bool,
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
    /// `service://NAMESPACE/NAME:PORT`, the ready pods of a service; PORT is its number or name.
    /// `services://` and `serviceh2c://` are the same with TLS, or with HTTP/2.
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
    /// One of `logins`: who is not logged in by it does not get to the upstream.
    #[serde(default)]
    login: Option<String>,
    /// Who has one of these roles by that login may come; whoever is logged in where empty.
    #[serde(default)]
    roles: Vec<String>,
    /// Who has this right by that login may come.
    #[serde(default)]
    access: Option<kubernetes::Access>,
    /// What the upstream is told of who asks, beside `X-Auth-Request-*`.
    #[serde(default)]
    identity: Option<identity::Identity>,
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
    /// Gateways (`gateway.networking.k8s.io`) are obeyed too.
    #[serde(default)]
    gateway: Option<gateway::Gateway>,
}

fn classes() -> Vec<String> {
    ["comind", "nginx"].map(str::to_owned).into()
}
