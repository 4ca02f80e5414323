//! The table: the most specific host wins, then the longest path, then the most headers.
//! A request that fits no path of its host is looked up under less specific hosts. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use comind_model::ingress::Host;
use http::HeaderMap;

use super::compile::{Compiled, Matcher};
use super::door::Doors;
use crate::request::strict::split_port;

/// All routes.
#[derive(Debug, Default)]
pub struct Table {
    exact: HashMap<Box<str>, Vec<Arc<Compiled>>>,
    /// By what follows the first label, its dot included.
    wildcard: HashMap<Box<str>, Vec<Arc<Compiled>>>,
    any: Vec<Arc<Compiled>>,
    /// In the order in which they were given.
    pub all: Vec<Arc<Compiled>>,
    /// The listeners of Gateways, which are asked where no other route fits.
    pub doors: Doors,
}

impl Table {
    /// With these listeners of Gateways.
    pub fn with_doors(mut self, doors: Doors, routes: Vec<Arc<Compiled>>) -> Self {
        self.all.extend(routes);
        self.doors = doors;
        self
    }

    /// Sorts them in.
    pub fn new(routes: Vec<Arc<Compiled>>) -> Self {
        let mut table = Self {
            all: routes.clone(),
            ..Self::default()
        };
        for route in routes {
            let list = match &route.host {
                Host::Any => &mut table.any,
                Host::Exact(host) => table.exact.entry(host.as_str().into()).or_default(),
                Host::Wildcard(rest) => table.wildcard.entry(rest.as_str().into()).or_default(),
            };
            list.push(route);
        }
        let lists = table.exact.values_mut().chain(table.wildcard.values_mut());
        for list in lists.chain(std::iter::once(&mut table.any)) {
            // Stable: of two that are equal the first given wins.
            list.sort_by_key(|route| std::cmp::Reverse(route.rank()));
        }
        table
    }

    /// The route of a request. `host` is as it was sent; `path` is what [`merged`] makes of it.
    pub fn find(&self, host: &str, path: &str, headers: &HeaderMap) -> Option<&Arc<Compiled>> {
        let host = &*plain_name(host);
        let exact = self.exact.get(host);
        let wildcard = || {
            host.find('.')
                .and_then(|dot| self.wildcard.get(&host[dot..]))
        };
        exact
            .and_then(|list| first(list, path, headers))
            .or_else(|| first(wildcard()?, path, headers))
            .or_else(|| first(&self.any, path, headers))
    }
}

/// A host as tables have it: without port and final dot, in small letters.
pub fn plain_name(host: &str) -> std::borrow::Cow<'_, str> {
    let (host, _) = split_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

fn first<'a>(
    list: &'a [Arc<Compiled>],
    path: &str,
    headers: &HeaderMap,
) -> Option<&'a Arc<Compiled>> {
    list.iter().find(|route| route.fits(path, headers))
}

/// The path as the most forgiving upstream reads it, with slashes in a row as one: so `//admin`
/// is under the route of `/admin`. What is passed on stays as it was sent.
pub fn merged(path: &str) -> std::borrow::Cow<'_, str> {
    if !path.as_bytes().windows(2).any(|pair| pair == b"//") {
        return path.into();
    }
    let mut merged = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !merged.ends_with('/') {
            merged.push(letter);
        }
    }
    merged.into()
}

impl Compiled {
    /// What goes first: an exact path, then longer ones, then more headers.
    fn rank(&self) -> (bool, usize, usize) {
        let (exact, length) = match &self.path {
            Matcher::Exact(path) => (true, path.len()),
            Matcher::Prefix(path) => (false, path.len()),
            Matcher::Regex(regex) => (false, regex.as_str().len()),
        };
        (exact, length, self.headers.len())
    }

    /// Whether it is for such a request.
    pub fn fits(&self, path: &str, headers: &HeaderMap) -> bool {
        let by_path = match &self.path {
            Matcher::Exact(exact) => path == exact,
            Matcher::Prefix(prefix) => below(path, prefix),
            Matcher::Regex(regex) => regex.is_match(path),
        };
        by_path
            && self
                .headers
                .iter()
                .all(|(name, value)| headers.get_all(name).iter().any(|given| given == value))
    }
}

/// Whether `path` is `prefix` or lies below it; `prefix` has no slash at its end.
fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::compile::Compiler;
    use comind_model::ingress::{Action, Path, Route};
    use proptest::prelude::*;

    fn route(name: &str, host: &str, path: Path, headers: &[(&str, &str)]) -> Route {
        let action = Action::Respond {
            status: 200,
            body: name.into(),
        };
        Route {
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Route::open(name, host.parse().unwrap(), path, action)
        }
    }

    fn prefix(path: &str) -> Path {
        Path::Prefix(path.to_owned())
    }

    fn table(routes: &[Route]) -> Table {
        let (table, problems) = Compiler::default().compile(routes);
        assert_eq!(problems, Vec::<String>::new());
        table
    }

    fn find<'a>(table: &'a Table, host: &str, path: &str) -> Option<&'a str> {
        table
            .find(host, path, &HeaderMap::new())
            .map(|route| &*route.meter.name)
    }

    #[test]
    fn the_most_specific_wins() {
        let table = table(&[
            route("any", "*", prefix("/"), &[]),
            route("wild", "*.b.c", prefix("/"), &[]),
            route("exact", "a.b.c", prefix("/"), &[]),
            route("deep", "a.b.c", prefix("/x/y"), &[]),
            route("one", "a.b.c", Path::Exact("/x/y".to_owned()), &[]),
            route("regex", "a.b.c", Path::Regex("/r/([0-9]+)".to_owned()), &[]),
        ]);
        for (host, path, name) in [
            ("a.b.c", "/", "exact"),
            ("A.B.C:8081", "/x", "exact"),
            ("a.b.c.", "/x/yz", "exact"),
            ("a.b.c", "/x/y/z", "deep"),
            ("a.b.c", "/x/y", "one"),
            ("a.b.c", "/r/12", "regex"),
            ("a.b.c", "/r/x", "exact"),
            ("q.b.c", "/x/y", "wild"),
            ("p.q.b.c", "/", "any"),
            ("b.c", "/", "any"),
            ("other", "/", "any"),
        ] {
            assert_eq!(find(&table, host, path), Some(name), "{host}{path}");
        }
    }

    #[test]
    fn headers_narrow_a_route() {
        let table = table(&[
            route("plain", "a", prefix("/"), &[]),
            route("beta", "a", prefix("/"), &[("x-env", "beta")]),
        ]);
        let mut headers = HeaderMap::new();
        assert_eq!(
            &*table.find("a", "/", &headers).unwrap().meter.name,
            "plain"
        );
        headers.insert("x-env", "beta".parse().unwrap());
        assert_eq!(&*table.find("a", "/", &headers).unwrap().meter.name, "beta");
    }

    #[test]
    fn slashes_in_a_row_are_one() {
        let table = table(&[
            route("all", "*", prefix("/"), &[]),
            route("admin", "*", prefix("/admin/"), &[]),
        ]);
        for path in ["/admin", "//admin", "/admin//x", "///admin/x"] {
            assert_eq!(find(&table, "a", &merged(path)), Some("admin"), "{path}");
        }
        assert_eq!(find(&table, "a", &merged("/administer")), Some("all"));
    }

    proptest! {
        /// Compared with a slow search over all routes.
        #[test]
        fn as_a_slow_search_finds_it(
            routes in prop::collection::vec(("[ab*]|\\*\\.[ab]|[ab]\\.[ab]", "(/[xy]){0,3}"), 1..8),
            host in "[ab]|[ab]\\.[ab]",
            path in "(/[xy]){1,4}",
        ) {
            let made: Vec<Route> = routes.iter().enumerate()
                .map(|(at, (host, path))| route(&at.to_string(), host, prefix(if path.is_empty() { "/" } else { path }), &[]))
                .collect();
            let score = |route: &Route| {
                let host_score = match &route.host {
                    Host::Any => 1,
                    Host::Wildcard(rest) => 2 * usize::from(host.strip_suffix(rest.as_str()).is_some_and(|first| !first.is_empty() && !first.contains('.'))),
                    Host::Exact(exact) => 3 * usize::from(*exact == host),
                };
                let path_of = route.path.as_str().trim_end_matches('/');
                let fits = below(&path, path_of);
                (host_score > 0 && fits).then_some((host_score, path_of.len()))
            };
            // Of equals the first.
            let best = made.iter().rev().filter_map(|route| score(route).map(|score| (score, &route.name))).max_by_key(|(score, _)| *score);
            let table = table(&made);
            prop_assert_eq!(find(&table, &host, &path), best.map(|(_, name)| &**name));
        }
    }
}
