//! Small writes of one turn of an HTTP/2 connection, sent as one.
//!
//! The HTTP/2 library flushes after each frame with data. With many streams that is a TLS record
//! and a system call for each answer; here a flush only means that the connection's owner has to
//! [`Gathered::settle`] when its turn is over, and that sends what has come together.
//! Must not know what is written.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many bytes are gathered at most; then the writer has to wait for the socket.
const MOST: usize = 64 * 1024;
/// A piece of this length is worth a system call of its own, and is not copied.
const LARGE: usize = 8 * 1024;

/// A stream whose writes are gathered.
#[derive(Debug)]
pub struct Gather<T>(Rc<RefCell<State<T>>>);

/// The owner's handle on it.
#[derive(Debug)]
pub struct Gathered<T>(Rc<RefCell<State<T>>>);

#[derive(Debug)]
struct State<T> {
    inner: T,
    out: BytesMut,
    /// Something was written to `inner` that it has not been asked to flush.
    unflushed: bool,
}

impl<T> Gather<T> {
    /// Gathers what is written to `inner`.
    pub fn new(inner: T) -> (Self, Gathered<T>) {
        let state = Rc::new(RefCell::new(State {
            inner,
            out: BytesMut::new(),
            unflushed: false,
        }));
        (Self(state.clone()), Gathered(state))
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Sends what was gathered; pending while the socket takes no more.
    ///
    /// # Errors
    /// The socket's.
    pub fn settle(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.drain(cx))?;
        state.flush(cx)
    }
}

impl<T: AsyncWrite + Unpin> State<T> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.out.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.out.len() + length > MOST || length >= LARGE {
            ready!(self.drain(cx))?;
        }
        if length >= LARGE {
            self.unflushed = true;
            return Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        }
        for piece in pieces {
            self.out.extend_from_slice(piece);
        }
        Poll::Ready(Ok(length))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done when the owner settles.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.drain(cx))?;
        ready!(state.flush(cx))?;
        Pin::new(&mut state.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_is_written_in_one_turn_comes_together() -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let (mut gather, gathered) = Gather::new(near);
        for piece in [&b"head"[..], b" body"] {
            gather.write_all(piece).await?;
            gather.flush().await?;
        }
        let mut buffer = [0; 64];
        let early = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut buffer)).await;
        assert!(early.is_err(), "it waits for the end of the turn");
        poll_fn(|cx| gathered.settle(cx)).await?;
        let length = far.read(&mut buffer).await?;
        assert_eq!(&buffer[..length], b"head body");
        // Order is kept with a large piece after a small one, and at the end all is sent.
        gather.write_all(b"small").await?;
        gather.write_all(&[b'x'; LARGE]).await?;
        gather.write_all(b"last").await?;
        gather.shutdown().await?;
        let mut all = Vec::new();
        far.read_to_end(&mut all).await?;
        assert_eq!(all.len(), 5 + LARGE + 4);
        assert!(all.starts_with(b"small") && all.ends_with(b"xlast"));
        Ok(())
    }

    #[tokio::test]
    async fn a_socket_that_takes_no_more_holds_the_writer_up() -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut gather, gathered) = Gather::new(near);
        let piece = vec![b'x'; LARGE - 1];
        let mut written = 0;
        let writing = async {
            loop {
                written += gather.write(&piece).await?;
            }
        };
        let stuck: Result<io::Result<()>, _> =
            tokio::time::timeout(std::time::Duration::from_millis(50), writing).await;
        assert!(stuck.is_err() && written <= MOST + 16, "{written}");
        let mut buffer = vec![0; written];
        let (settled, read) = tokio::join!(
            poll_fn(|cx| gathered.settle(cx)),
            far.read_exact(&mut buffer)
        );
        settled?;
        assert_eq!(read?, written);
        Ok(())
    }
}
