//! Headers that are for one hop only. Pure.
//! Source: RFC 9110, section 7.6.1.

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

use super::strict::Refusal;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// These are the message's own: removing one would change where it ends or whom it is for.
const NOT_TO_NAME: [HeaderName; 3] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING];

/// What a request asks to become.
pub type Wish = Option<HeaderValue>;

/// Takes the hop's own headers from a request; gives what it asks to be upgraded to.
///
/// # Errors
/// When `Connection` names what it must not.
pub fn strip_request(headers: &mut HeaderMap) -> Result<Wish, Refusal> {
    if !headers.keys().any(is_of_hop) {
        return Ok(None);
    }
    let mut upgrade = false;
    if headers.contains_key(CONNECTION) {
        let named = named(headers);
        if named.iter().any(|name| NOT_TO_NAME.contains(name)) {
            return Err(Refusal::BadConnection);
        }
        upgrade = named.contains(&UPGRADE);
        // Trailers are asked for end to end where we pass them on.
        named
            .iter()
            .filter(|name| **name != UPGRADE && **name != TE)
            .for_each(|name| {
                headers.remove(name);
            });
        headers.remove(CONNECTION);
    }
    let wish = headers.remove(UPGRADE).filter(|_| upgrade);
    let trailers = headers.get(TE).is_some_and(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|item| item.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    for name in [
        &TRANSFER_ENCODING,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    Ok(wish)
}

/// Takes the hop's own headers from an answer.
pub fn strip_response(headers: &mut HeaderMap) {
    if !headers.keys().any(is_of_hop) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        for name in named(headers) {
            if !NOT_TO_NAME.contains(&name) {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    for name in [
        &TRANSFER_ENCODING,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Most messages have none of these, and one look at each name is all that it costs them.
fn is_of_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == UPGRADE
        || *name == TE
        || *name == TRANSFER_ENCODING
        || *name == PROXY_AUTHORIZATION
        || *name == PROXY_AUTHENTICATE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_is_for_one_hop_does_not_pass() {
        let mut request = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("accept", "a"),
        ]);
        assert_eq!(strip_request(&mut request), Ok(None));
        assert_eq!(request, headers(&[("te", "trailers"), ("accept", "a")]));
    }

    #[test]
    fn an_upgrade_must_be_named() {
        let mut request = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(
            strip_request(&mut request),
            Ok(Some(HeaderValue::from_static("websocket")))
        );
        assert!(request.is_empty());
    }

    #[test]
    fn connection_must_not_name_the_messages_own() {
        for name in ["host", "Content-Length", "close, transfer-encoding"] {
            let mut request = headers(&[]);
            request.insert(CONNECTION, name.parse().unwrap());
            assert_eq!(
                strip_request(&mut request),
                Err(Refusal::BadConnection),
                "{name}"
            );
        }
    }

    #[test]
    fn answers_lose_theirs() {
        let mut answer = headers(&[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("etag", "e"),
        ]);
        strip_response(&mut answer);
        assert_eq!(answer, headers(&[("etag", "e")]));
    }
}
