//! What a request must not be. Pure: a head in, a refusal out. Everything that two servers could
//! read in two ways is refused here, before an upstream sees anything of it.
//! Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 9113 (HTTP/2), RFC 3986 (URIs).

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Version};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Two lengths, or a length beside chunks.
    AmbiguousLength,
    /// A line that ends with a bare line feed.
    BareLineFeed,
    /// No `Host`, several, one that is none, or one that differs from the target's.
    BadHost,
    /// A path that means another one to whoever decodes it.
    AmbiguousPath,
    /// A target of a form that is not for this method.
    BadTarget,
    /// `CONNECT`, `TRACE`.
    Method,
    /// An upgrade together with a body.
    UpgradeWithBody,
    /// `Connection` names a header that is not its to name.
    BadConnection,
    /// A field's value begins or ends with a blank, which HTTP/1 would have taken away and the next
    /// hop may or may not.
    PaddedField,
    /// It has come through here too often.
    Loop,
}

impl Refusal {
    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Loop => StatusCode::LOOP_DETECTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AmbiguousLength => "ambiguous_length",
            Self::BareLineFeed => "bare_line_feed",
            Self::BadHost => "bad_host",
            Self::AmbiguousPath => "ambiguous_path",
            Self::BadTarget => "bad_target",
            Self::Method => "method",
            Self::UpgradeWithBody => "upgrade_with_body",
            Self::BadConnection => "bad_connection",
            Self::PaddedField => "padded_field",
            Self::Loop => "loop",
        }
    }

    /// What is wrong, and what to send instead.
    pub fn advice(self) -> &'static str {
        match self {
            Self::AmbiguousLength => {
                "the request gives its length in two ways; send Content-Length or Transfer-Encoding, once"
            }
            Self::BareLineFeed => {
                "a line of the head ends without a carriage return; end lines with CRLF"
            }
            Self::BadHost => {
                "exactly one valid Host is needed, and it must be that of the request's target"
            }
            Self::AmbiguousPath => {
                "the path has dot segments, backslashes or control characters; send the path that is meant"
            }
            Self::BadTarget => "the request's target is of a form that this method does not take",
            Self::Method => "this proxy does not serve CONNECT and TRACE",
            Self::UpgradeWithBody => "a request to upgrade must have no body",
            Self::BadConnection => {
                "the header Connection names one that belongs to the request itself; leave it out there"
            }
            Self::PaddedField => {
                "a header's value begins or ends with a blank; HTTP/2 has none around values"
            }
            Self::Loop => {
                "it has come through this proxy several times: some upstream leads back here"
            }
        }
    }
}

/// Refuses what must not pass.
///
/// # Errors
/// The first rule that the request breaks.
pub fn check(head: &Parts) -> Result<(), Refusal> {
    method(head)?;
    target(head)?;
    host(head)?;
    if !path_is_plain(head.uri.path()) {
        return Err(Refusal::AmbiguousPath);
    }
    let headers = &head.headers;
    if head.version >= Version::HTTP_2 && headers.values().any(is_padded) {
        return Err(Refusal::PaddedField);
    }
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::AmbiguousLength);
    }
    if headers.contains_key(UPGRADE) && has_body(headers) {
        return Err(Refusal::UpgradeWithBody);
    }
    Ok(())
}

/// RFC 9113, section 8.2.1.
fn is_padded(value: &http::HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    blank(bytes.first()) || blank(bytes.last())
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

fn method(head: &Parts) -> Result<(), Refusal> {
    match head.method {
        Method::CONNECT | Method::TRACE => Err(Refusal::Method),
        _ => Ok(()),
    }
}

/// RFC 9112, section 3.2: origin form, absolute form, and the asterisk for OPTIONS.
fn target(head: &Parts) -> Result<(), Refusal> {
    let uri = &head.uri;
    if uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Refusal::BadTarget);
    }
    match uri.scheme_str() {
        None if head.version < Version::HTTP_2 && uri.authority().is_some() => {
            Err(Refusal::BadTarget)
        }
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(Refusal::BadTarget),
    }
}

fn host(head: &Parts) -> Result<(), Refusal> {
    let mut given = head.headers.get_all(HOST).iter();
    let (first, second) = (given.next(), given.next());
    if second.is_some() {
        return Err(Refusal::BadHost);
    }
    let authority = head.uri.authority();
    match (first, authority) {
        (None, None) if head.version > Version::HTTP_10 => Err(Refusal::BadHost),
        (None, None) => Ok(()),
        (None, Some(authority)) => valid(authority.as_str()),
        (Some(host), None) => valid(host.to_str().map_err(|_| Refusal::BadHost)?),
        (Some(host), Some(authority)) => same(host.to_str().ok(), authority),
    }
}

fn same(host: Option<&str>, authority: &Authority) -> Result<(), Refusal> {
    match host {
        Some(host) if host.eq_ignore_ascii_case(authority.as_str()) => valid(host),
        _ => Err(Refusal::BadHost),
    }
}

/// A name or an address, and perhaps a port. No user, no percent signs, nothing empty.
fn valid(host: &str) -> Result<(), Refusal> {
    let (name, port) = split_port(host);
    let good_name = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| {
            address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.')
        }),
        None => {
            !name.is_empty()
                && name.len() <= 253
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let good_port = port.is_none_or(|port| {
        port.len() <= 5
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    });
    match good_name && good_port {
        true => Ok(()),
        false => Err(Refusal::BadHost),
    }
}

/// `host:port` in its parts; brackets stay.
pub fn split_port(host: &str) -> (&str, Option<&str>) {
    let after = host.rfind(']').map_or(0, |at| at + 1);
    match host[after..].rfind(':') {
        Some(at) => (&host[..after + at], Some(&host[after + at + 1..])),
        None => (host, None),
    }
}

/// Whether every reader takes the path for the same one: no segment that is `.` or `..` however
/// often it is encoded once, no backslash, no control character, no end of a string.
pub fn path_is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Most paths have none of these, and one look at each byte is all that they cost.
    if !bytes
        .iter()
        .any(|byte| matches!(byte, b'.' | b'%' | b'\\' | b';' | ..=b' ' | 0x7f))
    {
        return true;
    }
    decoded_is_plain(bytes)
}

fn decoded_is_plain(bytes: &[u8]) -> bool {
    // What the segment read so far is: nothing but dots (how many), or something else.
    let mut dots = Some(0_usize);
    let mut rest = bytes;
    let is_dots = |dots: Option<usize>| matches!(dots, Some(1 | 2));
    while let Some((byte, tail)) = next_decoded(rest) {
        rest = tail;
        match byte {
            b'/' if is_dots(dots) => return false,
            b'/' => dots = Some(0),
            // Some servers end a segment there (path parameters).
            b';' if is_dots(dots) => return false,
            b'.' => dots = dots.map(|count| count + 1),
            b'\\' | ..=0x1f | 0x7f => return false,
            _ => dots = None,
        }
    }
    // A percent sign that begins nothing.
    rest.is_empty() && !is_dots(dots)
}

/// The next byte as a reader who decodes once gets it.
fn next_decoded(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [b'%', high, low, rest @ ..] => Some((hex(*high)? << 4 | hex(*low)?, rest)),
        [b'%', ..] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn refused(request: http::request::Builder) -> Option<&'static str> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        check(&head).err().map(Refusal::as_str)
    }

    #[test]
    fn hosts_must_be_one_and_the_same() {
        let get = |uri: &str| Request::get(uri).version(Version::HTTP_11);
        assert_eq!(refused(get("/").header("host", "a")), None);
        assert_eq!(refused(get("/").header("host", "[::1]:80")), None);
        assert_eq!(refused(get("/")), Some("bad_host"));
        assert_eq!(refused(get("/").version(Version::HTTP_10)), None);
        for bad in [
            "", "a b", "a,b", "u@a", "a:b", "a:99999", "a/b", "[::1", "a:80:80",
        ] {
            assert_eq!(
                refused(get("/").header("host", bad)),
                Some("bad_host"),
                "{bad}"
            );
        }
        let two = get("/").header("host", "a").header("host", "a");
        assert_eq!(refused(two), Some("bad_host"));
        assert_eq!(refused(get("http://a/").header("host", "A")), None);
        assert_eq!(
            refused(get("http://a/").header("host", "b")),
            Some("bad_host")
        );
        assert_eq!(
            refused(get("http://u@a/").header("host", "u@a")),
            Some("bad_host")
        );
        assert_eq!(
            refused(get("ftp://a/").header("host", "a")),
            Some("bad_target")
        );
    }

    #[test]
    fn paths_that_mean_others_are_refused() {
        for good in [
            "/",
            "/a/b",
            "/a.b/..c/...",
            "/a%20b",
            "/a%2Fb",
            "//a",
            "/%25",
            "/a;b=1",
            "/.well-known/x",
            "/%c3%a9",
            "/api/v1/repositories/https%3A%2F%2Fgit.example%2Fa.git",
        ] {
            assert!(path_is_plain(good), "{good}");
        }
        for bad in [
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/a%2f..%2fb",
            "/.%2E/x",
            "/a\\b",
            "/a%5cb",
            "/%00",
            "/a%0d%0ab",
            "/%7f",
            "/a%",
            "/a%4",
            "/a%zz",
            "/..;/admin",
            "/%2e%2e;x/admin",
            "/a%1f",
        ] {
            assert!(!path_is_plain(bad), "{bad}");
        }
    }

    proptest! {
        /// Compared with a slow reading: decode once, then look at each segment.
        #[test]
        fn as_a_slow_reader_sees_it(path in "/([a.%2eEfF/\\\\5cC0;]{0,12})") {
            let mut decoded = Vec::new();
            let mut rest = path.as_bytes();
            let mut whole = true;
            while !rest.is_empty() {
                match next_decoded(rest) {
                    Some((byte, tail)) => { decoded.push(byte); rest = tail; }
                    None => { whole = false; break; }
                }
            }
            let segments = decoded.split(|byte| *byte == b'/');
            let dots = segments.into_iter().any(|segment| {
                let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
                name == b"." || name == b".."
            });
            let control = decoded.iter().any(|byte| *byte < 0x20 || *byte == 0x7f || *byte == b'\\');
            prop_assert_eq!(path_is_plain(&path), whole && !dots && !control);
        }
    }
}
