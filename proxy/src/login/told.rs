//! What an upstream is told of who asks. A client's own word on that is taken from every request,
//! on every route, whoever sends it. Pure.

use std::sync::Arc;

use comind_model::login::{Hidden, Said, Tell, TokenAs};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};

use super::cookie;
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

/// Further names that routes of ours tell under; no client says them, at any route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Arc<[Box<str>]>);

impl Names {
    /// Those of these.
    pub fn of<'t>(all: impl IntoIterator<Item = &'t Tell>) -> Self {
        let headers = all.into_iter().flat_map(|tell| &tell.headers);
        let mut names: Vec<Box<str>> = headers.map(|(_, name)| plain(name).into()).collect();
        names.sort();
        names.dedup();
        Self(names.into())
    }

    fn has(&self, name: &HeaderName) -> bool {
        !self.0.is_empty() && self.0.iter().any(|own| **own == *plain(name.as_str()))
    }
}

/// As servers read it that make variables of names.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Takes them from a request, or from its trailers.
pub fn strip(headers: &mut HeaderMap, more: &Names) {
    let ours = |name: &HeaderName| is_believed(name) || more.has(name);
    if !headers.keys().any(ours) {
        return;
    }
    let names: Vec<_> = headers.keys().filter(|name| ours(name)).cloned().collect();
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
    if let Some(groups) = groups(who) {
        tell(GROUPS, &groups);
    }
}

/// All groups as one text. One with a comma in it would be two.
fn groups(who: &Who) -> Option<String> {
    let groups: Vec<&str> = who
        .groups
        .iter()
        .map(|group| &**group)
        .filter(|group| is_tellable(group) && !group.contains(','))
        .collect();
    (!groups.is_empty()).then(|| groups.join(","))
}

/// Writes it under the names that a route has for its upstream.
pub fn write_named(headers: &mut HeaderMap, who: &Who, tell: &Tell) {
    for (said, name) in &tell.headers {
        let text = match said {
            Said::User => Some(who.user.to_string()),
            Said::Name => who.name.as_deref().map(str::to_owned),
            Said::Email => who.email.as_deref().map(str::to_owned),
            Said::Groups => groups(who),
        };
        let value = text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
        if let (Some(value), Ok(name)) = (value, name.parse::<HeaderName>()) {
            headers.insert(name, value);
        }
    }
}

/// The cookie that Argo CD reads its tokens from.
const ARGOCD: &str = "argocd.token";

/// Hands on what was shown. The client's own word under that name is dropped, also where there is
/// nothing to hand on.
pub fn hand_on(headers: &mut HeaderMap, form: TokenAs, token: Option<&Hidden>) {
    let (name, text) = match form {
        TokenAs::Bearer => {
            headers.remove(AUTHORIZATION);
            let bearer = |token: &Hidden| format!("Bearer {}", token.reveal()).into_bytes();
            (AUTHORIZATION, token.map(bearer))
        }
        TokenAs::ArgoCd => {
            cookie::drop_named(headers, |name| name.starts_with(ARGOCD));
            // Some servers look at one `Cookie` alone.
            let with = |token: &Hidden| {
                let own = format!("{ARGOCD}={}", token.reveal()).into_bytes();
                let others = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
                let all: Vec<&[u8]> = others.chain([&own[..]]).collect();
                all.join(&b"; "[..])
            };
            (COOKIE, token.map(with))
        }
    };
    if let Some(Ok(mut value)) = text.map(|text| HeaderValue::from_bytes(&text)) {
        value.set_sensitive(true);
        headers.insert(name, value);
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
        strip(&mut headers, &Names::default());
        assert_eq!(headers.len(), 3, "{headers:?}");
    }

    #[test]
    fn a_group_is_one_group() {
        let who = Who {
            user: "ada".into(),
            name: None,
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
    fn tell(headers: &[(Said, &str)], token: Option<TokenAs>) -> Tell {
        Tell {
            headers: headers
                .iter()
                .map(|(said, name)| (*said, Arc::from(*name)))
                .collect(),
            token,
        }
    }

    #[test]
    fn names_of_our_own_choice_are_ours_however_they_are_written() {
        let tell = tell(
            &[(Said::User, "X-Grafana_User"), (Said::Email, "X-Mail")],
            None,
        );
        let names = Names::of([&tell]);
        let mut headers = HeaderMap::new();
        for name in [
            "x-grafana-user",
            "x_grafana_user",
            "x-grafana-user2",
            "x-mail",
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_static("root"));
        }
        strip(&mut headers, &names);
        assert_eq!(headers.len(), 1, "{headers:?}");
        let who = Who {
            user: "ada".into(),
            name: None,
            email: None,
            roles: Vec::new(),
            groups: Vec::new(),
        };
        write_named(&mut headers, &who, &tell);
        assert_eq!(headers["x-grafana_user"], "ada");
        assert!(!headers.contains_key("x-mail"));
    }

    #[test]
    fn a_token_takes_the_place_of_what_a_client_says() {
        let own = || {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer evil"));
            let cookies = "a=1; argocd.token=evil; argocd.token-1=evil; b=2";
            headers.insert(COOKIE, HeaderValue::from_static(cookies));
            headers
        };
        let token = Hidden::new("good");
        let mut headers = own();
        hand_on(&mut headers, TokenAs::Bearer, Some(&token));
        assert_eq!(headers[AUTHORIZATION], "Bearer good");
        assert!(headers[AUTHORIZATION].is_sensitive());
        hand_on(&mut headers, TokenAs::Bearer, None);
        assert!(!headers.contains_key(AUTHORIZATION));
        let mut headers = own();
        hand_on(&mut headers, TokenAs::ArgoCd, Some(&token));
        let cookies: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; argocd.token=good"]);
    }
}
