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

/// What is found for a request.
#[derive(Debug)]
pub enum Found<'a> {
    /// A route.
    Route(&'a Arc<Compiled>),
    /// None.
    Nothing,
    /// The connection was begun for the host of another listener: it must be asked for anew.
    Misdirected,
}

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The address that was connected to.
    pub local: SocketAddr,
    /// TLS is spoken.
    pub secure: bool,
    /// The name that TLS was begun for.
    pub name: Option<&'a str>,
}

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
    pub fn find(&self, way: Way<'_>, host: &str, path: &str, head: &Parts) -> Found<'_> {
        if self.places.is_empty() {
            return Found::Nothing;
        }
        let host = plain_name(host);
        let places = places((way.local, way.secure));
        let place = places.iter().find_map(|place| self.places.get(place));
        let listener = place.and_then(|place| place.fitting(&host).next());
        if let (Some(place), Some(name)) = (place, way.name) {
            let begun = place.fitting(&plain_name(name)).next();
            let same = match (begun, listener) {
                (Some(begun), Some(listener)) => std::ptr::eq(begun, listener),
                // A name of no listener was served by whatever is there besides.
                (begun, _) => begun.is_none(),
            };
            if !same {
                return Found::Misdirected;
            }
        }
        let mut lists = listener.into_iter().flat_map(|it| it.fitting(&host));
        let found = lists.find_map(|list| list.iter().find(|entry| entry.fits(path, head)));
        found.map_or(Found::Nothing, |entry| Found::Route(&entry.route))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::compile::Compiler;
    use comind_model::ingress::{Action, Route};
    use proptest::prelude::*;

    fn entry(name: &str, hosts: &[&str], path: Path) -> gateway::Entry {
        gateway::Entry {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            length: path.as_str().len(),
            method: None,
            query: Vec::new(),
            route: Route::open(
                name,
                Host::Any,
                path,
                Action::Respond {
                    status: 200,
                    body: "".into(),
                },
            ),
        }
    }

    fn prefix(path: &str) -> Path {
        Path::Prefix(path.to_owned())
    }

    fn listener(host: &str, address: Option<&str>, routes: Vec<gateway::Entry>) -> Listener {
        Listener {
            address: address.map(|it| it.parse().unwrap()),
            port: 80,
            secure: false,
            host: host.parse().unwrap(),
            certificates: Vec::new(),
            routes,
        }
    }

    fn doors(listeners: &[Listener]) -> Doors {
        let (table, problems) = Compiler::default().compile_all(&[], listeners);
        assert_eq!(problems, Vec::<String>::new());
        table.doors
    }

    fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn name_of(doors: &Doors, at: &str, host: &str, head: &Parts) -> Option<String> {
        let way = Way {
            local: at.parse().unwrap(),
            secure: false,
            name: None,
        };
        match doors.find(way, host, head.uri.path(), head) {
            Found::Route(route) => Some(route.meter.name.to_string()),
            Found::Nothing => None,
            Found::Misdirected => Some("misdirected".to_owned()),
        }
    }

    #[test]
    fn each_address_and_listener_has_its_own() {
        let route = |name: &str, hosts: &[&str]| vec![entry(name, hosts, prefix("/"))];
        let doors = doors(&[
            listener("*", Some("10.0.0.1"), route("any", &["*"])),
            listener("*.a.test", Some("10.0.0.1"), route("wild", &["x.a.test"])),
            listener("*", None, route("else", &["*"])),
        ]);
        let get = head("GET", "/", &[]);
        for (at, host, wanted) in [
            ("10.0.0.1:80", "b.test", Some("any")),
            ("10.0.0.1:80", "x.a.test", Some("wild")),
            // The listener for it has no such route, and the other is not asked.
            ("10.0.0.1:80", "y.a.test", None),
            ("10.0.0.2:80", "x.a.test", Some("else")),
            ("[::ffff:10.0.0.1]:80", "X.A.test:80", Some("wild")),
            ("10.0.0.2:81", "b.test", None),
        ] {
            assert_eq!(
                name_of(&doors, at, host, &get).as_deref(),
                wanted,
                "{at} {host}"
            );
        }
    }

    #[test]
    fn a_connection_for_another_listener_is_misdirected() {
        let mut own = listener("a.test", None, vec![entry("a", &["a.test"], prefix("/"))]);
        let mut any = listener("*", None, vec![entry("any", &["*"], prefix("/"))]);
        (own.secure, any.secure) = (true, true);
        let doors = doors(&[own, any]);
        let get = head("GET", "/", &[]);
        let find = |name, host| {
            let local = "10.0.0.1:80".parse().unwrap();
            let way = Way {
                local,
                secure: true,
                name,
            };
            match doors.find(way, host, "/", &get) {
                Found::Route(route) => route.meter.name.to_string(),
                Found::Nothing => "nothing".to_owned(),
                Found::Misdirected => "misdirected".to_owned(),
            }
        };
        assert_eq!(find(Some("a.test"), "a.test"), "a");
        assert_eq!(find(Some("a.test"), "b.test"), "misdirected");
        assert_eq!(find(Some("b.test"), "a.test"), "misdirected");
        assert_eq!(find(Some("b.test"), "c.test"), "any");
        assert_eq!(find(None, "a.test"), "a");
    }

    #[test]
    fn the_order_of_rules() {
        let mut post = entry("post", &["*"], prefix("/"));
        post.method = Some("POST".to_owned());
        let mut header = entry("header", &["*"], prefix("/"));
        header.route.headers = vec![("x-a".to_owned(), "1".to_owned())];
        let mut query = entry("query", &["*"], prefix("/"));
        query.query = vec![("q".to_owned(), "a b".to_owned())];
        let routes = vec![
            entry("all", &["*"], prefix("/")),
            entry("same", &["*"], prefix("/")),
            query,
            header,
            post,
            entry("long", &["*"], prefix("/x/y")),
            entry("exact", &["*"], Path::Exact("/x".to_owned())),
            entry("host", &["h.test"], prefix("/h")),
        ];
        let doors = doors(&[listener("*", None, routes)]);
        for (host, request, wanted) in [
            ("a", head("GET", "/", &[]), "all"),
            ("a", head("GET", "/?q=a%20b&q=c", &[]), "query"),
            ("a", head("GET", "/?q=a+b", &[]), "query"),
            ("a", head("GET", "/?q=c&q=a%20b", &[]), "all"),
            ("a", head("GET", "/?q=%zz", &[]), "all"),
            ("a", head("GET", "/?q=a%20b", &[("x-a", "1")]), "header"),
            ("a", head("POST", "/?q=a%20b", &[("x-a", "1")]), "post"),
            ("a", head("POST", "/x/y/z", &[]), "long"),
            ("a", head("POST", "/x", &[]), "exact"),
            ("h.test", head("GET", "/h", &[]), "host"),
            ("h.test", head("GET", "/i", &[]), "all"),
        ] {
            let found = name_of(&doors, "10.0.0.1:80", host, &request);
            assert_eq!(
                found.as_deref(),
                Some(wanted),
                "{host} {} {}",
                request.method,
                request.uri
            );
        }
    }

    proptest! {
        /// Compared with a slow search by the rules as they are written down.
        #[test]
        fn as_a_slow_search_finds_it(
            written in prop::collection::vec((any::<bool>(), "(/[xy]){1,3}", any::<bool>(), any::<bool>()), 0..8),
            path in "(/[xy]){1,4}",
            posts in any::<bool>(),
            marked in any::<bool>(),
        ) {
            let made: Vec<_> = written.iter().enumerate().map(|(at, (exact, path, post, header))| {
                let of = if *exact { Path::Exact(path.clone()) } else { prefix(path) };
                let mut made = entry(&at.to_string(), &["*"], of);
                made.method = post.then(|| "POST".to_owned());
                made.route.headers = if *header { vec![("x-a".to_owned(), "1".to_owned())] } else { Vec::new() };
                made
            }).collect();
            let fits = |(exact, of, post, header): &(bool, String, bool, bool)| {
                let by_path = if *exact { *of == path } else { format!("{path}/").starts_with(&format!("{of}/")) };
                by_path && (!post || posts) && (!header || marked)
            };
            let score = |(exact, of, post, header): &(bool, String, bool, bool)| (*exact, of.len(), *post, *header);
            // Of equals the first.
            let best = written.iter().enumerate().rev().filter(|(_, one)| fits(one)).max_by_key(|(_, one)| score(one));
            let doors = doors(&[listener("*", None, made)]);
            let method = if posts { "POST" } else { "GET" };
            let headers: &[_] = if marked { &[("x-a", "1")] } else { &[] };
            let found = name_of(&doors, "10.0.0.1:80", "a", &head(method, &path, headers));
            prop_assert_eq!(found, best.map(|(at, _)| at.to_string()));
        }
    }
}
