//! Starts the proxy and its workers, follows what it is told (`told` brings that into force), and ends it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use comind_model::ingress::{Ingress, LogForm};
use comind_model::snapshot::Snapshot;
use opentelemetry::global::BoxedTracer;
use rustls::server::ProducesTickets;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::controller::gateway::gateways::Ports;
use crate::controller::watch::{self as controller, Found};
use crate::endpoint::Endpoint;
use crate::login::gate::Common;
use crate::login::kubernetes::recheck;
use crate::login::told::Names;
use crate::route::compile::Compiler;
use crate::route::table::Table;
use crate::serve::accept::{self, Listening};
use crate::serve::clients::Connections;
use crate::serve::worker::{Current, Shared, TURN, Terms, Tracer, Worker};
use crate::session::admin;
use crate::session::desk::Desk;
use crate::session::events::teller::Teller;
use crate::session::table::Sessions;
use crate::telemetry::log::Log;
use crate::telemetry::meter::{ProxyMeter, RouteMeter};
use crate::telemetry::metrics::{Exported, ProxyCollector};
use crate::tls::authority::Authority;
use crate::tls::certificates;
use crate::tunnel::gate::Gate as TunnelGate;
use crate::tunnel::resolve::Known;
use crate::tunnel::watch::{self as services, Wanted};

mod told;

/// The proxy's time: milliseconds since it was made, so that it fits an atomic.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Now.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why the proxy could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// TLS cannot be spoken as told.
    Tls(String),
    /// What it is told cannot be brought into force.
    Told(String),
    /// A thread cannot be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => {
                write!(f, "failed to listen on {address} (proxy): {error}")?;
                if error.kind() == io::ErrorKind::AddrInUse {
                    let port = address.port();
                    write!(
                        f,
                        "; `ss -ltnp sport = :{port}` shows who has it; stop that, or set another address"
                    )?;
                }
                Ok(())
            }
            Self::Tls(error) => write!(f, "the proxy cannot speak TLS: {error}"),
            Self::Told(error) => write!(f, "the proxy cannot start as it is told: {error}"),
            Self::Thread(error) => write!(f, "the proxy cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    compiler: Compiler,
    exported: Arc<ArcSwap<Exported>>,
    /// Sessions, once there are logins.
    guards: Arc<ArcSwapOption<Sessions>>,
    tickets: Arc<dyn ProducesTickets>,
    told: Ingress,
    log: Option<(LogForm, Log)>,
    own: Option<Arc<Authority>>,
    /// Certificates that were good.
    known: certificates::Known,
    /// Sessions and their audit log, from the first login on.
    common: Option<Arc<Common>>,
    /// What the objects of a cluster make.
    cluster: Found,
    /// The services that routes name, and what is known of their pods.
    wanted: watch::Sender<Wanted>,
    known_pods: watch::Sender<Known>,
    pods: Known,
    watched: Vec<Arc<Endpoint>>,
    workers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts it: when this returns, every listener listens. Of `inherited` (sockets that somebody
    /// else keeps open over our restarts) those are used that are at one of its addresses. With a
    /// `tracer`, whose provider takes its ids from [`Ids`](crate::telemetry::trace::Ids), requests
    /// are told as spans.
    ///
    /// # Errors
    /// When an address is taken, or TLS cannot be spoken.
    pub fn start(
        told: Ingress,
        inherited: &[TcpListener],
        tracer: Option<BoxedTracer>,
    ) -> Result<Self, StartError> {
        let tickets = rustls::crypto::ring::Ticketer::new()
            .map_err(|error| StartError::Tls(error.to_string()))?;
        let nothing = Terms {
            trusted: Vec::new(),
            proxy_protocol: false,
            limits: told.limits,
            patience: told.patience,
            rate: None,
            tls_port: None,
            log: None,
            sample: 0.0,
            gate: None,
            names: Names::default(),
        };
        let current = Current {
            table: Table::default(),
            terms: nothing,
            tls: None,
            tls_at: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            current: ArcSwap::from_pointee(current),
            generation: 0.into(),
            meter: Arc::new(ProxyMeter::default()),
            stray: Arc::new(RouteMeter::new("none".into())),
            connections: Arc::new(Connections::default()),
            clock: Clock::default(),
            tracer: tracer.map(Tracer),
            tunnels: Arc::default(),
        });
        let mut proxy = Self {
            shared,
            compiler: Compiler::default(),
            exported: Arc::default(),
            guards: Arc::default(),
            tickets,
            told: told.clone(),
            log: None,
            own: None,
            known: certificates::Known::new(),
            common: None,
            cluster: Found::default(),
            wanted: watch::Sender::default(),
            known_pods: watch::Sender::default(),
            pods: Known::default(),
            watched: Vec::new(),
            workers: Vec::new(),
            stop: CancellationToken::new(),
        };
        proxy.tell(told).map_err(StartError::Told)?;
        proxy.listen(inherited)?;
        Ok(proxy)
    }

    /// For the exposition.
    pub fn collector(&self) -> ProxyCollector {
        ProxyCollector {
            meter: self.shared.meter.clone(),
            exported: self.exported.clone(),
            clock: self.shared.clock,
            guards: self.guards.clone(),
        }
    }

    /// What is known of the services that routes name, as it changes.
    pub fn pods(&self) -> watch::Receiver<Known> {
        self.known_pods.subscribe()
    }

    /// Its sessions, for whoever shows or ends them.
    pub fn sessions(&self) -> Desk {
        Desk::new(self.shared.clone())
    }

    /// Where its tunnels come from.
    pub fn tunnels(&self) -> Arc<TunnelGate> {
        self.shared.tunnels.clone()
    }

    fn listen(&mut self, inherited: &[TcpListener]) -> Result<(), StartError> {
        let workers = match self.told.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            wanted => wanted,
        };
        let plain = self.told.listen.iter().map(|address| (*address, false));
        let secure = self.told.listen_tls.iter().map(|address| (*address, true));
        let addresses: Vec<_> = plain.chain(secure).collect();
        let mut sets: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
        for (address, secure) in addresses {
            let taken = |error| StartError::Listen { address, error };
            let given = inherited
                .iter()
                .find(|it| it.local_addr().is_ok_and(|at| at == address));
            if given.is_none() {
                accept::probe(address).map_err(taken)?;
            }
            for set in &mut sets {
                let socket = match given {
                    Some(given) => accept::share(given),
                    None => accept::listen(address, true),
                };
                let (socket, inherited) = (socket.map_err(taken)?, given.is_some());
                set.push(Listening {
                    socket,
                    secure,
                    inherited,
                });
            }
        }
        for (number, set) in sets.into_iter().enumerate() {
            let (shared, stop, drain) = (self.shared.clone(), self.stop.clone(), self.told.drain);
            let seed = (u128::from(std::process::id()) << 64)
                | ((number as u128 + 1) << 32)
                | clock_bits();
            let thread = std::thread::Builder::new().name(format!("proxy-{number}"));
            let spawned = thread.spawn(move || work(shared, seed, set, &stop, drain));
            self.workers.push(spawned.map_err(StartError::Thread)?);
        }
        Ok(())
    }

    /// Stops accepting, has what is under way finish within the drain's limit, and waits for it.
    pub fn end(mut self) {
        self.stop.cancel();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker of the proxy has panicked");
            }
        }
        if let Some(common) = &self.common {
            common.sessions.stop();
        }
    }

    /// Somebody ends sessions that are over, and answers who asks about them, from the first login on.
    fn keep_sessions(
        &self,
        keeping: &mut Option<tokio::task::JoinHandle<()>>,
        stop: &CancellationToken,
    ) {
        if let (Some(common), Some(logins), None) = (&self.common, &self.told.logins, &keeping) {
            let (sessions, folder) = (common.sessions.clone(), logins.folder.clone());
            let rechecks = recheck::keep(self.shared.clone(), stop.clone());
            let keeps = admin::keep(sessions, folder, stop.clone());
            *keeping = Some(tokio::spawn(async move {
                tokio::join!(keeps, rechecks);
            }));
        }
    }

    /// Somebody tells a cluster of sessions, where and as that is wanted.
    fn keep_telling(&self, telling: &mut Option<Teller>) {
        let Some(common) = &self.common else { return };
        let wanted = self.told.logins.as_ref();
        let wanted = wanted.and_then(|logins| logins.events.as_ref());
        if telling.as_ref().map(|telling| &telling.told) == wanted {
            return;
        }
        let sessions = &common.sessions;
        let started =
            wanted.map(|wanted| Teller::start(wanted.clone(), sessions.counts.events.clone()));
        let (hand, next) = started.unzip();
        sessions.tell_to(hand);
        if let Some(before) = std::mem::replace(telling, next) {
            // It ends by itself within a limit.
            tokio::spawn(before.end());
        }
    }

    /// Follows what it is told, and what the collector sees, until `stop`; then drains.
    pub async fn follow(
        mut self,
        mut told: watch::Receiver<Option<Arc<Ingress>>>,
        mut seen: watch::Receiver<Arc<Snapshot>>,
        stop: CancellationToken,
    ) {
        let mut gone = false;
        let (sink, mut cluster) = watch::channel(Found::default());
        let numbers = |all: &[SocketAddr]| all.iter().map(SocketAddr::port).collect();
        let ports = Ports {
            plain: numbers(&self.told.listen),
            secure: numbers(&self.told.listen_tls),
        };
        let watching = self.told.kubernetes.clone().map(|wanted| {
            let stop = stop.clone();
            tokio::spawn(controller::run(wanted, ports, sink, stop))
        });
        let mut pods = self.known_pods.subscribe();
        let services = tokio::spawn(services::run(
            self.wanted.subscribe(),
            self.known_pods.clone(),
            self.shared.tunnels.clone(),
            stop.clone(),
        ));
        // Sessions end by their time during a drain too.
        let drained = CancellationToken::new();
        let mut keeping = None;
        let mut telling = None;
        loop {
            self.keep_sessions(&mut keeping, &drained);
            self.keep_telling(&mut telling);
            tokio::select! {
                changed = cluster.changed(), if watching.is_some() => {
                    if changed.is_err() {
                        break;
                    }
                    self.cluster.clone_from(&cluster.borrow_and_update());
                    self.tell_again();
                    self.see(&seen.borrow().clone());
                }
                changed = pods.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.pods.clone_from(&pods.borrow_and_update());
                    self.tell_again();
                    self.see(&seen.borrow().clone());
                }
                () = stop.cancelled() => break,
                changed = told.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let next = told.borrow_and_update().clone();
                    self.take(next.as_deref());
                    self.see(&seen.borrow().clone());
                }
                changed = seen.changed(), if !gone => {
                    gone = changed.is_err();
                    self.see(&seen.borrow_and_update().clone());
                }
            }
        }
        if let Some(watching) = watching {
            watching.abort();
        }
        services.abort();
        // Joining threads would hold up whoever else runs on this one.
        let _ = tokio::task::spawn_blocking(move || self.end()).await;
        drained.cancel();
        if let Some(keeping) = keeping {
            let _ = keeping.await;
        }
        if let Some(telling) = telling {
            telling.end().await;
        }
    }
}

fn clock_bits() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
}

/// The life of a worker's thread.
fn work(
    shared: Arc<Shared>,
    seed: u128,
    listeners: Vec<Listening>,
    stop: &CancellationToken,
    drain: Duration,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!("a worker cannot start: {error}"),
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let worker = Worker::new(shared, seed);
        let mut accepting = Vec::new();
        for listening in listeners {
            match listening.open() {
                Ok(listener) => {
                    let accept = accept::accept(worker.clone(), listener, stop.clone());
                    accepting.push(tokio::task::spawn_local(accept));
                }
                Err(error) => tracing::error!("a worker cannot listen: {error}"),
            }
        }
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = turns.tick() => worker.turn(),
            }
        }
        for accept in accepting {
            let _ = accept.await;
        }
        worker.drain(drain).await;
    });
}

/// What is wrong with what it would be told.
pub fn check(told: &Ingress) -> Vec<String> {
    let (_, mut problems) = Compiler::default().compile(&told.routes);
    if let Err(more) = certificates::check(&told.tls) {
        problems.extend(more);
    }
    problems
}
