//! Listeners of Gateways: by address, port and host to the routes of one listener, and of those to
//! the one that fits best. Pure.
//! Source: gateway-api.sigs.k8s.io, HTTPRouteRule on precedence.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use comind_model::gateway::{self, Listener};
use comind_model::ingress::{Host, Path};
use http::Method;
use http::request::Parts;

use super::compile::Compiled;
use super::hosts::Hosts;
use super::table::plain_name;

/// Where requests come in: an address of ours (any where none), a port, and whether TLS is spoken.
pub type Place = (Option<IpAddr>, u16, bool);

/// The place of a connection, and the same by any address.
pub fn places((local, secure): (SocketAddr, bool)) -> [Place; 2] {
    let port = local.port();
    [
        (Some(local.ip().to_canonical()), port, secure),
        (None, port, secure),
    ]
}

/// Where a listener of a Gateway is.
pub fn place_of(listener: &Listener) -> Place {
    (listener.address, listener.port, listener.secure)
}

/// What goes first: an exact path, more letters of it, a regular expression before a prefix of the
/// same length, a method, more headers, more of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(bool, usize, bool, bool, usize, usize);

impl Rank {
    /// Of a route.
    pub fn of(entry: &gateway::Entry) -> Self {
        let path = &entry.route.path;
        Self(
            matches!(path, Path::Exact(_)),
            entry.length,
            matches!(path, Path::Regex(_)),
            entry.method.is_some(),
            entry.route.headers.len(),
            entry.query.len(),
        )
    }
}

/// A route of a listener, ready.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place among the others.
    pub rank: Rank,
    /// The hosts that it is for.
    pub hosts: Vec<Host>,
    /// Only this method.
    pub method: Option<Method>,
    /// Only with these in the query.
    pub query: Vec<(String, String)>,
    /// What becomes of the request.
    pub route: Arc<Compiled>,
}

impl Entry {
    fn fits(&self, path: &str, head: &Parts) -> bool {
        let query = head.uri.query().unwrap_or_default();
        self.method.as_ref().is_none_or(|it| *it == head.method)
            && self.route.fits(path, &head.headers)
            && self
                .query
                .iter()
                .all(|(name, value)| has(query, name, value))
    }
}

/// The routes of one listener by host, the first that fits counts.
type Routes = Hosts<Vec<Arc<Entry>>>;

/// All listeners of Gateways.
#[derive(Debug, Default)]
pub struct Doors {
    places: HashMap<Place, Hosts<Routes>>,
}

impl Doors {
    /// One more listener.
    pub fn add(&mut self, listener: &Listener, entries: Vec<Entry>) {
        let place = self.places.entry(place_of(listener)).or_default();
        let routes = place.of(&listener.host);
        for entry in entries {
            let entry = Arc::new(entry);
            for host in &entry.hosts {
                routes.of(host).push(entry.clone());
            }
        }
        for list in routes.all_mut() {
            // Stable: of two that are equal the first given wins.
            list.sort_by_key(|entry| Reverse(entry.rank));
        }
    }

    /// The route of a request that came in there. `path` is what [`merged`](super::table::merged)
    /// makes of it. Only the listener with the most specific host is asked.
    pub fn find<'a>(
        &'a self,
        at: (SocketAddr, bool),
        host: &str,
        path: &str,
        head: &Parts,
    ) -> Option<&'a Arc<Compiled>> {
        if self.places.is_empty() {
            return None;
        }
        let host = plain_name(host);
        let place = places(at).iter().find_map(|place| self.places.get(place))?;
        let routes = place.fitting(&host).next()?;
        let mut lists = routes.fitting(&host);
        let found = lists.find_map(|list| list.iter().find(|entry| entry.fits(path, head)));
        found.map(|entry| &entry.route)
    }
}

/// Whether the first of this name in a query has this value.
fn has(query: &str, name: &str, value: &str) -> bool {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(given, _)| decoded(given).eq(name.bytes()));
    found.is_some_and(|(_, given)| decoded(given).eq(value.bytes()))
}

/// The bytes that a part of a query stands for.
fn decoded(part: &str) -> impl Iterator<Item = u8> {
    let bytes = part.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        let escaped = (byte == b'%').then(|| Some(digit(at + 1)? * 16 + digit(at + 2)?));
        if let Some(Some(value)) = escaped {
            at += 3;
            return u8::try_from(value).ok();
        }
        at += 1;
        Some(if byte == b'+' { b' ' } else { byte })
    })
}
