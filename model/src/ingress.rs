//! What the ingress proxy is told: listeners, routes, upstreams, limits. Values that have been
//! checked; whoever reads a config or a cluster makes them, the proxy obeys them.
//! Must not know where they come from, nor how a request is carried.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::gateway::{Elsewhere, Settings};
use crate::login::{Demand, Logins};

/// Everything that the proxy is told at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingress {
    /// Plain HTTP/1.1 and HTTP/2 without TLS.
    pub listen: Vec<SocketAddr>,
    /// HTTP/1.1 and HTTP/2 over TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// Certificates to show there.
    pub tls: Tls,
    /// Threads that carry requests; one a core where 0.
    pub workers: usize,
    /// Where requests go.
    pub routes: Vec<Route>,
    /// Whose forwarded headers and PROXY headers are believed.
    pub trusted: Vec<Cidr>,
    /// Each connection begins with a PROXY header; only trusted peers may connect.
    pub proxy_protocol: bool,
    /// What one client may use.
    pub limits: Limits,
    /// How long is waited for clients.
    pub patience: Patience,
    /// How long a drain may take.
    pub drain: Duration,
    /// What is logged of requests.
    pub access_log: AccessLog,
    /// Ingress objects of a cluster, where they are wanted.
    pub kubernetes: Option<Controller>,
    /// The cluster of services that routes name, which is reached by tunnels; the one that this runs
    /// in, straight, where none.
    pub tunnels: Option<Cluster>,
    /// Who may pass, where routes ask for it.
    pub logins: Option<Logins>,
}

/// The certificates that the proxy shows, and whose it accepts.
#[derive(Clone, Default, PartialEq)]
pub struct Tls {
    /// The first is shown to whoever asks for a name that none has.
    pub certificates: Vec<Certificate>,
    /// PEM of who signs clients' certificates; then all must show one.
    pub client_authorities: Option<Arc<[u8]>>,
    /// Who shows none is let in all the same, and a route's login may ask for one.
    pub client_optional: bool,
    /// Names without a certificate get one of an authority of our own, kept in this folder.
    pub own_authority: Option<std::path::PathBuf>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.certificates.len();
        write!(f, "Tls({count} certificates)")
    }
}

/// A certificate with its key. Which names it is for stands in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM: the certificate, then those between it and its authority.
    pub chain: Arc<[u8]>,
    /// PEM.
    pub key: Arc<[u8]>,
    /// For messages: a file or an object.
    pub source: Arc<str>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.source)
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: u128,
    mask: u128,
}

/// All addresses as numbers, those of version 4 where version 6 maps them.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Cidr {
    /// Whether it holds the address.
    pub fn holds(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.address
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no range of addresses; write 10.0.0.0/8 or ::1");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse::<u32>().map_err(|_| bad())?,
            None => width,
        };
        if bits > width {
            return Err(bad());
        }
        let free = width - bits;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        let address = number(address) & mask;
        Ok(Self { address, mask })
    }
}

/// Requests of one kind, and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in metrics and logs, and in the header `x-comind-route` for whoever asks.
    pub name: Arc<str>,
    /// The hosts that it is for.
    pub host: Host,
    /// The paths that it is for.
    pub path: Path,
    /// Headers that a request must have, each with this value.
    pub headers: Vec<(String, String)>,
    /// Only these clients; all where empty.
    pub allow: Vec<Cidr>,
    /// Plain HTTP is answered with a redirect to HTTPS.
    pub https_only: bool,
    /// `Strict-Transport-Security` for so long, on answers over TLS.
    pub hsts: Option<Duration>,
    /// The largest body of a request in bytes; unlimited where none.
    pub body_limit: Option<u64>,
    /// Who may ask; everybody where none.
    pub demand: Option<Demand>,
    /// What becomes of the request.
    pub action: Action,
}

impl Route {
    /// For all who ask, in whatever way.
    pub fn open(name: impl Into<Arc<str>>, host: Host, path: Path, action: Action) -> Self {
        Self {
            name: name.into(),
            host,
            path,
            headers: Vec::new(),
            allow: Vec::new(),
            https_only: false,
            hsts: None,
            body_limit: None,
            demand: None,
            action,
        }
    }
}

/// The hosts of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// All.
    Any,
    /// This one; lower case.
    Exact(String),
    /// `*.example.org` is kept as `.example.org`: hosts with exactly one more label in front.
    Wildcard(String),
}

impl std::str::FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        if name == "*" {
            return Ok(Self::Any);
        }
        let (wildcard, rest) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        if rest.is_empty() || rest.starts_with('.') || !rest.bytes().all(good) {
            return Err(format!(
                "`{text}` is no host; write app.example.org, *.example.org or *"
            ));
        }
        Ok(match wildcard {
            true => Self::Wildcard(format!(".{rest}")),
            false => Self::Exact(rest.to_owned()),
        })
    }
}

/// The paths of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// This one and those below it: `/a` is for `/a`, `/a/` and `/a/b`, not for `/ab`.
    Prefix(String),
    /// This one alone.
    Exact(String),
    /// Those that a regular expression matches from their beginning.
    Regex(String),
}

impl Path {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Prefix(path) | Self::Exact(path) | Self::Regex(path) => path,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It is passed on.
    Forward(Box<Forward>),
    /// It is sent elsewhere.
    Redirect {
        /// `Location`; a path, or a URL. `$path` in it stands for the path and query asked for.
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// It is answered here.
    Respond {
        /// The status.
        status: u16,
        /// Sent as `text/plain`.
        body: Arc<str>,
    },
    /// It is sent elsewhere, by parts of what it asked for.
    Move(Elsewhere),
    /// One of these, drawn by weight. With a weight of 0 it is never drawn.
    Split(Vec<(u32, Action)>),
}

/// How a request is passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// To whom.
    pub upstream: Upstream,
    /// What is changed on the way.
    pub rewrite: Rewrite,
    /// How long is waited for the upstream.
    pub timeouts: Timeouts,
}

/// What is changed of a request and its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// What takes the place of the route's path; `$1`, … where that is a regular expression.
    pub path: Option<String>,
    /// What takes the place of all of the path, whatever the route's is.
    pub whole_path: Option<String>,
    /// `Host` for the upstream; the client's where none.
    pub host: Option<String>,
    /// Set on the request, in place of what it has.
    pub request_set: Vec<(String, String)>,
    /// Set on the request beside what it has.
    pub request_add: Vec<(String, String)>,
    /// Taken from the request.
    pub request_remove: Vec<String>,
    /// Set on the answer, in place of what it has.
    pub response_set: Vec<(String, String)>,
    /// Set on the answer beside what it has.
    pub response_add: Vec<(String, String)>,
    /// Taken from the answer.
    pub response_remove: Vec<String>,
}

/// Several places that do the same work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where.
    pub endpoints: Vec<Endpoint>,
    /// Services of a cluster, whose ready pods are further endpoints.
    pub services: Vec<ServiceUpstream>,
    /// About TLS, where it is spoken.
    pub tls: UpstreamTls,
    /// Each connection begins with a PROXY header of this version (1 or 2).
    pub send_proxy: Option<u8>,
    /// What `Retry-After` and errors say where there is no endpoint.
    pub lack: Option<Arc<str>>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS, known beforehand (gRPC).
    H2c,
    /// TLS; HTTP/2 where the upstream takes it, else HTTP/1.1.
    Https,
}

/// One place of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Its share beside the others; 0 gets nothing.
    pub weight: u32,
    /// The target of the collector that watches it.
    pub target: Option<Arc<str>>,
    /// Those of a higher number are asked only while none of a lower one can be.
    pub tier: u8,
    /// `Host` for this one; the route's, or the client's, where none.
    pub as_host: Option<Arc<str>>,
    /// The pod that it is, where only a tunnel leads there; `host` is its address then.
    pub pod: Option<Arc<Pod>>,
    /// HTTP without TLS is spoken there, whatever the upstream speaks otherwise.
    pub plain: bool,
}

impl Endpoint {
    /// One that is reached straight, among equals.
    pub fn plain(host: Arc<str>, port: u16) -> Self {
        Self {
            host,
            port,
            weight: 1,
            target: None,
            tier: 0,
            as_host: None,
            pod: None,
            plain: false,
        }
    }
}

/// A pod of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Its cluster, as of a service.
    pub cluster: Option<Arc<Cluster>>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A port of a service of a cluster, written `NAMESPACE/NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Its cluster, reached by tunnels; the one of [`Ingress::tunnels`] where none. It is not written.
    pub cluster: Option<Arc<Cluster>>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The number or the name of its port.
    pub port: Arc<str>,
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}

impl std::str::FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no service; write NAMESPACE/NAME:PORT");
        let (namespace, rest) = text.split_once('/').ok_or_else(bad)?;
        let (name, port) = rest.split_once(':').ok_or_else(bad)?;
        let word = |word: &str| {
            let inside =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !word.is_empty() && word.len() <= 63 && word.bytes().all(inside)
        };
        let number_is_port =
            port.parse::<u32>().is_err() || port.parse::<u16>().is_ok_and(|port| port > 0);
        if !(word(namespace) && word(name) && word(port) && number_is_port) {
            return Err(bad());
        }
        Ok(Self {
            cluster: None,
            namespace: namespace.into(),
            name: name.into(),
            port: port.into(),
        })
    }
}

/// A service as an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUpstream {
    /// Which.
    pub service: Service,
    /// Its share beside other endpoints, whatever its number of pods.
    pub weight: u32,
    /// The target of the collector that watches it.
    pub target: Option<Arc<str>>,
    /// As an endpoint's.
    pub tier: u8,
}

/// A cluster, and as whom it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cluster {
    /// A kubeconfig; the one that kubectl would take where none.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// A context of it; its current one where none.
    pub context: Option<String>,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// PEM of its authority; the system's where none.
    pub authority: Option<Arc<[u8]>>,
    /// The name that its certificate must have; its host where none.
    pub name: Option<Arc<str>>,
    /// Whatever it shows is good.
    pub insecure: bool,
}

/// How long is waited for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the head of an answer to a plain request. Streams of events and gRPC calls may be
    /// silent for as long as `stream_idle`.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Between two pieces of a stream of events, a gRPC call or an upgraded connection.
    pub stream_idle: Duration,
    /// For all of a plain request and its answer; none is for ever.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            stream_idle: Duration::from_secs(3600),
            total: None,
        }
    }
}

/// How long is waited for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For TLS and PROXY headers.
    pub handshake: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between two pieces of a body.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
        }
    }
}

/// What one client, and all together, may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, all together.
    pub connections: usize,
    /// Open connections of one client address.
    pub connections_per_client: usize,
    /// Requests a second of one client address; unlimited where none.
    pub requests_per_second: Option<u32>,
    /// Requests at once of one client address after a rest.
    pub burst: u32,
    /// The head of a request, in bytes.
    pub head_bytes: usize,
    /// The body of a request, in bytes, where a route says nothing.
    pub body_bytes: Option<u64>,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// Connections to one endpoint, a worker.
    pub upstream_connections: usize,
    /// Requests that wait for one of those, a worker.
    pub pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 20_000,
            requests_per_second: None,
            burst: 100,
            head_bytes: 32 * 1024,
            body_bytes: None,
            streams: 128,
            upstream_connections: 512,
            pending: 1024,
        }
    }
}

/// What is logged of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccessLog {
    /// Its form.
    pub form: LogForm,
    /// The share of requests that is logged, from 0 to 1. Failed ones are always logged.
    pub sample: f64,
}

/// The form of an access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogForm {
    /// None is kept.
    #[default]
    Off,
    /// A JSON object a line.
    Json,
    /// The common log format, with referrer, agent and duration.
    Common,
}

/// Which Ingress objects are obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// A kubeconfig; without one, the service account of the pod.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Only in these namespaces; in all where empty.
    pub namespaces: Vec<String>,
    /// The classes that are ours.
    pub classes: Vec<String>,
    /// Addresses or names that are written into their status.
    pub status: Vec<String>,
    /// Gateways are obeyed too.
    pub gateway: Option<Settings>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_is_in_them() {
        let holds = |range: &str, address: &str| {
            let range: Cidr = range.parse().unwrap();
            range.holds(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("0.0.0.0/0", "192.0.2.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "192.0.2.1") && holds("fd00::/8", "fd12::1"));
        // An address of version 4 that came in over version 6 is the same client.
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn services_are_read() {
        for good in ["monitoring/grafana:http", "a/b:80"] {
            assert_eq!(good.parse::<Service>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "a",
            "a/b",
            "a/b:",
            "/b:80",
            "a/:80",
            "a/b:70000",
            "a/b:0",
            "a/b:80/c",
            "A/b:80",
        ] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_read() {
        assert_eq!("*".parse(), Ok(Host::Any));
        assert_eq!("*.A.b".parse(), Ok(Host::Wildcard(".a.b".to_owned())));
        assert_eq!("Web".parse(), Ok(Host::Exact("web".to_owned())));
        for bad in ["", "*.", "a b", "a/b", "a*"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
