//! Where somebody may be sent after a login, and who may ask for a logout. Pure.

use http::HeaderMap;
use http::header::{HeaderName, ORIGIN};

/// Paths of ours: on every host, where there are logins.
pub const PATHS: &str = "/.comind/";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The path if it leads to the same host, else `/`. Browsers take `//host`, `/\host` and the like
/// for other hosts, and leave out tabs and line feeds before they look.
pub fn path(wanted: &str) -> &str {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let fits = wanted.starts_with('/')
        && !wanted.starts_with("//")
        && !wanted.starts_with(PATHS)
        && wanted.len() <= 2048
        && wanted.bytes().all(good);
    if fits { wanted } else { "/" }
}

/// Whether a page of this host asks, and not another site that a browser is made to ask by.
pub fn is_same_origin(headers: &HeaderMap, host: &str, secure: bool) -> bool {
    let site = headers.get(FETCH_SITE).map(|site| site.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return false;
    }
    let scheme = if secure { "https" } else { "http" };
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let own = format!("{scheme}://{host}");
    origin.as_bytes().eq_ignore_ascii_case(own.as_bytes())
}

/// Whether what a browser says of the asking page is this host, whatever its scheme: for upgrades,
/// which pages of any host may ask for, and which sibling hosts send cookies with.
pub fn is_same_host(headers: &HeaderMap, host: &str) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().unwrap_or_default();
    let own = origin.split_once("://").map_or("", |(_, own)| own);
    own.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_paths_of_the_same_host() {
        for good in ["/", "/a/b?c=d//e", "/?u=https://x", "/a//b"] {
            assert_eq!(path(good), good);
        }
        for bad in [
            "",
            "//evil.test/",
            "/\\evil.test",
            "https://evil.test/",
            "javascript:x",
            "/\t/evil.test",
            "/\n/evil.test",
            "\\\\evil.test",
            "/.comind/logout",
            "/ü",
        ] {
            assert_eq!(path(bad), "/", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_browser_stays_at_the_host(wanted in "[/\\\\.:@a-z\t\n?#-]{0,12}") {
            let host = url::Url::parse("https://own.test/x/y").unwrap();
            let joined = host.join(path(&wanted)).unwrap();
            prop_assert_eq!(joined.origin(), host.origin());
        }
    }

    #[test]
    fn pages_of_other_hosts_upgrade_nothing() {
        let asked =
            |value: &'static str| HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(value))]);
        assert!(is_same_host(&HeaderMap::new(), "a.test:1"));
        assert!(is_same_host(&asked("https://A.test:1"), "a.test:1"));
        for other in ["https://b.a.test:1", "https://a.test", "null", ""] {
            assert!(!is_same_host(&asked(other), "a.test:1"), "{other}");
        }
    }

    #[test]
    fn other_sites_do_not_ask() {
        let asked = |name: HeaderName, value: &'static str| {
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        assert!(is_same_origin(&HeaderMap::new(), "a.test", true));
        assert!(is_same_origin(
            &asked(ORIGIN, "https://a.test"),
            "a.test",
            true
        ));
        assert!(is_same_origin(
            &asked(FETCH_SITE, "same-origin"),
            "a.test",
            true
        ));
        for (name, value) in [
            (ORIGIN, "https://b.test"),
            (ORIGIN, "http://a.test"),
            (ORIGIN, "null"),
            (FETCH_SITE, "cross-site"),
            (FETCH_SITE, "same-site"),
        ] {
            assert!(
                !is_same_origin(&asked(name, value), "a.test", true),
                "{value}"
            );
        }
    }
}
