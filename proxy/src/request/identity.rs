//! What an upstream is told of the client: set anew on each request, taken over only from peers
//! that are trusted. Pure.
//! Sources: RFC 7239 (Forwarded), w3.org/TR/trace-context.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use comind_model::ingress::Cidr;
use http::HeaderMap;
use http::header::{FORWARDED, HeaderName, HeaderValue, VIA};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The trace of a request.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// These are ours to say; what a client says under them, or under names that CGI-like servers
/// take for the same, is dropped.
const OURS: [HeaderName; 9] = [
    HeaderName::from_static("x-forwarded"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-original-forwarded-for"),
    HeaderName::from_static("x-client-ip"),
];

/// Asked of each name that a request has: cheaper than asking for each of these.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-") && OURS.contains(name)
}

/// What we are called in `Via` (RFC 9110, section 7.6.3).
const US: &str = "1.1 comind-ops";

/// A request that has come through proxies like this one so often is in a loop.
pub const MOST_PASSES: usize = 8;

/// How often a request has come through proxies like this one.
pub fn passes(headers: &HeaderMap) -> usize {
    let told = headers
        .get_all(VIA)
        .iter()
        .filter_map(|value| value.to_str().ok());
    told.map(|value| value.matches(US).count()).sum()
}

/// So many headers are added; the map grows once.
const ADDED: usize = 10;

/// A chain that a trusted peer tells is not taken over beyond this many bytes.
const LONGEST: usize = 2048;

/// What a connection says of its client; made once, shared by its requests.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who connected, or whom a PROXY header names.
    pub peer: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
    /// TLS was spoken.
    pub secure: bool,
    /// What it says of others is believed.
    pub trusted: bool,
    address: HeaderValue,
    port: HeaderValue,
    forwarded: HeaderValue,
}

impl Identity {
    /// For a connection from `peer` to `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr, secure: bool, trusted: &[Cidr]) -> Self {
        let ip = peer.ip().to_canonical();
        let proto = if secure { "https" } else { "http" };
        let text =
            |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        let node = match ip {
            IpAddr::V4(_) => format!("for={ip};proto={proto}"),
            IpAddr::V6(_) => format!("for=\"[{ip}]\";proto={proto}"),
        };
        Self {
            peer,
            local,
            secure,
            trusted: trusted.iter().any(|range| range.holds(ip)),
            address: text(&ip.to_string()),
            port: HeaderValue::from(local.port()),
            forwarded: text(&node),
        }
    }

    /// The client: who connected, or the nearest that no trusted peer vouches for.
    pub fn client(&self, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
        let peer = self.peer.ip().to_canonical();
        if !self.trusted {
            return peer;
        }
        nearest_stranger(headers, trusted).unwrap_or(peer)
    }

    /// TLS is spoken up to us, or up to a peer that is trusted.
    pub fn is_secure(&self, headers: &HeaderMap) -> bool {
        let told = self.trusted.then(|| headers.get(FORWARDED_PROTO)).flatten();
        match told {
            Some(told) => told == "https",
            None => self.secure,
        }
    }

    /// Writes all of it on a request. `host` is the one that the client asked for.
    pub fn write(
        &self,
        headers: &mut HeaderMap,
        host: Option<&HeaderValue>,
        trace: Trace,
    ) -> HeaderValue {
        headers.reserve(ADDED);
        headers.append(VIA, HeaderValue::from_static(US));
        let (chain, forwarded) = match self.trusted {
            true => (
                self.chain(headers, FORWARDED_FOR, &self.address),
                self.chain(headers, FORWARDED, &self.forwarded),
            ),
            false => (self.address.clone(), self.forwarded.clone()),
        };
        let proto = match self.secure {
            true => HeaderValue::from_static("https"),
            false => HeaderValue::from_static("http"),
        };
        if self.trusted {
            headers.entry(FORWARDED_PROTO).or_insert(proto);
            headers
                .entry(FORWARDED_PORT)
                .or_insert_with(|| self.port.clone());
            headers
                .entry(REAL_IP)
                .or_insert_with(|| self.address.clone());
            if let Some(host) = host {
                headers
                    .entry(FORWARDED_HOST)
                    .or_insert_with(|| host.clone());
            }
        } else {
            if headers.keys().any(is_ours) {
                for name in &OURS {
                    headers.remove(name);
                }
            }
            headers.insert(FORWARDED_PROTO, proto);
            headers.insert(FORWARDED_PORT, self.port.clone());
            headers.insert(REAL_IP, self.address.clone());
            match host {
                Some(host) => drop(headers.insert(FORWARDED_HOST, host.clone())),
                None => drop(headers.remove(FORWARDED_HOST)),
            }
        }
        headers.insert(FORWARDED_FOR, chain);
        headers.insert(FORWARDED, forwarded);
        trace.write(headers)
    }

    fn chain(&self, headers: &HeaderMap, name: HeaderName, own: &HeaderValue) -> HeaderValue {
        let mut chain = Vec::new();
        for value in headers.get_all(name) {
            chain.extend_from_slice(value.as_bytes());
            chain.extend_from_slice(b", ");
        }
        if chain.is_empty() || chain.len() > LONGEST {
            return own.clone();
        }
        chain.extend_from_slice(own.as_bytes());
        HeaderValue::from_maybe_shared(Bytes::from(chain)).unwrap_or_else(|_| own.clone())
    }
}

/// From the right: the first address of `X-Forwarded-For` that is not trusted itself.
fn nearest_stranger(headers: &HeaderMap, trusted: &[Cidr]) -> Option<IpAddr> {
    let mut told = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        told.extend(
            value
                .to_str()
                .ok()?
                .split(',')
                .map(|item| address(item.trim())),
        );
    }
    let mut last = None;
    for address in told.into_iter().rev() {
        // What is no address ends what can be believed.
        let address = address?;
        last = Some(address);
        if !trusted.iter().any(|range| range.holds(address)) {
            break;
        }
    }
    last
}

/// An address, with or without brackets and port.
fn address(item: &str) -> Option<IpAddr> {
    let item = item.trim_matches('"');
    if let Ok(address) = item.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    item.parse::<SocketAddr>()
        .ok()
        .map(|address| address.ip().to_canonical())
}

/// The trace of a request.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// For a request that has none.
    pub random: u128,
    /// The span that we are.
    pub span: u64,
}

impl Trace {
    /// Goes on with the client's trace where it is valid, else begins one; gives `traceparent`.
    fn write(self, headers: &mut HeaderMap) -> HeaderValue {
        let given = headers
            .get(TRACEPARENT)
            .filter(|value| is_traceparent(value.as_bytes()))
            .cloned();
        let id = match &given {
            Some(parent) => Bytes::copy_from_slice(&parent.as_bytes()[3..35]),
            None => {
                headers.remove(TRACESTATE);
                Bytes::new()
            }
        };
        let mut text = String::with_capacity(55);
        // Sampled or not is the beginner's decision.
        let flags = given
            .as_ref()
            .map_or("01", |parent| match parent.as_bytes()[54] & 1 {
                1 => "01",
                _ => "00",
            });
        let span = self.span.max(1);
        let written = match std::str::from_utf8(&id) {
            Ok(id) if !id.is_empty() => write!(text, "00-{id}-{span:016x}-{flags}"),
            _ => write!(text, "00-{:032x}-{span:016x}-{flags}", self.random.max(1)),
        };
        let bytes = Bytes::from(text);
        let whole = HeaderValue::from_maybe_shared(bytes.clone());
        let (Ok(()), Ok(whole)) = (written, whole) else {
            return HeaderValue::from_static("");
        };
        if !headers.contains_key(REQUEST_ID)
            && let Ok(id) = HeaderValue::from_maybe_shared(bytes.slice(3..35))
        {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(TRACEPARENT, whole.clone());
        whole
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zeros.
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |part: &[u8]| {
        part.iter()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
    };
    let some = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    text.len() == 55
        && text.starts_with(b"00-")
        && text[35] == b'-'
        && text[52] == b'-'
        && hex(&text[3..35])
        && hex(&text[36..52])
        && hex(&text[53..])
        && some(&text[3..35])
        && some(&text[36..52])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: Trace = Trace {
        random: 0xabc,
        span: 7,
    };

    fn identity(peer: &str, trusted: &[&str]) -> (Identity, Vec<Cidr>) {
        let trusted: Vec<Cidr> = trusted.iter().map(|range| range.parse().unwrap()).collect();
        let local = "10.0.0.9:8081".parse().unwrap();
        (
            Identity::new(peer.parse().unwrap(), local, true, &trusted),
            trusted,
        )
    }

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let value = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(value).collect()
    }

    #[test]
    fn a_stranger_says_nothing_of_itself() {
        let (identity, trusted) = identity("192.0.2.1:5", &["10.0.0.0/8"]);
        let mut headers = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/x"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
        ]);
        assert_eq!(identity.client(&headers, &trusted).to_string(), "192.0.2.1");
        identity.write(&mut headers, Some(&HeaderValue::from_static("app")), TRACE);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-host"], "app");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-port"], "8081");
        assert_eq!(headers["forwarded"], "for=192.0.2.1;proto=https");
        assert_eq!(headers["x-real-ip"], "192.0.2.1");
        assert!(!headers.contains_key("x-forwarded-prefix"));
        let (identity, _) = self::identity("[2001:db8::1]:5", &[]);
        identity.write(&mut headers, None, TRACE);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=https");
        assert!(!headers.contains_key("x-forwarded-host"));
    }

    #[test]
    fn a_trusted_peer_is_believed_up_to_the_first_stranger() {
        let (identity, trusted) = identity("10.0.0.1:5", &["10.0.0.0/8"]);
        let headers = map(&[("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2")]);
        assert_eq!(identity.client(&headers, &trusted).to_string(), "192.0.2.7");
        let nonsense = map(&[("x-forwarded-for", "192.0.2.7, unknown, 10.0.0.2")]);
        assert_eq!(identity.client(&nonsense, &trusted).to_string(), "10.0.0.1");
        let port = map(&[("x-forwarded-for", "\"[2001:db8::1]:44\"")]);
        assert_eq!(identity.client(&port, &trusted).to_string(), "2001:db8::1");
        let mut headers = headers;
        identity.write(&mut headers, None, TRACE);
        assert_eq!(
            headers["x-forwarded-for"],
            "6.6.6.6, 192.0.2.7, 10.0.0.2, 10.0.0.1"
        );
    }

    #[test]
    fn traces_go_on_or_begin() {
        let (identity, _) = identity("192.0.2.1:5", &[]);
        let mut headers = map(&[("tracestate", "a=b")]);
        let begun = identity.write(&mut headers, None, TRACE);
        assert_eq!(
            begun,
            "00-00000000000000000000000000000abc-0000000000000007-01"
        );
        assert_eq!(headers["x-request-id"], "00000000000000000000000000000abc");
        assert!(!headers.contains_key("tracestate"));
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let mut headers = map(&[
            ("traceparent", parent),
            ("tracestate", "a=b"),
            ("x-request-id", "mine"),
        ]);
        let on = identity.write(&mut headers, None, TRACE);
        assert_eq!(
            on,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-00"
        );
        assert_eq!(headers["x-request-id"], "mine");
        assert_eq!(headers["tracestate"], "a=b");
        for bad in [
            "",
            "00-x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }
}
