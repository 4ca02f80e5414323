//! PROXY headers of any bytes: never a panic, never more taken than there is, and what we write is
//! read back.
#![no_main]

use comind_proxy::serve::preface::{Claim, Read, claim, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Read::Whole(told, length) = claim(bytes) {
        assert!(length <= bytes.len());
        if let Claim::From(client) = told {
            for version in [1, 2] {
                let written = header(version, client, client);
                let plain = std::net::SocketAddr::new(client.ip().to_canonical(), client.port());
                assert_eq!(claim(&written), Read::Whole(Claim::From(plain), written.len()));
            }
        }
    }
});
