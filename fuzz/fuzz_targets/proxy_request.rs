//! Heads of requests of any bytes: the strict rules, hop-by-hop headers and identity never panic,
//! and what they let through holds what they promise.
#![no_main]

use comind_proxy::request::identity::{Identity, Trace};
use comind_proxy::request::{hop, strict};
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Lines: method, target, then `name: value`.
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(method), Some(target)) = (lines.next(), lines.next()) else { return };
    let mut request = Request::builder().method(method).uri(target).version(http::Version::HTTP_11);
    for line in lines.take(50) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 1..])) else {
            continue;
        };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return };
    let (mut head, ()) = request.into_parts();
    if strict::check(&head).is_err() {
        return;
    }
    assert!(!head.uri.path().contains("/../") && !head.uri.path().contains('\\'));
    let trusted = ["10.0.0.0/8".parse().expect("a range")];
    for peer in ["10.0.0.1:1", "192.0.2.1:1"] {
        let identity = Identity::new(peer.parse().expect("an address"), "10.0.0.2:80".parse().expect("one"), false, &trusted);
        let client = identity.client(&head.headers, &trusted);
        assert!(peer.starts_with("10.") || client.to_string() == "192.0.2.1");
        let mut headers = head.headers.clone();
        identity.write(&mut headers, None, Trace { random: 1, span: 1 });
        let chain = headers["x-forwarded-for"].as_bytes();
        assert!(chain.ends_with(peer.split(':').next().unwrap_or_default().as_bytes()));
    }
    if hop::strip_request(&mut head.headers).is_ok() {
        for name in ["connection", "upgrade", "keep-alive", "transfer-encoding", "proxy-authorization"] {
            assert!(!head.headers.contains_key(name));
        }
    }
});
