//! Bodies on their way: counted, limited, and given up when they stand still. Nothing is gathered:
//! a piece is asked for when the other side takes it.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::flight::{Flight, Told};
use crate::login::told;
use crate::upstream::pool::Lease;

/// Why a body broke off.
#[derive(Debug)]
pub enum Broken {
    /// The side that sends it.
    Source(hyper::Error),
    /// It stood still for so long.
    Idle(Duration),
    /// It is larger than so many bytes.
    TooLarge(u64),
    /// The session of who reads it has ended.
    Ended,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "its sender broke it off: {error}"),
            Self::Idle(limit) => write!(f, "nothing of it came for {limit:?}"),
            Self::TooLarge(limit) => write!(f, "it is larger than {limit} bytes"),
            Self::Ended => f.write_str("the session has ended"),
        }
    }
}

impl std::error::Error for Broken {}

/// Ends what stands still. Costs nothing while pieces are there when they are asked for.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            waits: false,
        }
    }

    fn came(&mut self) {
        self.waits = false;
    }

    /// Nothing is there yet: whether that has lasted too long.
    fn lost(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.waits {
            self.waits = true;
            sleep.as_mut().reset(Instant::now() + limit);
        }
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// The body of a request on its way to an upstream.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Streamed>>);

#[derive(Debug)]
struct Streamed {
    inner: Incoming,
    patience: Patience,
    left: Option<u64>,
    limit: u64,
    told: Told,
    names: told::Names,
}

impl RequestBody {
    /// None.
    pub fn empty() -> Self {
        Self(None)
    }

    /// What the client sends, up to `limit` bytes; how it goes is `told`. `names` are ours to say.
    pub fn streamed(
        inner: Incoming,
        idle: Duration,
        limit: Option<u64>,
        told: Told,
        names: told::Names,
    ) -> Self {
        Self(Some(Box::new(Streamed {
            inner,
            patience: Patience::new(idle),
            left: limit,
            limit: limit.unwrap_or(u64::MAX),
            told,
            names,
        })))
    }

    /// It, with none left in its place.
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// There is none.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(streamed) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = streamed.poll(cx);
        if let Poll::Ready(Some(Err(broken))) = &polled {
            streamed.told.broke(broken);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|streamed| streamed.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(streamed) => streamed.inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// The next piece, or that it has been waited for long enough.
fn next(
    inner: &mut Incoming,
    patience: &mut Patience,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
    match Pin::new(inner).poll_frame(cx) {
        Poll::Ready(frame) => {
            patience.came();
            Poll::Ready(frame.map(|frame| frame.map_err(Broken::Source)))
        }
        Poll::Pending if patience.lost(cx) => Poll::Ready(Some(Err(Broken::Idle(patience.limit)))),
        Poll::Pending => Poll::Pending,
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = ready!(next(&mut self.inner, &mut self.patience, cx));
        Poll::Ready(frame.map(|frame| self.counted(frame?)))
    }

    fn counted(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, Broken> {
        if let Some(trailers) = frame.trailers_mut() {
            told::strip(trailers, &self.names);
        }
        let Some(data) = frame.data_ref() else {
            return Ok(frame);
        };
        let length = data.len() as u64;
        self.told.received(length);
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(length)
                .ok_or(Broken::TooLarge(self.limit))?;
        }
        Ok(frame)
    }
}

/// The body of an answer on its way to a client. When it has been read its connection goes back
/// to the pool; when it is dropped before, the connection is closed, so that the upstream stops.
#[derive(Debug)]
pub struct ReplyBody {
    source: Source,
    flight: Option<Box<Flight>>,
}

#[derive(Debug)]
enum Source {
    Whole(Option<Bytes>),
    Upstream {
        inner: Incoming,
        held: Option<Held>,
        patience: Patience,
        /// The session of who reads it ends.
        ends: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    },
}

/// The connection that an answer comes from.
#[derive(Debug)]
pub struct Held {
    /// Its sender.
    pub sender: hyper::client::conn::http1::SendRequest<RequestBody>,
    /// The right to it.
    pub lease: Lease,
}

impl ReplyBody {
    /// A text of our own.
    pub fn whole(bytes: impl Into<Bytes>, flight: Box<Flight>) -> Self {
        Self {
            source: Source::Whole(Some(bytes.into())),
            flight: Some(flight),
        }
    }

    /// What an upstream answers.
    pub fn upstream(
        inner: Incoming,
        held: Option<Held>,
        idle: Duration,
        flight: Box<Flight>,
    ) -> Self {
        let ends = flight.session.as_ref().map(|session| {
            let child = session.end.child_token();
            Box::pin(child.cancelled_owned())
        });
        let source = Source::Upstream {
            inner,
            held,
            patience: Patience::new(idle),
            ends,
        };
        let mut body = Self {
            source,
            flight: Some(flight),
        };
        body.settle();
        body
    }

    /// What follows once all has been read.
    fn settle(&mut self) {
        if let Source::Upstream { inner, .. } = &self.source
            && inner.is_end_stream()
        {
            self.put_back();
            if let Some(flight) = &mut self.flight {
                flight.whole = true;
            }
        }
    }

    /// The next request may have the connection.
    fn put_back(&mut self) {
        if let Source::Upstream { held, .. } = &mut self.source
            && let Some(held) = held.take()
        {
            held.lease.put_back(held.sender);
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Whole(bytes) => bytes
                .take()
                .filter(|bytes| !bytes.is_empty())
                .map(Frame::data)
                .map(Ok),
            Source::Upstream {
                inner,
                patience,
                ends,
                ..
            } => {
                let over = ends
                    .as_mut()
                    .is_some_and(|ends| ends.as_mut().poll(cx).is_ready());
                match over {
                    true => Some(Err(Broken::Ended)),
                    false => ready!(next(inner, patience, cx)),
                }
            }
        };
        if let Some(flight) = &mut this.flight {
            match &frame {
                Some(Ok(frame)) => flight.sent += frame.data_ref().map_or(0, Bytes::len) as u64,
                Some(Err(broken)) => flight.broke(broken),
                None => flight.whole = true,
            }
        }
        this.settle();
        if frame.is_none() {
            // Trailers or not: this was all, and the end is now, not when hyper drops us.
            this.flight = None;
            this.put_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Source::Upstream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Upstream { inner, .. } => inner.size_hint(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        if let Source::Whole(bytes) = &self.source
            && bytes.as_ref().is_none_or(Bytes::is_empty)
            && let Some(flight) = &mut self.flight
        {
            flight.whole = true;
        }
        self.settle();
    }
}

/// Whether the next piece is there; for tests of patience.
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_ends_after_its_limit_and_begins_anew_with_each_piece() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let mut wait = async |seconds: u64| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            std::future::poll_fn(|cx| Poll::Ready(patience.lost(cx))).await
        };
        assert!(!wait(0).await);
        assert!(!wait(9).await);
        assert!(wait(1).await);
        patience.came();
        let mut wait = async |seconds: u64| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            std::future::poll_fn(|cx| Poll::Ready(patience.lost(cx))).await
        };
        assert!(!wait(5).await);
        assert!(!wait(9).await);
        assert!(wait(1).await);
    }
}
