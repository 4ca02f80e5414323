//! The target of a request as its upstream gets it. Pure.

use bytes::{BufMut as _, BytesMut};
use comind_model::gateway::{Elsewhere, NewPath};
use http::Uri;
use http::uri::PathAndQuery;

use super::strict::split_port;
use crate::route::compile::Matcher;
use crate::route::table::merged;

/// The path and query for the upstream: the route's path replaced where `rewrite` says by what.
/// None where the result is no path.
pub fn path(uri: &Uri, matcher: &Matcher, rewrite: Option<&str>) -> Option<PathAndQuery> {
    let given = uri.path_and_query();
    let Some(rewrite) = rewrite else {
        return Some(given.cloned().unwrap_or(PathAndQuery::from_static("/")));
    };
    let path = uri.path();
    let mut made = BytesMut::with_capacity(path.len() + rewrite.len() + 32);
    match matcher {
        Matcher::Exact(_) => made.put_slice(rewrite.as_bytes()),
        Matcher::Prefix(prefix) => {
            // Slashes in a row count as one where routes are matched, and so do they here.
            let rest = rest_after(path, prefix)?;
            made.put_slice(rewrite.trim_end_matches('/').as_bytes());
            if !rest.starts_with('/') {
                made.put_u8(b'/');
            }
            made.put_slice(rest.as_bytes());
            if rest.is_empty() && !rewrite.ends_with('/') && rewrite.len() > 1 {
                // `/a` to `/b` makes `/b`, not `/b/`.
                made.truncate(made.len() - 1);
            }
        }
        Matcher::Regex(regex) => {
            let merged = merged(path);
            let captures = regex.captures(&merged)?;
            let mut expanded = String::new();
            captures.expand(rewrite, &mut expanded);
            if !expanded.starts_with('/') {
                made.put_u8(b'/');
            }
            made.put_slice(expanded.as_bytes());
        }
    }
    if let Some(query) = uri.query() {
        made.put_u8(b'?');
        made.put_slice(query.as_bytes());
    }
    PathAndQuery::from_maybe_shared(made.freeze()).ok()
}

/// All of the path replaced; the query stays.
pub fn whole(uri: &Uri, path: &str) -> Option<PathAndQuery> {
    let mut made = BytesMut::from(path);
    if let Some(query) = uri.query() {
        made.put_u8(b'?');
        made.put_slice(query.as_bytes());
    }
    PathAndQuery::from_maybe_shared(made.freeze()).ok()
}

/// Where a redirect by parts leads. None where its path is none.
pub fn elsewhere(
    to: &Elsewhere,
    secure: bool,
    host: &str,
    uri: &Uri,
    matcher: &Matcher,
) -> Option<String> {
    let asked = if secure { "https" } else { "http" };
    let scheme = to.scheme.as_deref().unwrap_or(asked);
    let (name, _) = split_port(host);
    let name = to.host.as_deref().unwrap_or(name);
    let path = match &to.path {
        Some(NewPath::Whole(path)) => whole(uri, path)?,
        Some(NewPath::Prefix(prefix)) => path(uri, matcher, Some(prefix))?,
        None => path(uri, matcher, None)?,
    };
    // The scheme's own port is not written.
    let port = to
        .port
        .filter(|port| (scheme, *port) != ("http", 80) && (scheme, *port) != ("https", 443));
    Some(match port {
        Some(port) => format!("{scheme}://{name}:{port}{path}"),
        None => format!("{scheme}://{name}{path}"),
    })
}

/// What follows `prefix` in `path`, where slashes in a row in `path` count as one.
fn rest_after<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let mut rest = path;
    for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
        rest = rest.trim_start_matches('/').strip_prefix(segment)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(uri: &str, matcher: &Matcher, rewrite: &str) -> String {
        path(&uri.parse().unwrap(), matcher, Some(rewrite))
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_prefix_is_replaced() {
        let api = Matcher::Prefix("/api".to_owned());
        for (uri, rewrite, wanted) in [
            ("/api", "/", "/"),
            ("/api/", "/", "/"),
            ("/api/v1?x=1", "/", "/v1?x=1"),
            ("/api/v1", "/b", "/b/v1"),
            ("/api", "/b", "/b"),
            ("/api/", "/b", "/b/"),
            ("/api?x", "/b/", "/b/?x"),
            ("//api//v1", "/b", "/b//v1"),
        ] {
            assert_eq!(made(uri, &api, rewrite), wanted, "{uri} {rewrite}");
        }
        let root = Matcher::Prefix(String::new());
        assert_eq!(made("/x/y", &root, "/sub"), "/sub/x/y");
        assert_eq!(made("/", &root, "/sub"), "/sub/");
    }

    #[test]
    fn a_regular_expression_gives_its_groups() {
        let regex = Matcher::Regex(regex::Regex::new("^(?:/something(/|$)(.*))").unwrap());
        assert_eq!(made("/something/new?a=b", &regex, "/$2"), "/new?a=b");
        assert_eq!(made("/something", &regex, "/$2"), "/");
    }
}
