//! What kind of stream a request begins: that decides for how long silence is normal. Pure.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A request with its answer.
    Plain,
    /// Server-Sent Events.
    Events,
    /// gRPC, also its form for browsers.
    Grpc,
    /// An upgraded connection, such as a WebSocket.
    Upgraded,
}

impl Class {
    /// By what a request says.
    pub fn of_request(headers: &HeaderMap, upgrades: bool) -> Self {
        if upgrades {
            return Self::Upgraded;
        }
        if begins(headers.get(CONTENT_TYPE), b"application/grpc") {
            return Self::Grpc;
        }
        match headers.get(ACCEPT) {
            Some(accept) if begins(Some(accept), b"text/event-stream") => Self::Events,
            _ => Self::Plain,
        }
    }

    /// What an answer shows it to be after all.
    pub fn with_answer(self, headers: &HeaderMap) -> Self {
        match begins(headers.get(CONTENT_TYPE), b"text/event-stream") {
            true => Self::Events,
            false => self,
        }
    }

    /// Silence is normal.
    pub fn is_stream(self) -> bool {
        self != Self::Plain
    }
}

/// gRPC itself, which is HTTP/2 alone; its form for browsers is not.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    begins(kind, b"application/grpc") && !begins(kind, b"application/grpc-web")
}

fn begins(value: Option<&http::HeaderValue>, with: &[u8]) -> bool {
    value.is_some_and(|value| {
        let bytes = value.as_bytes();
        bytes.len() >= with.len() && bytes[..with.len()].eq_ignore_ascii_case(with)
    })
}
