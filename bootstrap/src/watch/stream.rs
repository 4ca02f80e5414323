//! The collector's stream of events (Server-Sent Events), read line by line.
//!
//! Format: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// The collector sends a comment at least every few seconds: longer silence is the end.
const SILENCE: Duration = Duration::from_secs(20);
/// More than this without the end of an event is no event of ours.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Event {
    /// Its kind: snapshot or transition.
    pub kind: String,
    /// Its number.
    pub id: Option<String>,
    /// Its content, JSON.
    pub data: String,
}

/// An open stream.
pub struct Stream {
    body: Incoming,
    parser: Parser,
}

impl Stream {
    /// Opens the stream at `url`, behind event `last` if that is known.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn open(url: &str, last: Option<&str>) -> Result<Self> {
        let mut request = Request::get(url).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .with_context(|| format!("{url} is no URL"))?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answered = tokio::time::timeout(SILENCE, client.request(request)).await;
        let response = answered
            .with_context(|| format!("no answer from {url}"))?
            .with_context(|| format!("no answer from {url}"))?;
        if !response.status().is_success() {
            bail!("{url} answered {}", response.status());
        }
        Ok(Self {
            body: response.into_body(),
            parser: Parser::default(),
        })
    }

    /// The next event; `None` when the stream has ended.
    ///
    /// # Errors
    /// When it breaks, or is silent for too long.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.parser.take() {
                return Ok(Some(event));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let Some(frame) = frame.context("the collector has been silent for too long")? else {
                return Ok(None);
            };
            if let Ok(data) = frame.context("the stream broke")?.into_data() {
                self.parser.feed(&data)?;
            }
        }
    }
}

/// Puts bytes together to events.
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > MAX_EVENT {
            bail!("the collector sent an event of more than {MAX_EVENT} bytes");
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The first whole event, leaving out comments.
    fn take(&mut self) -> Option<Event> {
        loop {
            let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let event = parse(&String::from_utf8_lossy(&block));
            if !event.data.is_empty() {
                return Some(event);
            }
        }
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.kind = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => {
                if !event.data.is_empty() {
                    event.data.push('\n');
                }
                event.data.push_str(value);
            }
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::Parser;

    #[test]
    fn events_come_out_whole_however_they_came_in() -> anyhow::Result<()> {
        let text =
            b": hello\n\nevent: transition\nid: 7\ndata: {\"a\":1,\ndata: \"b\":2}\n\nevent: x";
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for byte in text {
            parser.feed(&[*byte])?;
            events.extend(parser.take());
        }
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind, "transition");
        assert_eq!(events[0].id.as_deref(), Some("7"));
        assert_eq!(events[0].data, "{\"a\":1,\n\"b\":2}");
        Ok(())
    }
}
