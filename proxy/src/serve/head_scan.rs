//! Looks at the raw head of an HTTP/1 request as it comes in, for what the parser behind forgives:
//! a length beside chunks, and lines that end with a bare line feed. Pure.
//!
//! The parser follows RFC 9112, section 6.3, and lets chunks win over a length; this proxy refuses
//! such a message, because whoever sends one wants two servers to read it differently.

use memchr::memchr;

const LENGTH: &[u8] = b"content-length:";
const ENCODING: &[u8] = b"transfer-encoding:";

/// As much of a line as has to be kept to know its name.
const KEPT: usize = ENCODING.len();

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `Content-Length`.
    pub length: bool,
    /// `Transfer-Encoding`.
    pub encoding: bool,
    /// A line ended with a line feed alone.
    pub bare_line_feed: bool,
}

/// One head, read piece by piece.
#[derive(Debug, Default)]
pub struct HeadScan {
    /// What was seen so far.
    pub seen: Seen,
    /// The head is over: what follows is something else.
    pub ended: bool,
    begun: bool,
    /// The beginning of a line that the piece before did not end.
    start: [u8; KEPT],
    started: usize,
    last: Option<u8>,
}

impl HeadScan {
    /// Looks at the next piece; gives how many bytes of it lie beyond the head's end.
    pub fn feed(&mut self, mut piece: &[u8]) -> usize {
        while !self.ended && !piece.is_empty() {
            let Some(at) = memchr(b'\n', piece) else {
                self.keep(piece);
                return 0;
            };
            self.line(&piece[..at]);
            piece = &piece[at + 1..];
        }
        piece.len()
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = (KEPT - self.started).min(piece.len());
        self.start[self.started..self.started + room].copy_from_slice(&piece[..room]);
        self.started += room;
        self.last = piece.last().copied();
    }

    fn line(&mut self, rest: &[u8]) {
        let last = rest.last().copied().or(self.last);
        // Of a piece that began in the middle of a line nothing is known.
        if last.is_some_and(|last| last != b'\r') || (last.is_none() && self.begun) {
            self.seen.bare_line_feed = true;
        }
        if self.started == 0 {
            self.judge(rest);
        } else {
            self.keep(rest);
            let (start, length) = (self.start, self.started);
            self.judge(&start[..length]);
        }
        (self.started, self.last) = (0, None);
    }

    fn judge(&mut self, line: &[u8]) {
        match line {
            // Empty lines before the request line are no end.
            [] | [b'\r'] => self.ended = self.begun,
            _ => {
                self.begun = true;
                self.seen.length |= is(line, LENGTH);
                self.seen.encoding |= is(line, ENCODING);
            }
        }
    }
}

fn is(line: &[u8], name: &[u8]) -> bool {
    line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(pieces: &[&[u8]]) -> (Seen, bool) {
        let mut scan = HeadScan::default();
        for piece in pieces {
            scan.feed(piece);
        }
        (scan.seen, scan.ended)
    }

    #[test]
    fn sees_both_lengths_and_the_end() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 3\r\nTransfer-Encoding: chunked\r\n\r\nX: \n";
        let both = Seen {
            length: true,
            encoding: true,
            bare_line_feed: false,
        };
        assert_eq!(scan(&[head]), (both, true));
        assert_eq!(scan(&[b"\r\nGET / HTTP/1.1\r\n"]), (Seen::default(), false));
        assert!(scan(&[b"GET / HTTP/1.1\nHost: a\r\n\r\n"]).0.bare_line_feed);
        assert!(scan(&[b"GET / HTTP/1.1\r\nHost: a\r\n\n"]).0.bare_line_feed);
        // In a value it is no header.
        assert!(
            !scan(&[b"GET / HTTP/1.1\r\nX: content-length: 3\r\n\r\n"])
                .0
                .length
        );
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(head in "(GET / HTTP/1.1\r\n)?((content-length|transfer-encoding|host): [a-z0-9]{0,3}\r?\n){0,4}(\r\n)?", cuts in prop::collection::vec(0_usize..80, 0..6)) {
            let bytes = head.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(scan(&pieces), scan(&[bytes]));
        }
    }
}
