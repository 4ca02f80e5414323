//! One thread that carries requests: its connections, its pool of upstream connections, and a
//! turn once a second in which it looks after them. Workers share only what never makes one wait
//! for another.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use comind_model::ingress::{Cidr, Limits, Patience};
use opentelemetry::global::BoxedTracer;
use tokio::sync::Notify;

use super::clients::{Connections, Rate};
use super::connection::Conn;
use super::control::{Control, Order, Phase};
use crate::login::gate::Gate;
use crate::login::told::Names;
use crate::route::door::{self, Place};
use crate::route::table::Table;
use crate::run::Clock;
use crate::telemetry::log::{Line, Log};
use crate::telemetry::meter::{ProxyMeter, RouteMeter};
use crate::telemetry::trace;
use crate::tunnel::gate::Gate as TunnelGate;
use crate::upstream::pool::{Bounds, Pool};

/// How often a worker looks after its connections.
pub const TURN: Duration = Duration::from_secs(1);

/// A connection that has waited for a request over so many turns gives its buffers back.
const RESTING: u32 = 1;

/// Spawns on this thread.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// What is in force: swapped as a whole.
#[derive(Debug)]
pub struct Current {
    /// Where requests go.
    pub table: Table,
    /// What holds for all of them.
    pub terms: Terms,
    /// The certificates, where there are any.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The same where Gateways have listeners.
    pub tls_at: HashMap<Place, Arc<rustls::ServerConfig>>,
}

impl Current {
    /// What is shown to whoever connects to this address.
    pub fn tls_for(&self, local: SocketAddr) -> Option<&Arc<rustls::ServerConfig>> {
        let mut places = door::places((local, true)).into_iter();
        places
            .find_map(|place| self.tls_at.get(&place))
            .or(self.tls.as_ref())
    }
}

/// What holds for all requests.
#[derive(Debug)]
pub struct Terms {
    /// Whose word is taken.
    pub trusted: Vec<Cidr>,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Bounds.
    pub limits: Limits,
    /// How long is waited for clients.
    pub patience: Patience,
    /// How often one client may ask.
    pub rate: Option<Arc<Rate>>,
    /// The port of HTTPS, for redirects.
    pub tls_port: Option<u16>,
    /// Where lines of the access log go.
    pub log: Option<Log>,
    /// The share of good requests that is logged.
    pub sample: f64,
    /// Who may pass, where there are logins.
    pub gate: Option<Arc<Gate>>,
    /// Under which names routes tell their upstreams of them.
    pub names: Names,
}

/// What workers share.
#[derive(Debug)]
pub struct Shared {
    /// In force.
    pub current: ArcSwap<Current>,
    /// Grows with each swap, so that a worker sees one by a plain load.
    pub generation: AtomicU64,
    /// Counts for all routes.
    pub meter: Arc<ProxyMeter>,
    /// Counts what belongs to no route.
    pub stray: Arc<RouteMeter>,
    /// Open connections.
    pub connections: Arc<Connections>,
    /// The proxy's time.
    pub clock: Clock,
    /// Where requests are told as spans.
    pub tracer: Option<Tracer>,
    /// Where tunnels come from.
    pub tunnels: Arc<TunnelGate>,
}

/// Makes spans.
pub struct Tracer(pub BoxedTracer);

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tracer")
    }
}

impl Shared {
    /// Brings it into force.
    pub fn swap(&self, current: Current) {
        self.current.store(Arc::new(current));
        self.generation.fetch_add(1, Relaxed);
        self.meter.reloads.fetch_add(1, Relaxed);
    }
}

/// A worker's own handle on what is in force: its count is not shared between cores.
pub type Own = Rc<Arc<Current>>;

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// What all have.
    pub shared: Arc<Shared>,
    /// Its upstream connections.
    pub pool: Pool,
    /// In an `Rc` of its own: requests take a handle each, and a count that all cores share is slow.
    current: RefCell<(u64, Own)>,
    controls: RefCell<HashMap<*const Control, Rc<Control>>>,
    tunnels: Cell<usize>,
    end_tunnels: Rc<Notify>,
    fewer: Notify,
    seed: Cell<u128>,
}

impl Worker {
    /// With this seed for its random choices (which are no secrets).
    pub fn new(shared: Arc<Shared>, seed: u128) -> Rc<Self> {
        let generation = shared.generation.load(Relaxed);
        let current = shared.current.load_full();
        let limits = current.terms.limits;
        let bounds = Bounds {
            connections: limits.upstream_connections,
            pending: limits.pending,
        };
        let pool = Pool::new(bounds, shared.tunnels.clone());
        Rc::new(Self {
            shared,
            pool,
            current: RefCell::new((generation, Rc::new(current))),
            controls: RefCell::default(),
            tunnels: Cell::new(0),
            end_tunnels: Rc::default(),
            fewer: Notify::new(),
            seed: Cell::new(seed | 1),
        })
    }

    /// What is in force.
    pub fn current(&self) -> Own {
        let generation = self.shared.generation.load(Relaxed);
        let mut current = self.current.borrow_mut();
        if current.0 != generation {
            *current = (generation, Rc::new(self.shared.current.load_full()));
        }
        current.1.clone()
    }

    /// A number that nobody needs to be unable to guess (PCG, the 128 bit form of L'Ecuyer's
    /// multiplier).
    pub fn random(&self) -> u128 {
        let next = self
            .seed
            .get()
            .wrapping_mul(0xda94_2042_e4dd_58b5)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(next);
        next ^ (next >> 64)
    }

    /// Hands on what is to be told of a request: to traces, and to the access log.
    pub fn tell(&self, line: Line) {
        if let Some(Tracer(tracer)) = &self.shared.tracer {
            trace::tell(tracer, &line);
        }
        let current = self.current();
        let Some(log) = &current.terms.log else {
            return;
        };
        let failed = line.status >= 500 || line.fault.is_some();
        let drawn = (self.random() as u32) as f64 / f64::from(u32::MAX);
        if (failed || drawn < current.terms.sample) && !log.put(line) {
            self.shared.meter.log_lost.fetch_add(1, Relaxed);
        }
    }

    /// A connection begins.
    pub fn watch(&self) -> Rc<Control> {
        let control = Rc::new(Control::default());
        self.controls
            .borrow_mut()
            .insert(Rc::as_ptr(&control), control.clone());
        self.shared.meter.open.fetch_add(1, Relaxed);
        control
    }

    /// It has ended.
    pub fn unwatch(&self, control: &Rc<Control>) {
        self.controls.borrow_mut().remove(&Rc::as_ptr(control));
        self.shared.meter.open.fetch_sub(1, Relaxed);
        self.fewer.notify_waiters();
    }

    /// A tunnel begins.
    pub fn tunnel(self: &Rc<Self>, conn: Rc<Conn>) -> Tunnel {
        self.tunnels.set(self.tunnels.get() + 1);
        Tunnel {
            worker: self.clone(),
            _conn: conn,
            end: self.end_tunnels.clone(),
        }
    }

    /// Looks after connections: those that are slow with a head or idle for long are closed.
    pub fn turn(&self) {
        let current = self.current();
        let patience = current.terms.patience;
        let turns = |limit: Duration| {
            u32::try_from(limit.as_millis() / TURN.as_millis())
                .unwrap_or(u32::MAX)
                .max(1)
        };
        let (head, idle) = (turns(patience.head), turns(patience.idle));
        for control in self.controls.borrow().values() {
            match control.turn() {
                (Phase::Head, stayed) if stayed >= head => {
                    self.shared.meter.refused("slow_head");
                    control.tell(Order::Close);
                }
                // What had its chance to finish politely has gone silent.
                (Phase::Idle, stayed) if stayed >= idle.saturating_add(5) => {
                    control.tell(Order::Close);
                }
                (Phase::Idle, stayed) if stayed >= idle => control.tell(Order::Drain),
                (Phase::Idle, RESTING) => control.rest(),
                _ => {}
            }
        }
        self.pool.tidy();
        if let Some(rate) = &current.terms.rate {
            rate.tidy();
        }
        if let Some(gate) = &current.terms.gate {
            gate.tidy();
        }
    }

    /// Has all connections finish, and waits until they have, at most so long; then ends them.
    pub async fn drain(&self, limit: Duration) {
        for control in self.controls.borrow().values() {
            control.tell(Order::Drain);
        }
        let gone = async {
            loop {
                let fewer = self.fewer.notified();
                if self.controls.borrow().is_empty() && self.tunnels.get() == 0 {
                    return;
                }
                fewer.await;
            }
        };
        if tokio::time::timeout(limit, gone).await.is_err() {
            let (connections, tunnels) = (self.controls.borrow().len(), self.tunnels.get());
            tracing::warn!(connections, tunnels, "still open after {limit:?}: closed");
            for control in self.controls.borrow().values() {
                control.tell(Order::Close);
            }
            self.end_tunnels.notify_waiters();
            // They are told; one turn of the runtime lets them go.
            tokio::task::yield_now().await;
        }
    }
}

/// An open tunnel, counted until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    worker: Rc<Worker>,
    _conn: Rc<Conn>,
    end: Rc<Notify>,
}

impl Tunnel {
    /// Until it has to end.
    pub async fn told_to_end(&self) {
        self.end.notified().await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.worker.tunnels.set(self.worker.tunnels.get() - 1);
        self.worker.fewer.notify_waiters();
    }
}
