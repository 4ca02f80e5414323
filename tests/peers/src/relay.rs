//! A TCP relay on a stable loopback port in front of any address, whose
//! manners can be changed while it runs: the network's faults, on demand.
//!
//! Must not understand what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::port::Port;

/// At most this many connections at once; more wait to be accepted.
const MOST: usize = 1024;
/// Bytes carried at a time.
const CHUNK: usize = 16 * 1024;
/// How long a change of mode may take.
const CHANGE: Duration = Duration::from_secs(5);
/// The queue of connections which the kernel holds for us.
const BACKLOG: u32 = 1024;

/// What the relay does with connections, present and future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carries bytes both ways.
    Pass,
    /// Keeps connections, accepts new ones, and swallows all bytes both ways.
    /// After a change back to [`Mode::Pass`], what was swallowed stays lost.
    Blackhole,
    /// Does not listen, so that connecting is refused; present connections are reset.
    Refuse,
    /// Carries bytes both ways, each chunk this much later.
    Slow(Duration),
}

/// What the relay has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Connections open now.
    pub open: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Bytes carried from clients to the server.
    pub up: u64,
    /// Bytes carried from the server to clients.
    pub down: u64,
    /// Bytes swallowed, both ways.
    pub swallowed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicU64,
    accepted: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    swallowed: AtomicU64,
}

impl Counters {
    fn swallow(&self, length: usize) {
        self.swallowed.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// What the connections go by: the mode, and how often all were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    mode: Mode,
    cuts: u64,
}

/// A running relay; it ends, and its connections with it, when dropped.
#[derive(Debug)]
pub struct Relay {
    port: Port,
    order: watch::Sender<Order>,
    /// The last order that the listener has carried out.
    done: watch::Receiver<Order>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free loopback port and passes to `upstream`.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let port = Port::free()?;
        let listener = listen(port.addr())?;
        let first = Order {
            mode: Mode::Pass,
            cuts: 0,
        };
        let (order, orders) = watch::channel(first);
        let (report, done) = watch::channel(first);
        let counters = Arc::<Counters>::default();
        let task = tokio::spawn(run(
            Front {
                addr: port.addr(),
                upstream,
                orders,
                counters: Arc::clone(&counters),
            },
            listener,
            report,
        ));
        Ok(Self {
            port,
            order,
            done,
            counters,
            task,
        })
    }

    /// Where it listens; the same for its whole life.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Changes the manners of present and future connections; returns once the
    /// listener has followed.
    pub async fn set(&self, mode: Mode) -> Result<()> {
        self.order.send_modify(|o| {
            if mode == Mode::Refuse {
                o.cuts += 1;
            }
            o.mode = mode;
        });
        self.followed().await
    }

    /// Resets all present connections, once. New ones go by the present mode.
    pub async fn cut(&self) -> Result<()> {
        self.order.send_modify(|o| o.cuts += 1);
        self.followed().await
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            open: read(&self.counters.open),
            accepted: read(&self.counters.accepted),
            up: read(&self.counters.up),
            down: read(&self.counters.down),
            swallowed: read(&self.counters.swallowed),
        }
    }

    async fn followed(&self) -> Result<()> {
        let wanted = *self.order.borrow();
        let mut done = self.done.clone();
        timeout(CHANGE, done.wait_for(|done| *done == wanted))
            .await
            .map_err(|_| anyhow!("the relay did not change within {CHANGE:?}"))?
            .context("the relay has ended")?;
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Front {
    addr: SocketAddr,
    upstream: SocketAddr,
    orders: watch::Receiver<Order>,
    counters: Arc<Counters>,
}

fn listen(addr: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?; // ours may linger in TIME_WAIT
    socket.bind(addr)?;
    socket
        .listen(BACKLOG)
        .with_context(|| format!("the relay could not listen on {addr}"))
}

/// Owns the listener and all connections; ends by being aborted.
async fn run(mut front: Front, listener: TcpListener, report: watch::Sender<Order>) {
    let room = Arc::new(Semaphore::new(MOST));
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    let mut cuts = 0;
    loop {
        let order = *front.orders.borrow_and_update();
        match order.mode {
            Mode::Refuse => listener = None,
            _ if listener.is_none() => listener = listen(front.addr).ok(),
            _ => {}
        }
        if order.cuts != cuts {
            cuts = order.cuts;
            connections.shutdown().await; // dropped with linger 0: reset
        }
        if listener.is_some() || order.mode == Mode::Refuse {
            report.send_replace(order);
        } else {
            sleep(Duration::from_millis(5)).await; // the port is taken: try again
            continue;
        }
        tokio::select! {
            changed = front.orders.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
            Ok((stream, permit)) = accept(listener.as_ref(), &room) => {
                front.counters.accepted.fetch_add(1, Ordering::Relaxed);
                let (counters, orders) = (Arc::clone(&front.counters), front.orders.clone());
                let upstream = front.upstream;
                connections.spawn(async move {
                    let _open = Open::new(&counters);
                    let _ = carry(stream, upstream, orders, &counters).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn accept(
    listener: Option<&TcpListener>,
    room: &Arc<Semaphore>,
) -> Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let permit = Arc::clone(room).acquire_owned().await?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Counts a connection as open for as long as it lives.
struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, until either side closes it or it is cut.
async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut orders: watch::Receiver<Order>,
    counters: &Counters,
) -> Result<()> {
    client.set_nodelay(true)?;
    client.set_zero_linger()?;
    let seen = orders.clone();
    if !out_of_the_hole(&client, &mut orders, counters).await? {
        return Ok(());
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    server.set_zero_linger()?;
    // Borrowed halves: owned ones say goodbye when dropped, and a cut must not.
    let (client_in, client_out) = client.split();
    let (server_in, server_out) = server.split();
    let up = pump(client_in, server_out, seen.clone(), &counters.up, counters);
    let down = pump(server_in, client_out, seen, &counters.down, counters);
    tokio::try_join!(up, down)?;
    Ok(())
}

/// In a black hole not even the connection to the server is made. Swallows
/// until the mode changes; `false` when the client has gone before.
async fn out_of_the_hole(
    client: &TcpStream,
    orders: &mut watch::Receiver<Order>,
    counters: &Counters,
) -> Result<bool> {
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            biased;
            order = orders.wait_for(|o| o.mode != Mode::Blackhole) => return Ok(order.is_ok()),
            readable = client.readable() => readable?,
        }
        match client.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => counters.swallow(length),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One direction, until its end; passes the end on.
async fn pump(
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
    mut orders: watch::Receiver<Order>,
    carried: &AtomicU64,
    counters: &Counters,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        let mode = orders.borrow_and_update().mode;
        match mode {
            Mode::Blackhole if length == 0 => {
                // A closed connection is not told of either, until it passes again.
                orders.wait_for(|o| o.mode != Mode::Blackhole).await?;
            }
            Mode::Blackhole => {
                counters.swallow(length);
                continue;
            }
            Mode::Slow(delay) => sleep(delay).await,
            Mode::Pass | Mode::Refuse => {}
        }
        if length == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        carried.fetch_add(length as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::wait::wait_for;

    const SHORT: Duration = Duration::from_millis(150);

    /// A server which sends back what it gets.
    async fn echo() -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Ok(addr)
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn passes_and_counts() -> Result<()> {
        let relay = Relay::start(echo().await?).await?;
        let mut stream = TcpStream::connect(relay.addr()).await?;
        assert_eq!(ask(&mut stream).await?, b'x');
        let counts = relay.counts();
        assert_eq!((counts.open, counts.accepted), (1, 1));
        assert_eq!((counts.up, counts.down), (1, 1));
        drop(stream);
        wait_for("the close", CHANGE, async || {
            anyhow::ensure!(relay.counts().open == 0);
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn a_black_hole_swallows_on_old_and_new_connections() -> Result<()> {
        let relay = Relay::start(echo().await?).await?;
        let mut old = TcpStream::connect(relay.addr()).await?;
        ask(&mut old).await?;
        relay.set(Mode::Blackhole).await?;
        let mut new = TcpStream::connect(relay.addr()).await?;
        assert!(timeout(SHORT, ask(&mut old)).await.is_err());
        assert!(timeout(SHORT, ask(&mut new)).await.is_err());
        assert_eq!(relay.counts().swallowed, 2);
        relay.set(Mode::Pass).await?;
        assert_eq!(ask(&mut old).await?, b'x');
        Ok(())
    }

    #[tokio::test]
    async fn refuses_and_comes_back_on_the_same_port() -> Result<()> {
        let relay = Relay::start(echo().await?).await?;
        for _ in 0..3 {
            let mut old = TcpStream::connect(relay.addr()).await?;
            ask(&mut old).await?;
            relay.set(Mode::Refuse).await?;
            assert!(ask(&mut old).await.is_err());
            let refused = TcpStream::connect(relay.addr()).await.map_err(|e| e.kind());
            assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
            relay.set(Mode::Pass).await?;
        }
        ask(&mut TcpStream::connect(relay.addr()).await?).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_cut_resets_present_connections_only() -> Result<()> {
        let relay = Relay::start(echo().await?).await?;
        let mut old = TcpStream::connect(relay.addr()).await?;
        ask(&mut old).await?;
        relay.cut().await?;
        let error = old.read_u8().await.map_err(|e| e.kind());
        assert_eq!(error, Err(ErrorKind::ConnectionReset));
        ask(&mut TcpStream::connect(relay.addr()).await?).await?;
        Ok(())
    }

    #[tokio::test]
    async fn slow_delays_both_ways() -> Result<()> {
        let relay = Relay::start(echo().await?).await?;
        relay.set(Mode::Slow(SHORT)).await?;
        let mut stream = TcpStream::connect(relay.addr()).await?;
        let begin = tokio::time::Instant::now();
        ask(&mut stream).await?;
        assert!(begin.elapsed() >= SHORT * 2);
        Ok(())
    }

    #[tokio::test]
    async fn a_dead_upstream_closes_the_connection() -> Result<()> {
        let dead = Port::free()?.addr();
        let relay = Relay::start(dead).await?;
        let mut stream = TcpStream::connect(relay.addr()).await?;
        assert!(ask(&mut stream).await.is_err());
        Ok(())
    }
}
