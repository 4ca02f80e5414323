//! A reader of `/api/v1/events` (Server-Sent Events), which notes when each event arrived.
//!
//! Source of the format: WHATWG HTML, "Server-sent events".

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long opening may take.
const OPEN: Duration = Duration::from_secs(10);

/// One event as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When its last line was read.
    pub(crate) at: Instant,
    /// `snapshot` or `transition`.
    pub(crate) event: String,
    /// Its id.
    pub(crate) id: String,
    /// Its data.
    pub(crate) data: Value,
}

impl Seen {
    /// Whether it is a transition of this target to this health.
    pub(crate) fn is(&self, target: &str, to: &str) -> bool {
        self.event == "transition" && self.data["target"] == target && self.data["to"] == to
    }
}

#[derive(Clone, Debug, Default)]
struct Stream {
    seen: Vec<Seen>,
    ended: bool,
}

/// An open stream. Dropping it closes it.
pub(crate) struct Events {
    stream: watch::Receiver<Stream>,
    /// What lies before this place was waited for already.
    place: usize,
    reader: JoinHandle<()>,
}

impl Events {
    /// Opens a stream, to go on after the event `last` if given.
    pub(crate) async fn open(addr: SocketAddr, last: Option<&[u8]>) -> Result<Self> {
        let opened = tokio::time::timeout(OPEN, body(addr, last)).await;
        let body = opened.context("the event stream did not open")??;
        let (sender, stream) = watch::channel(Stream::default());
        let reader = tokio::spawn(async move {
            read(body, &sender).await;
            sender.send_modify(|stream| stream.ended = true);
        });
        Ok(Self {
            stream,
            place: 0,
            reader,
        })
    }

    /// Everything that has come.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.stream.borrow().seen.clone()
    }

    /// From here on: what has come so far is not waited for any more.
    pub(crate) fn mark(&mut self) {
        self.place = self.stream.borrow().seen.len();
    }

    /// What has come since the last [`mark`](Self::mark) or the last event waited for.
    pub(crate) fn since(&self) -> Vec<Seen> {
        self.stream.borrow().seen[self.place..].to_vec()
    }

    /// Waits for the next event that is `good`.
    pub(crate) async fn next(
        &mut self,
        what: &str,
        deadline: Duration,
        good: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        let place = self.place;
        let found = |stream: &Stream| {
            let seen = stream.seen[place..].iter();
            seen.enumerate()
                .find(|(_, seen)| good(seen))
                .map(|(at, _)| place + at)
        };
        let waited = {
            let here = self
                .stream
                .wait_for(|stream| stream.ended || found(stream).is_some());
            let waited = tokio::time::timeout(deadline, here).await;
            waited.map(|stream| stream.map(|stream| stream.clone()))
        };
        let came = || format!("{what} did not come; since then came {:?}", self.since());
        let stream = waited.with_context(came)?.with_context(came)?;
        let at = found(&stream).with_context(came)?;
        self.place = at + 1;
        Ok(stream.seen[at].clone())
    }

    /// Waits for the next transition of a target to a health.
    pub(crate) async fn transition(
        &mut self,
        target: &str,
        to: &str,
        deadline: Duration,
    ) -> Result<Seen> {
        let what = format!("the transition of {target} to {to}");
        self.next(&what, deadline, |seen| seen.is(target, to)).await
    }

    /// Waits for the snapshot that begins a stream.
    pub(crate) async fn snapshot(&mut self, deadline: Duration) -> Result<Seen> {
        self.next("a snapshot", deadline, |seen| seen.event == "snapshot")
            .await
    }

    /// Waits until the server has ended the stream.
    pub(crate) async fn ended(&mut self, deadline: Duration) -> Result<()> {
        let ended = self.stream.wait_for(|stream| stream.ended);
        let waited = tokio::time::timeout(deadline, ended).await;
        waited.context("the event stream is still open")??;
        Ok(())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn body(addr: SocketAddr, last: Option<&[u8]>) -> Result<Incoming> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection); // ends with the body
    let mut request = Request::get("/api/v1/events").header(header::HOST, addr.to_string());
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?);
    let answer = answer.await?;
    let content = answer.headers().get(header::CONTENT_TYPE).cloned();
    ensure!(answer.status().is_success(), "{}", answer.status());
    ensure!(
        content.as_ref().is_some_and(|c| c == "text/event-stream"),
        "the content type is {content:?}"
    );
    Ok(answer.into_body())
}

async fn read(mut body: Incoming, sender: &watch::Sender<Stream>) {
    let mut bytes = Vec::new();
    let mut draft = Draft::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        bytes.extend_from_slice(&data);
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(seen) = draft.take(line.trim_end()) {
                sender.send_modify(|stream| stream.seen.push(seen));
            }
        }
    }
}

#[derive(Default)]
struct Draft {
    event: String,
    id: String,
    data: String,
}

impl Draft {
    /// Takes one line in; hands the event out at the empty line which ends it.
    fn take(&mut self, line: &str) -> Option<Seen> {
        if line.is_empty() {
            let done = std::mem::take(self);
            return (!done.data.is_empty()).then(|| Seen {
                at: Instant::now(),
                event: done.event,
                id: done.id,
                data: serde_json::from_str(&done.data).unwrap_or(Value::Null),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" => value.clone_into(&mut self.id),
            "data" => self.data.push_str(value),
            _ => {} // comments keep the stream alive
        }
        None
    }
}
