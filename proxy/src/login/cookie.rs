//! Our cookies: their names, how they are set, read, and kept from upstreams. Pure.
//! Sources: RFC 6265; `__Host-` is draft-ietf-httpbis-rfc6265bis, section 4.1.3.2.

use std::time::Duration;

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

/// What all of ours begin with.
const OURS: &str = "comind-";
/// Over TLS: sent to this host alone, and settable by nobody else.
const HOST: &str = "__Host-";

/// The session's.
pub fn session(secure: bool) -> String {
    named("session", secure)
}

/// That of one login under way, by a part of its state: several tabs do not disturb each other.
pub fn under_way(state: &str, secure: bool) -> String {
    let part = state.get(..12).unwrap_or(state);
    named(&format!("login-{part}"), secure)
}

fn named(what: &str, secure: bool) -> String {
    let host = if secure { HOST } else { "" };
    format!("{host}{OURS}{what}")
}

fn is_ours(name: &str) -> bool {
    let name = name.trim();
    name.strip_prefix(HOST).unwrap_or(name).starts_with(OURS)
}

/// Its value; nothing where there are several, since one of those is somebody else's work.
pub fn read<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = None;
    for value in headers.get_all(COOKIE) {
        // Others may hold whatever bytes they like.
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let value = pair
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="));
            if value.is_some() && std::mem::replace(&mut found, value).is_some() {
                return None;
            }
        }
    }
    std::str::from_utf8(found?).ok()
}

/// Sets it for so long; a time of zero takes it away.
pub fn set(name: &str, value: &str, secure: bool, age: Duration) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!(
        "{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
        age.as_secs()
    );
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Takes ours from a request: an upstream that had them could act for its visitors.
pub fn strip(headers: &mut HeaderMap) {
    let has =
        |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), OURS.as_bytes()).is_some();
    if headers.get_all(COOKIE).iter().any(has) {
        drop_named(headers, is_ours);
    }
}

/// Takes those from a request whose names are such.
pub fn drop_named(headers: &mut HeaderMap, such: impl Fn(&str) -> bool) {
    let mut kept: Vec<HeaderValue> = Vec::new();
    for value in headers.get_all(COOKIE) {
        let all = || value.as_bytes().split(|byte| *byte == b';');
        let is_such = |pair: &&[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            std::str::from_utf8(name.trim_ascii()).is_ok_and(&such)
        };
        if !all().any(|pair| is_such(&pair)) {
            kept.push(value.clone());
            continue;
        }
        let others: Vec<&[u8]> = all()
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !is_such(pair))
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&others.join(&b"; "[..]))
            && !value.is_empty()
        {
            kept.push(value);
        }
    }
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

/// Takes from an answer what would set ours.
pub fn forbid(headers: &mut HeaderMap) {
    let sets = |value: &HeaderValue| {
        let name = value.as_bytes().split(|byte| *byte == b'=').next();
        name.and_then(|name| std::str::from_utf8(name).ok())
            .is_some_and(is_ours)
    };
    if !headers.get_all(SET_COOKIE).iter().any(sets) {
        return;
    }
    let kept: Vec<_> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| !sets(value))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &[&'static str]) -> HeaderMap {
        let cookies = lines
            .iter()
            .map(|line| (COOKIE, HeaderValue::from_static(line)));
        cookies.collect()
    }

    #[test]
    fn one_is_read_and_two_are_none() {
        let headers = asked(&["a=1; comind-session=x", "b=2"]);
        assert_eq!(read(&headers, "comind-session"), Some("x"));
        assert_eq!(read(&headers, "comind-sessio"), None);
        let mut headers = asked(&["comind-session=x"]);
        headers.append(COOKIE, HeaderValue::from_bytes(b"other=\xff").unwrap());
        assert_eq!(read(&headers, "comind-session"), Some("x"));
        let headers = asked(&["comind-session=x", "comind-session=y"]);
        assert_eq!(read(&headers, "comind-session"), None);
    }

    #[test]
    fn upstreams_get_the_others_alone() {
        let mut headers = asked(&[
            "a=1;__Host-comind-session=x; b=comind-2;  comind-login-abc=z",
            "comind-session=y",
            "c=3",
        ]);
        strip(&mut headers);
        assert_eq!(headers, asked(&["a=1; b=comind-2", "c=3"]));
    }

    #[test]
    fn upstreams_set_none_of_ours() {
        let mut headers = HeaderMap::new();
        for line in [
            "comind-session=evil; Path=/",
            "theirs=1",
            "__Host-comind-session=e",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        forbid(&mut headers);
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["theirs=1"]);
    }

    #[test]
    fn over_tls_it_is_bound_to_its_host() {
        let cookie = set(&session(true), "v", true, Duration::from_secs(9)).unwrap();
        assert_eq!(
            cookie,
            "__Host-comind-session=v; Path=/; Max-Age=9; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(!under_way("abc", false).starts_with("__Host-"));
    }
}
