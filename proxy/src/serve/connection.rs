//! One client connection: from the accepted socket to its end.

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::clients::Open;
use super::control::{Control, Order};
use super::gather::Gather;
use super::preface::{self, Claim};
use super::wire::{Cradle, Wire};
use super::worker::{Current, Local, Worker};
use crate::login::door::Shown;
use crate::request::handle::handle;
use crate::request::identity::Identity;
use crate::route::door::Way;
use crate::tls::certificates;

/// A silent HTTP/2 client is asked whether it still lives so often, and has so long to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(15);
/// The windows that HTTP/2 begins with, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Read at once after a rest; the usual head fits.
const FIRST_BYTES: usize = 2 * 1024;
/// Streams that a client resets before they were looked at; more ends the connection (rapid reset).
const RESETS: usize = 20;

/// A connection's own.
#[derive(Debug)]
pub struct Conn {
    /// Who is at the other end.
    pub identity: Identity,
    /// Its signs of life, and its orders.
    pub control: Rc<Control>,
    /// Counted until all that uses it has ended.
    pub open: Open,
    /// The name that TLS was begun for.
    pub name: OnceCell<Box<str>>,
    /// The certificate that the client has shown.
    pub shown: OnceCell<Arc<Shown>>,
}

impl Conn {
    /// How its requests come in.
    pub fn way(&self) -> Way<'_> {
        Way {
            local: self.identity.local,
            secure: self.identity.secure,
            name: self.name.get().map(AsRef::as_ref),
        }
    }
}

/// Serves a connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: SocketAddr,
    secure: bool,
    open: Open,
) {
    let current = worker.current();
    let patience = current.terms.patience;
    let begun = tokio::time::timeout(patience.handshake, begin(&mut stream, peer, &current)).await;
    let (peer, local, ahead) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return refuse(&worker, peer, "bad_proxy_header", &error),
        Err(_) => {
            return refuse(
                &worker,
                peer,
                "slow_handshake",
                &io::ErrorKind::TimedOut.into(),
            );
        }
    };
    let identity = Identity::new(peer, local, secure, &current.terms.trusted);
    let control = worker.watch();
    let conn = Rc::new(Conn {
        identity,
        control: control.clone(),
        open,
        name: OnceCell::new(),
        shown: OnceCell::new(),
    });
    if secure {
        // Apart, so that connections without TLS do not have room for one.
        Box::pin(secured(&worker, &conn, stream, ahead, &current)).await;
    } else {
        plain(&worker, &conn, stream, ahead, &current).await;
    }
    worker.unwatch(&control);
}

/// The PROXY header, where one is demanded; gives client, server, and what was read beyond.
async fn begin(
    stream: &mut TcpStream,
    peer: SocketAddr,
    current: &Current,
) -> io::Result<(SocketAddr, SocketAddr, Bytes)> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    if !current.terms.proxy_protocol {
        return Ok((peer, local, Bytes::new()));
    }
    if !current
        .terms
        .trusted
        .iter()
        .any(|range| range.holds(peer.ip()))
    {
        let error = "a PROXY header is believed from trusted peers only";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
    }
    let (claim, ahead) = preface::read_claim(stream).await?;
    match claim {
        Claim::From(client) => Ok((client, local, ahead)),
        Claim::Own => Ok((peer, local, ahead)),
    }
}

fn refuse(worker: &Worker, peer: SocketAddr, reason: &'static str, error: &io::Error) {
    worker.shared.meter.refused(reason);
    tracing::debug!(%peer, reason, "a connection was refused: {error}");
}

async fn secured(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    stream: TcpStream,
    ahead: Bytes,
    current: &Current,
) {
    let Some(config) = current.tls_for(conn.identity.local).cloned() else {
        return;
    };
    let accept = tokio_rustls::TlsAcceptor::from(config).accept(Wire::new(stream, ahead));
    let stream = match tokio::time::timeout(current.terms.patience.handshake, accept).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refuse(worker, conn.identity.peer, "tls", &error),
        Err(_) => {
            return refuse(
                worker,
                conn.identity.peer,
                "slow_handshake",
                &io::ErrorKind::TimedOut.into(),
            );
        }
    };
    let shaken = stream.get_ref().1;
    let http2 = shaken.alpn_protocol() == Some(b"h2");
    // Only Gateways ask for it, and a connection without costs nothing.
    if !current.tls_at.is_empty()
        && let Some(name) = shaken.server_name()
    {
        let _ = conn.name.set(name.into());
    }
    let certificate = shaken.peer_certificates().and_then(<[_]>::first);
    if let Some(shown) = certificate.and_then(|it| certificates::shown(it)) {
        // Nothing was set before.
        let _ = conn.shown.set(Arc::new(shown));
    }
    speak(worker, conn, stream, Bytes::new(), http2, current).await;
}

/// Waits for the first bytes, which say what is spoken.
async fn plain(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    mut stream: TcpStream,
    ahead: Bytes,
    current: &Current,
) {
    let mut first = BytesMut::from(ahead);
    let reading = async {
        // Three bytes tell HTTP/2 from HTTP/1; of a line that long comes more at once.
        while first.len() < 3 {
            if stream.read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<_, io::Error>(())
    };
    let read = tokio::select! {
        read = reading => read.is_ok(),
        // By a drain, or because it has said nothing for long. There is nothing to finish.
        () = conn.control.told_to_end() => false,
    };
    if !read {
        // A client that says nothing and goes is no fault.
        return;
    }
    let http2 = preface::is_http2(&first);
    speak(worker, conn, stream, first.freeze(), http2, current).await;
}

async fn speak<T>(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    stream: T,
    ahead: Bytes,
    http2: bool,
    current: &Current,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ended = if http2 {
        Box::pin(speak_http2(worker, conn, Wire::new(stream, ahead), current)).await
    } else {
        speak_http1(worker, conn, stream, ahead, current).await
    };
    if let Err(error) = ended {
        if error.is_parse() || error.is_parse_too_large() {
            worker.shared.meter.refused("malformed");
        }
        tracing::debug!(peer = %conn.identity.peer, "a connection ended: {error}");
    }
}

async fn speak_http2<T>(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    wire: Wire<T>,
    current: &Current,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &current.terms.limits;
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let service = {
        let (worker, conn) = (worker.clone(), conn.clone());
        service_fn(move |request| handle(worker.clone(), conn.clone(), request))
    };
    let (gather, gathered) = Gather::new(wire);
    let connection = builder.serve_connection(TokioIo::new(gather), service);
    let mut watched = pin!(Watched::new(connection, &conn.control));
    poll_fn(|cx| {
        let ended = watched.as_mut().poll(cx);
        // After each turn, whatever came of it. A socket that fails is seen by the next read.
        let _ = gathered.settle(cx);
        ended
    })
    .await
    .map(drop)
}

/// Until the connection ends, or rests: then until its next request, and so on.
async fn speak_http1<T>(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    mut stream: T,
    mut ahead: Bytes,
    current: &Current,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cradle = Cradle::default();
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .max_buf_size(current.terms.limits.head_bytes.max(8 * 1024))
        // The worker watches over all connections at once; a timer for each head would cost.
        .header_read_timeout(None);
    loop {
        let wire = Wire::new(stream, ahead).watched(conn.control.pulse.clone(), &cradle);
        let service = {
            let (worker, conn) = (worker.clone(), conn.clone());
            service_fn(move |request| handle(worker.clone(), conn.clone(), request))
        };
        let connection = builder
            .serve_connection(TokioIo::new(wire), service)
            .with_upgrades();
        // In a box, which goes with what it holds.
        match Box::pin(Watched::new(connection, &conn.control)).await? {
            Left::Ended => return Ok(()),
            Left::Resting => {}
        }
        let Some(mut rested) = cradle.take() else {
            return Ok(());
        };
        let resting = &worker.shared.meter.resting;
        resting.fetch_add(1, Relaxed);
        let first = next_bytes(&mut rested, &conn.control).await;
        resting.fetch_sub(1, Relaxed);
        let Some(first) = first else {
            return Ok(());
        };
        conn.control.pulse.wakes();
        (stream, ahead) = (rested, first);
    }
}

/// What comes first after a rest; nothing when the connection is to end, or has.
async fn next_bytes<T: AsyncRead + Unpin>(stream: &mut T, control: &Control) -> Option<Bytes> {
    poll_fn(|cx| {
        match control.order(cx.waker()) {
            Order::Drain | Order::Close => return Poll::Ready(None),
            Order::Serve | Order::Rest => {}
        }
        // On the stack, so that waiting needs no room.
        let mut room = [MaybeUninit::uninit(); FIRST_BYTES];
        let mut read = ReadBuf::uninit(&mut room);
        Pin::new(&mut *stream)
            .poll_read(cx, &mut read)
            .map(|came| match came {
                Ok(()) if !read.filled().is_empty() => Some(Bytes::copy_from_slice(read.filled())),
                _ => None,
            })
    })
    .await
}

/// A connection that can be told to finish. The library's own trait lacks connections that can be
/// upgraded.
trait Graceful: Future<Output = Result<(), hyper::Error>> {
    /// Between two requests it holds nothing that would be missed.
    const RESTS: bool;

    fn finish(self: Pin<&mut Self>);
}

impl<I, S, B> Graceful for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const RESTS: bool = true;

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Graceful for http2::Connection<I, S, Local>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Local: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    const RESTS: bool = false;

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// How a connection was left.
enum Left {
    Ended,
    /// Its stream lies in the cradle once HTTP's state is dropped.
    Resting,
}

pin_project! {
    /// A connection that obeys its control.
    struct Watched<C> {
        #[pin]
        connection: C,
        control: Rc<Control>,
        draining: bool,
    }
}

impl<C> Watched<C> {
    fn new(connection: C, control: &Rc<Control>) -> Self {
        Self {
            connection,
            control: control.clone(),
            draining: false,
        }
    }
}

impl<C: Graceful> Future for Watched<C> {
    type Output = Result<Left, hyper::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        match this.control.order(cx.waker()) {
            Order::Close => return Poll::Ready(Ok(Left::Ended)),
            Order::Rest => {
                this.control.rested();
                if C::RESTS && this.control.pulse.may_rest() {
                    return Poll::Ready(Ok(Left::Resting));
                }
            }
            Order::Drain if !*this.draining => {
                *this.draining = true;
                this.connection.as_mut().finish();
            }
            Order::Drain | Order::Serve => {}
        }
        this.connection.poll(cx).map_ok(|()| Left::Ended)
    }
}
