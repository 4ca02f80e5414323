//! What an upstream is told of who asks. A client's own word on that is taken from every request,
//! on every route, whoever sends it. Pure.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::session::table::Who;

const USER: HeaderName = HeaderName::from_static("x-auth-request-user");
const EMAIL: HeaderName = HeaderName::from_static("x-auth-request-email");
const GROUPS: HeaderName = HeaderName::from_static("x-auth-request-groups");
const WEBAUTH: HeaderName = HeaderName::from_static("x-webauth-user");

/// Names that programs believe to be said by a proxy such as this one.
const BELIEVED: [&str; 10] = [
    "x-auth-request-",
    "x-webauth-",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-remote-",
    "remote-",
    "x-authenticated-",
];

/// Whether a name is one of those. Servers that make variables of names take `_` for `-`.
pub fn is_believed(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if !matches!(name.first(), Some(b'x' | b'r')) {
        return false;
    }
    let like = |own: &&str| {
        let same = |(a, b): (&u8, u8)| *a == b || (*a == b'_' && b == b'-');
        name.len() >= own.len() && name.iter().zip(own.bytes()).all(same)
    };
    BELIEVED.iter().any(like)
}

/// Takes them from a request, or from its trailers.
pub fn strip(headers: &mut HeaderMap) {
    if !headers.keys().any(is_believed) {
        return;
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_believed(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether a name can be told in a header and cannot be taken for two.
pub fn is_tellable(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(|letter| letter.is_control())
}

/// Writes who it is; [`strip`] comes first.
pub fn write(headers: &mut HeaderMap, who: &Who, webauth: bool) {
    let mut tell = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.insert(name, value);
        }
    };
    tell(USER, &who.user);
    if webauth {
        tell(WEBAUTH, &who.user);
    }
    if let Some(email) = &who.email {
        tell(EMAIL, email);
    }
    // A group with a comma in it would be two.
    let groups: Vec<&str> = who
        .groups
        .iter()
        .map(|group| &**group)
        .filter(|group| is_tellable(group) && !group.contains(','))
        .collect();
    if !groups.is_empty() {
        tell(GROUPS, &groups.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_says_who_asks() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-auth-request-user",
            "x-auth-request-access-token",
            "x_auth_request_user",
            "x-webauth-user",
            "X-WEBAUTH_ROLE",
            "x-forwarded-groups",
            "remote-user",
            "remote_user",
            "x-remote-group",
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_static("root"));
        }
        headers.insert("x-forwarded-for", HeaderValue::from_static("a"));
        headers.insert("x-request-id", HeaderValue::from_static("b"));
        headers.insert("range", HeaderValue::from_static("c"));
        strip(&mut headers);
        assert_eq!(headers.len(), 3, "{headers:?}");
    }

    #[test]
    fn a_group_is_one_group() {
        let who = Who {
            user: "ada".into(),
            email: Some("ada@example.org".into()),
            roles: Vec::new(),
            groups: vec!["dev".into(), "a,admin".into(), "ops".into(), "x\ny".into()],
        };
        let mut headers = HeaderMap::new();
        write(&mut headers, &who, true);
        assert_eq!(headers[GROUPS], "dev,ops");
        assert_eq!(headers[WEBAUTH], "ada");
        assert_eq!(headers[EMAIL], "ada@example.org");
    }
}
