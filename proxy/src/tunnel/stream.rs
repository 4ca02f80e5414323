//! One connection to a port of a pod, inside a WebSocket to the API server (protocol
//! `v4.channel.k8s.io`: the first byte of a message is its channel, 0 for bytes, 1 for what went wrong).
//!
//! There is no task and no channel behind it: a read takes the next message, a write makes one, so that
//! a slow side slows the other and nothing piles up. Both directions go on independently. A silent
//! tunnel is asked by pings whether the kubelet still holds it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::refusal::{self, Refusal};

/// How often a silent tunnel is looked after.
const PING: Duration = Duration::from_secs(5);
/// Asked whether it lives, it may owe the answer for so many looks. Looks are counted and not time: who
/// was asleep meanwhile has to listen first.
const OWED: u32 = 3;
/// What is written may be held back for so many looks while nothing is heard either: the other side may be
/// slow, but where nobody is there any more the system would try for a quarter of an hour.
const HELD: u32 = 12;
/// The most bytes of one message.
const PIECE: usize = 64 * 1024;

const BYTES: u8 = 0;
const TROUBLE: u8 = 1;

/// A byte stream to a pod.
pub struct Tunnel<S> {
    socket: WebSocketStream<S>,
    /// What has come and was not read yet: at most one message.
    ahead: Bytes,
    /// The first message of each channel repeats the port.
    begun: [bool; 2],
    trouble: Option<String>,
    ended: bool,
    looks: Interval,
    /// Since it was asked whether it lives, so many looks ago.
    asked: Option<u32>,
    /// For so many looks in a row nothing could be written.
    held: u32,
    /// `NAMESPACE/NAME:PORT`, for messages.
    place: String,
}

impl<S> fmt::Debug for Tunnel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({})", self.place)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tunnel<S> {
    /// Inside of a WebSocket that has been opened for `place`.
    pub fn new(socket: WebSocketStream<S>, place: String) -> Self {
        let mut looks = tokio::time::interval_at(Instant::now() + PING, PING);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            socket,
            ahead: Bytes::new(),
            begun: [false; 2],
            trouble: None,
            ended: false,
            looks,
            asked: None,
            held: 0,
            place,
        }
    }

    /// Whether it is as it was made: not closed, and the pod has said nothing. To be asked of one that
    /// nobody uses yet.
    pub fn is_fresh(&mut self, cx: &mut Context<'_>) -> bool {
        let mut nothing = [0; 1];
        let mut into = ReadBuf::new(&mut nothing);
        match Pin::new(&mut *self).poll_read(cx, &mut into) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                // A server that speaks first is no HTTP server, but it is well.
                let said = Bytes::copy_from_slice(into.filled());
                let spoke = !said.is_empty();
                if spoke {
                    let mut whole = BytesMut::from(said);
                    whole.extend_from_slice(&self.ahead);
                    self.ahead = whole.freeze();
                }
                spoke
            }
            Poll::Ready(Err(_)) => false,
        }
    }

    fn take(&mut self, mut message: Bytes) -> io::Result<()> {
        if message.is_empty() {
            return Ok(());
        }
        let channel = message.get_u8();
        let Some(begun) = self.begun.get_mut(usize::from(channel)) else {
            return Err(self.odd(&format!("a message for channel {channel}")));
        };
        if !std::mem::replace(begun, true) {
            return match message.len() {
                2 => Ok(()),
                other => Err(self.odd(&format!("{other} bytes in place of a port"))),
            };
        }
        match channel {
            BYTES => self.ahead = message,
            TROUBLE => {
                self.trouble = Some(String::from_utf8_lossy(&message).into_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn odd(&self, what: &str) -> io::Error {
        let text = format!("the tunnel to {} brought {what}", self.place);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// What the kubelet said went wrong, once all bytes before it have been read.
    fn told(&mut self) -> io::Result<()> {
        match self.trouble.take() {
            None => Ok(()),
            Some(trouble) => {
                self.ended = true;
                Err(refusal::of_trouble(&self.place, &trouble).into())
            }
        }
    }

    /// Looks from time to time whether the other side lives. Ready when it does not.
    fn lives(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.looks.poll_tick(cx).is_ready() {
            let mut socket = Pin::new(&mut self.socket);
            match self.asked {
                Some(OWED..) => return Poll::Ready(self.dead("gave no sign of life", PING * OWED)),
                Some(looks) => self.asked = Some(looks + 1),
                None if socket.as_mut().poll_ready(cx).is_ready() => {
                    self.held = 0;
                    let sent = socket.as_mut().start_send(Message::Ping(Bytes::new()));
                    self.asked = sent.is_ok().then_some(1);
                }
                // It cannot even be asked.
                None if self.held >= HELD => {
                    return Poll::Ready(self.dead("took nothing", PING * HELD));
                }
                None => self.held += 1,
            }
            let _ = Pin::new(&mut self.socket).poll_flush(cx);
        }
        Poll::Pending
    }

    fn dead(&mut self, what: &str, limit: Duration) -> io::Error {
        self.ended = true;
        let text = format!("the tunnel to {} {what} for {limit:?}", self.place);
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.ahead.is_empty() {
                let count = self.ahead.len().min(buf.remaining());
                buf.put_slice(&self.ahead[..count]);
                self.ahead.advance(count);
                return Poll::Ready(Ok(()));
            }
            self.told()?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let next = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => return self.lives(cx).map(Err),
            };
            (self.asked, self.held) = (None, 0);
            match next {
                Some(Ok(Message::Binary(message))) => self.take(message)?,
                Some(Ok(Message::Close(_))) | None | Some(Err(Error::ConnectionClosed)) => {
                    self.ended = true;
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(broken(&self.place, &error)));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut socket = Pin::new(&mut this.socket);
        let told = |error: Error| broken(&this.place, &error);
        ready!(socket.as_mut().poll_ready(cx)).map_err(told)?;
        this.held = 0;
        let piece = &buf[..buf.len().min(PIECE)];
        let mut message = BytesMut::with_capacity(piece.len() + 1);
        message.extend_from_slice(&[BYTES]);
        message.extend_from_slice(piece);
        let sent = socket.start_send(Message::Binary(message.freeze()));
        sent.map_err(told)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| broken(&self.place, &error)))
    }

    /// The protocol cannot close one direction alone: this ends both.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = ready!(Pin::new(&mut self.socket).poll_close(cx));
        Poll::Ready(closed.map_err(|error| broken(&self.place, &error)))
    }
}

fn broken(place: &str, error: &Error) -> io::Error {
    let kind = match error {
        Error::Io(error) => error.kind(),
        _ => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, format!("the tunnel to {place} broke: {error}"))
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, refusal)
    }
}

#[cfg(test)]
mod tests;
