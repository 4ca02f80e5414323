//! The header `Last-Event-ID` of any bytes: never a panic; a number is that number.
#![no_main]

use comind_collector::api::resume;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(id) = resume::parse(bytes) {
        assert_eq!(resume::parse(id.to_string().as_bytes()), Some(id));
    }
});
