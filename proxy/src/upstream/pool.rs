//! The connections of one worker. No lock and no other thread: a worker is one thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comind_model::ingress::Protocol;
use hyper::client::conn::{http1, http2};
use tokio::sync::Semaphore;

use super::dial::{self, Client, Fresh, Manner};
use super::failure::Failure;
use crate::endpoint::Endpoint;
use crate::moment::Awake;
use crate::request::body::RequestBody;
use crate::tunnel::gate::Gate;
use crate::tunnel::spare::Tunnels;

/// Idle connections are closed after this long: sooner than servers commonly do (nginx: 75 s,
/// Node: 5 s with a hint), so that few requests meet a connection that is just closing.
const IDLE: Duration = Duration::from_secs(30);
/// How long a request waits for a connection when all are in use.
const WAIT: Duration = Duration::from_secs(5);

/// What bounds a pool.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// HTTP/1 requests under way at one endpoint.
    pub connections: usize,
    /// Requests that wait for one of those.
    pub pending: usize,
}

/// A connection with many users.
type Shelf = RefCell<Option<http2::SendRequest<RequestBody>>>;

/// The connections to one endpoint.
#[derive(Debug)]
pub struct Slot {
    idle: RefCell<Vec<(http1::SendRequest<RequestBody>, Instant)>>,
    http2: Shelf,
    /// For gRPC alone. Who speaks HTTP/2 for that need not do so for anything else: some hand a whole
    /// connection to their gRPC server by its first request (Argo CD).
    grpc: Shelf,
    permits: Semaphore,
    waiting: Cell<usize>,
    used: Cell<Instant>,
    now: Rc<Cell<Instant>>,
}

/// All slots of a worker.
#[derive(Debug)]
pub struct Pool {
    slots: RefCell<HashMap<u64, Rc<Slot>>>,
    bounds: Bounds,
    tunnels: Tunnels,
    /// As of the last turn: asking the system's for each request would cost.
    now: Rc<Cell<Instant>>,
    awake: RefCell<Awake>,
}

/// A connection, for one request.
#[derive(Debug)]
pub enum Leased {
    /// To be put back when the answer has been read.
    Http1(http1::SendRequest<RequestBody>, Lease),
    /// One of many users.
    Http2(http2::SendRequest<RequestBody>),
}

/// The right to one HTTP/1 connection; given back when dropped.
#[derive(Debug)]
pub struct Lease(Rc<Slot>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.permits.add_permits(1);
    }
}

impl Lease {
    /// The answer has been read: the next request may have the connection.
    pub fn put_back(self, sender: http1::SendRequest<RequestBody>) {
        if !sender.is_closed() {
            self.0.idle.borrow_mut().push((sender, self.0.now.get()));
        }
    }
}

/// What a request wants of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// HTTP/1.1 only.
    pub upgrade: bool,
    /// HTTP/2 only, also where the rest is HTTP/1.1: gRPC knows nothing else.
    pub grpc: bool,
    /// No connection that was used before: one has just failed so.
    pub fresh: bool,
    /// For a connection, TLS included.
    pub connect: Duration,
}

impl Want {
    /// Where the HTTP/2 connection is that it may share with others. One by TLS is gRPC's own, as is
    /// one that nobody has agreed on.
    fn shelf<'a>(self, manner: &Manner, slot: &'a Slot) -> Option<&'a Shelf> {
        match (manner.protocol, self.grpc) {
            _ if self.upgrade => None,
            (Protocol::H2c, _) | (Protocol::Https, false) => Some(&slot.http2),
            (Protocol::Http | Protocol::Https, true) => Some(&slot.grpc),
            (Protocol::Http, false) => None,
        }
    }
}

impl Pool {
    /// Nothing is open; tunnels come from `gate`.
    pub fn new(bounds: Bounds, gate: Arc<Gate>) -> Self {
        Self {
            slots: RefCell::default(),
            bounds,
            tunnels: Tunnels::new(gate),
            now: Rc::new(Cell::new(Instant::now())),
            awake: RefCell::default(),
        }
    }

    /// A connection to the endpoint, and whether it has been at rest for a while: then the other
    /// side may be closing it just now.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(
        &self,
        endpoint: &Arc<Endpoint>,
        manner: &Manner,
        client: Client,
        want: Want,
    ) -> Result<(Leased, bool), Failure> {
        let slot = self.slot(endpoint);
        slot.used.set(self.now.get());
        if let Some(shelf) = want.shelf(manner, &slot)
            && let Some(sender) = shared(shelf, want.fresh)
        {
            return Ok((Leased::Http2(sender), true));
        }
        let lease = self.lease(&slot).await?;
        if !want.fresh
            && !want.grpc
            && manner.send_proxy.is_none()
            && let Some((sender, since)) = lease.0.take_idle().await
        {
            let rested = since != self.now.get();
            return Ok((Leased::Http1(sender, lease), rested));
        }
        // Apart: it is large, and would be moved with every request, though few need it.
        let dialling = dial::dial(endpoint, manner, client, want, &self.tunnels);
        let dialling = Box::pin(dialling);
        let fresh = dialling.await?;
        Ok((
            match fresh {
                Fresh::Http1(sender) => Leased::Http1(sender, lease),
                Fresh::Http2(sender) => {
                    // With a PROXY header a connection is one client's own.
                    if let Some(shelf) = want.shelf(manner, &lease.0)
                        && manner.send_proxy.is_none()
                    {
                        *shelf.borrow_mut() = Some(sender.clone());
                    }
                    Leased::Http2(sender)
                }
            },
            false,
        ))
    }

    fn slot(&self, endpoint: &Endpoint) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let made = || {
            Rc::new(Slot {
                idle: RefCell::default(),
                http2: Shelf::default(),
                grpc: Shelf::default(),
                permits: Semaphore::new(self.bounds.connections),
                waiting: Cell::new(0),
                used: Cell::new(self.now.get()),
                now: self.now.clone(),
            })
        };
        slots.entry(endpoint.id).or_insert_with(made).clone()
    }

    async fn lease(&self, slot: &Rc<Slot>) -> Result<Lease, Failure> {
        if let Ok(permit) = slot.permits.try_acquire() {
            permit.forget();
            return Ok(Lease(slot.clone()));
        }
        if slot.waiting.get() >= self.bounds.pending {
            return Err(Failure::Full);
        }
        let waiting = Waiting::new(&slot.waiting);
        let acquired = tokio::time::timeout(WAIT, slot.permits.acquire()).await;
        drop(waiting);
        match acquired {
            Ok(Ok(permit)) => permit.forget(),
            _ => return Err(Failure::FullTimeout(WAIT)),
        }
        Ok(Lease(slot.clone()))
    }

    /// Closes what has been idle for long; called once a turn.
    pub fn tidy(&self) {
        let now = Instant::now();
        self.now.set(now);
        // What rested while this machine slept may be dead, and nobody told: a request would wait there.
        let slept = self.awake.borrow_mut().slept();
        self.tunnels.tidy(slept);
        let young = |since: Instant| now.duration_since(since) < IDLE && !slept;
        self.slots.borrow_mut().retain(|_, slot| {
            slot.idle
                .borrow_mut()
                .retain(|(sender, since)| young(*since) && !sender.is_closed());
            let shelves = [&slot.http2, &slot.grpc];
            for shelf in shelves {
                let old =
                    |sender: &http2::SendRequest<_>| sender.is_closed() || !young(slot.used.get());
                let _ = shelf.borrow_mut().take_if(|sender| old(sender));
            }
            let unshared = shelves.iter().all(|shelf| shelf.borrow().is_none());
            let empty = slot.idle.borrow().is_empty() && unshared;
            // Whoever uses it holds it.
            !(empty && Rc::strong_count(slot) == 1 && !young(slot.used.get()))
        });
    }
}

impl Slot {
    /// The one that was used last is the least likely to be closing.
    async fn take_idle(&self) -> Option<(http1::SendRequest<RequestBody>, Instant)> {
        loop {
            let (mut sender, since) = self.idle.borrow_mut().pop()?;
            if sender.is_ready() {
                return Some((sender, since));
            }
            // It was put back as its answer ended: its task notices that a moment later.
            if !sender.is_closed() && sender.ready().await.is_ok() {
                return Some((sender, since));
            }
        }
    }
}

fn shared(shelf: &Shelf, fresh: bool) -> Option<http2::SendRequest<RequestBody>> {
    let mut sender = shelf.borrow_mut();
    if fresh || sender.as_ref()?.is_closed() {
        *sender = None;
    }
    sender.clone()
}

/// One request that waits, counted until this is dropped.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
