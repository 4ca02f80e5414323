//! Raw heads in pieces: where they are cut makes no difference to what is seen in them.
#![no_main]

use comind_proxy::serve::head_scan::HeadScan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    let mut whole = HeadScan::default();
    whole.feed(&bytes);
    let mut pieces = HeadScan::default();
    let mut rest = bytes.as_slice();
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.feed(piece);
        rest = after;
    }
    pieces.feed(rest);
    assert_eq!((whole.seen, whole.ended), (pieces.seen, pieces.ended));
});
