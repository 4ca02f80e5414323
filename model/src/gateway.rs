//! What the ingress proxy is told of Gateways: where requests come in, and what becomes of them
//! there. Values that have been checked; whoever reads a cluster makes them, the proxy obeys them.
//! Must not know where they come from, nor how a request is carried.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ingress::{Certificate, Host, Route};

/// Which Gateways are obeyed, and where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What Gateways get as their addresses, one after the other. A single one is that of all, by
    /// whatever address of ours it is reached; of several each is an address of this machine.
    pub addresses: Vec<String>,
    /// The port that we listen on, by the port that a Gateway has; the same where nothing is said.
    pub ports: BTreeMap<u16, u16>,
}

/// One listener of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The address that requests were sent to; any where none.
    pub address: Option<IpAddr>,
    /// Our port.
    pub port: u16,
    /// TLS is spoken there.
    pub secure: bool,
    /// The hosts that it is for. Other than in a [`Route`], a wildcard stands for one label or more.
    pub host: Host,
    /// What it shows to those hosts; the first where none has the name.
    pub certificates: Vec<Certificate>,
    /// In order: of two that are equal the first counts.
    pub routes: Vec<Entry>,
}

/// A route of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The hosts that it is for, of those of its listener. A wildcard as there.
    pub hosts: Vec<Host>,
    /// How many letters of its path are fixed: more go first.
    pub length: usize,
    /// Only this method.
    pub method: Option<String>,
    /// Only with all of these in the query.
    pub query: Vec<(String, String)>,
    /// What becomes of the request. Its own host does not count.
    pub route: Route,
}

/// Where a redirect leads; what is not said is as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The port; none is the scheme's own.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<NewPath>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What takes the place of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPath {
    /// Of all of it.
    Whole(String),
    /// Of what the route's path has matched.
    Prefix(String),
}
