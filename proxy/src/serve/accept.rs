//! Listeners: each worker has its own on the same port (SO_REUSEPORT), and the kernel deals
//! connections out.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::clients::Full;
use super::connection;
use super::worker::Worker;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// When nothing can be accepted (no descriptors left), how long until the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the address is free: asked without SO_REUSEPORT, because with it a second program would
/// silently take half of the connections of the first.
///
/// # Errors
/// What the system says.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    listen(address, false).map(drop)
}

/// Listens, once for each worker, and so that all of them exist before the first one accepts: the
/// kernel would lose connections that it dealt out to a listener that is gone.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // What was there before may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One more handle on a listener that all workers accept from.
///
/// # Errors
/// What the system says.
pub fn share(listener: &std::net::TcpListener) -> io::Result<std::net::TcpListener> {
    let handle = listener.try_clone()?;
    handle.set_nonblocking(true)?;
    Ok(handle)
}

/// A worker's listener.
#[derive(Debug)]
pub struct Listening<L = std::net::TcpListener> {
    /// The socket.
    pub socket: L,
    /// TLS is spoken there.
    pub secure: bool,
    /// Somebody else keeps it open: who is in its queue waits for the next of us.
    pub inherited: bool,
}

impl Listening {
    /// For this thread's runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(self) -> io::Result<Listening<TcpListener>> {
        let Self {
            socket,
            secure,
            inherited,
        } = self;
        let socket = TcpListener::from_std(socket)?;
        Ok(Listening {
            socket,
            secure,
            inherited,
        })
    }
}

/// Accepts until `stop`, and then what the kernel had already accepted for us.
pub async fn accept(
    worker: Rc<Worker>,
    listening: Listening<TcpListener>,
    stop: CancellationToken,
) {
    let Listening {
        socket: listener,
        secure,
        inherited,
    } = listening;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take(&worker, stream, peer, secure),
            Err(error) if is_about_one(&error) => {}
            Err(error) => {
                worker.shared.meter.refused("accept");
                tracing::warn!("no connection can be accepted: {error}; see `ulimit -n`");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
    if inherited {
        return;
    }
    // Whoever is in the queue has connected as far as it knows.
    while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
    {
        take(&worker, stream, peer, secure);
    }
}

/// It speaks of the connection, not of us.
fn is_about_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

fn take(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, secure: bool) {
    let shared = &worker.shared;
    let limits = worker.current().terms.limits;
    match shared.connections.open(peer.ip(), &limits) {
        Ok(open) => {
            shared
                .meter
                .connections
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::spawn_local(connection::serve(
                worker.clone(),
                stream,
                peer,
                secure,
                open,
            ));
        }
        Err(full) => shared.meter.refused(match full {
            Full::All => "connections",
            Full::Client => "connections_of_client",
        }),
    }
}
