//! Starts the proxy, brings what it is told into force, and ends it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use comind_model::health::Health;
use comind_model::ingress::{Ingress, Limits, LogForm, Route};
use comind_model::login::{Logins, Why};
use comind_model::snapshot::Snapshot;
use opentelemetry::global::BoxedTracer;
use rustls::server::ProducesTickets;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::controller::gateway::gateways::Ports;
use crate::controller::watch::{self as controller, Found};
use crate::endpoint::Endpoint;
use crate::login::gate::{Common, Gate};
use crate::route::compile::Compiler;
use crate::route::table::Table;
use crate::serve::accept::{self, Listening};
use crate::serve::clients::{Connections, Rate};
use crate::serve::worker::{Current, Shared, TURN, Terms, Tracer, Worker};
use crate::session::admin;
use crate::session::table::Sessions;
use crate::telemetry::log::Log;
use crate::telemetry::meter::{ProxyMeter, RouteMeter};
use crate::telemetry::metrics::{Exported, ProxyCollector};
use crate::tls::authority::Authority;
use crate::tls::certificates;
use crate::tunnel::gate::Gate as TunnelGate;
use crate::tunnel::resolve::{self, Known};
use crate::tunnel::watch::{self as services, Wanted};

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

    /// Brings other routes, certificates and limits into force. What is under way goes on.
    /// Listeners stay as they are: a change of those takes a restart, and is warned about.
    ///
    /// # Errors
    /// When TLS could not be spoken as told: then all stays as it was.
    pub fn tell(&mut self, told: Ingress) -> Result<(), String> {
        let own = match (&told.tls.own_authority, &self.own) {
            (None, _) => None,
            (Some(_), Some(own)) => Some(own.clone()),
            (Some(folder), None) => {
                let opened = Authority::open(folder);
                Some(Arc::new(opened.map_err(|error| {
                    format!("no local authority in {}: {error}", folder.display())
                })?))
            }
        };
        let mut tls = told.tls.clone();
        let mut routes = told.routes.clone();
        if let Some(cluster) = &self.cluster.ingress {
            // The config's own go first: of two that are equal the first counts.
            tls.certificates
                .extend(cluster.certificates.iter().cloned());
            routes.extend(cluster.routes.iter().cloned().map(|route| Route {
                // Without a listener for it, a redirect to HTTPS leads nowhere.
                https_only: route.https_only && !self.told.listen_tls.is_empty(),
                ..route
            }));
        }
        let gate = self.gate(told.logins.as_ref())?;
        let before = self.shared.current.load().terms.gate.clone();
        let gateway = self.cluster.gateway.clone().unwrap_or_default();
        let listeners = gateway.listeners.as_slice();
        let (tickets, known) = (&self.tickets, &mut self.known);
        let made = certificates::make(&tls, listeners, own.clone(), tickets, known)?;
        let wanted = Wanted {
            cluster: told.tunnels.clone(),
            services: resolve::wanted(&routes),
        };
        let by_tunnel = wanted.cluster.is_some();
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
        let routes: Vec<_> = routes
            .into_iter()
            .map(|route| resolve::resolved(route, &self.pods, by_tunnel))
            .collect();
        let (table, problems) = self.compiler.compile_all(&routes, listeners);
        for problem in problems.iter().chain(&made.problems) {
            tracing::error!("{problem}");
        }
        if fixed(&told) != fixed(&self.told) {
            tracing::warn!(
                "addresses, `workers`, `drain`, `kubernetes` or the bounds of upstream connections of \
                 the proxy have changed: that takes a restart"
            );
        }
        self.own = own;
        self.shared
            .meter
            .certificate_expiry
            .store(made.expiry, Relaxed);
        self.publish(&table);
        let terms = Terms {
            trusted: told.trusted.clone(),
            proxy_protocol: told.proxy_protocol,
            limits: told.limits,
            patience: told.patience,
            rate: self.rate(&told.limits),
            tls_port: self.told.listen_tls.first().map(SocketAddr::port),
            log: self.log(told.access_log.form),
            sample: told.access_log.sample,
            gate: gate.clone(),
        };
        self.told = Ingress {
            listen: self.told.listen.clone(),
            listen_tls: self.told.listen_tls.clone(),
            ..told
        };
        self.shared.swap(Current {
            table,
            terms,
            tls: made.config,
            tls_at: made.doors,
        });
        self.end_others(gate.as_deref(), before.as_deref());
        Ok(())
    }

    fn gate(&mut self, told: Option<&Logins>) -> Result<Option<Arc<Gate>>, String> {
        let Some(told) = told else {
            return Ok(None);
        };
        let common = match &self.common {
            Some(common) => common.clone(),
            None => {
                let opened = Common::open(told, self.shared.clock).map_err(|error| {
                    let folder = told.folder.display();
                    format!("no audit log of sessions in {folder}: {error}")
                })?;
                let opened = Arc::new(opened);
                self.guards.store(Some(opened.sessions.clone()));
                self.common = Some(opened.clone());
                opened
            }
        };
        let current = self.shared.current.load();
        let before = current.terms.gate.as_deref();
        if let Some(before) = before.filter(|before| before.told == *told) {
            return Ok(Some(Arc::new(before.clone())));
        }
        Gate::new(told, common, before).map(|gate| Some(Arc::new(gate)))
    }

    /// Sessions of logins that are gone, or are others, end.
    fn end_others(&self, gate: Option<&Gate>, before: Option<&Gate>) {
        match (gate, before) {
            (Some(gate), Some(before)) => gate.end_others(before),
            (None, Some(before)) => {
                let sessions = &before.common.sessions;
                sessions.end_all(|_| true, Why::Changed, None);
            }
            (_, None) => {}
        }
    }

    /// The one in force goes on where it is the same, so that a change elsewhere, such as that of a
    /// pod, gives nobody a new budget.
    fn rate(&self, limits: &Limits) -> Option<Arc<Rate>> {
        let terms = &self.shared.current.load().terms;
        let of = |limits: &Limits| (limits.requests_per_second, limits.burst);
        match &terms.rate {
            Some(rate) if of(&terms.limits) == of(limits) => Some(rate.clone()),
            _ => Rate::new(limits).map(Arc::new),
        }
    }

    fn log(&mut self, form: LogForm) -> Option<Log> {
        if form == LogForm::Off {
            self.log = None;
        } else if self.log.as_ref().is_none_or(|(known, _)| *known != form) {
            match Log::start(form, io::stdout()) {
                Ok(log) => self.log = Some((form, log)),
                Err(error) => tracing::error!("there is no access log: {error}"),
            }
        }
        self.log.as_ref().map(|(_, log)| log.clone())
    }

    fn publish(&mut self, table: &Table) {
        let mut endpoints = Vec::new();
        for route in &table.all {
            for plan in route.doing.plans() {
                let of = |one: &crate::endpoint::Weighted| {
                    (route.meter.name.clone(), one.endpoint.clone())
                };
                endpoints.extend(plan.endpoints.iter().map(of));
            }
        }
        // The matches of a Gateway's rule share a name and its endpoints: each is told once.
        let mut told = HashSet::new();
        endpoints.retain(|(name, endpoint)| told.insert((name.clone(), endpoint.id)));
        self.watched = endpoints
            .iter()
            .map(|(_, endpoint)| endpoint.clone())
            .collect();
        self.watched.retain(|endpoint| endpoint.target.is_some());
        let mut routes = self.compiler.meters();
        routes.push(self.shared.stray.clone());
        self.exported
            .store(Arc::new(Exported { routes, endpoints }));
    }

    /// What the collector sees decides where requests go by choice.
    pub fn see(&self, snapshot: &Snapshot) {
        for endpoint in &self.watched {
            let name = endpoint.target.as_deref().unwrap_or_default();
            let state = snapshot
                .targets
                .iter()
                .find(|state| &*state.target().name == name);
            // Of what is unknown nothing bad is assumed.
            endpoint.is_down(state.is_some_and(|state| state.standing().health == Health::Down));
        }
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

    fn take(&mut self, next: Option<&Ingress>) {
        let Some(next) = next else {
            return tracing::warn!(
                "the section `proxy` is gone: the proxy goes on as before until a restart"
            );
        };
        if *next != self.told
            && let Err(error) = self.tell(next.clone())
        {
            tracing::error!("the proxy goes on as before: {error}");
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
            *keeping = Some(tokio::spawn(admin::keep(sessions, folder, stop.clone())));
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
        loop {
            self.keep_sessions(&mut keeping, &drained);
            tokio::select! {
                changed = cluster.changed(), if watching.is_some() => {
                    if changed.is_err() {
                        break;
                    }
                    self.cluster.clone_from(&cluster.borrow_and_update());
                    if let Err(error) = self.tell(self.told.clone()) {
                        tracing::error!("the proxy goes on as before: {error}");
                    }
                    self.see(&seen.borrow().clone());
                }
                changed = pods.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.pods.clone_from(&pods.borrow_and_update());
                    if let Err(error) = self.tell(self.told.clone()) {
                        tracing::error!("the proxy goes on as before: {error}");
                    }
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
    }
}

/// What is taken at the start only.
fn fixed(told: &Ingress) -> impl PartialEq + '_ {
    let limits = &told.limits;
    (
        (&told.listen, &told.listen_tls, &told.kubernetes),
        (told.workers, told.drain),
        (limits.upstream_connections, limits.pending),
    )
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
