//! `comind-ops serve`: starts the parts, wires them, reloads, and ends them in order.
//! Has no rule of its own.

pub mod decided;
pub mod descriptors;
pub mod reload;
pub mod sources;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use comind_model::ingress::Ingress;
use comind_model::session::Sessions;
use comind_model::snapshot::Snapshot;
use prometheus_client::collector::Collector;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::meter::AccessMeter;
use crate::api::{self, Api};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError};
use crate::discovery::{self, meter::DiscoveryMeter};
use crate::history::keeper::Keeper;
use crate::leader::{self, Leads};
use crate::lease::{self, keep::Place};
use crate::maintenance::Desk;
use crate::metrics::compat::CompatCollector;
use crate::metrics::schedule::ScheduleMeter;
use crate::metrics::targets::TargetMeters;
use crate::metrics::vitals::VitalsCollector;
use crate::metrics::{Build, Metrics, ReloadMeter};
use crate::notify::notifier::{Handover, Notifier, Parts};
use crate::notify::outbox::Outbox;
use crate::run::decided::Decider;
use crate::run::reload::Reloader;
use crate::run::sources::Sources;
use crate::source::hints::Hints;
use crate::store::Store;
use crate::vitals::Vitals;

/// How long a part gets to end.
const END: Duration = Duration::from_secs(7);

/// Why serving could not start.
#[derive(Debug)]
pub enum ServeError {
    /// The config is not usable.
    Config(ConfigError),
    /// The gate cannot be made.
    Gate(String),
    /// What runs beside the collector cannot start.
    Beside(String),
    /// The address cannot be listened on.
    Listen {
        /// The address of `api.listen`.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Gate(error) | Self::Beside(error) => write!(f, "{error}"),
            Self::Listen { address, error } => {
                write!(f, "failed to listen on {address} (api.listen): {error}")?;
                if error.kind() == std::io::ErrorKind::AddrInUse {
                    let port = address.port();
                    write!(
                        f,
                        "; `ss -ltnp sport = :{port}` shows who has it; stop that, or set another api.listen"
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ServeError {}

/// What is handed to that which runs beside the collector.
#[derive(Debug)]
pub struct Beside {
    /// What the ingress proxy is told; none where the config has no such section.
    pub proxy: watch::Receiver<Option<Arc<Ingress>>>,
    /// What the collector sees.
    pub seen: watch::Receiver<Arc<Snapshot>>,
    /// When to end.
    pub stop: CancellationToken,
}

/// That which runs beside the collector: what it exports, and its end.
#[derive(Default)]
pub struct Running {
    /// Shown on the page, and ended from there by whoever may.
    pub sessions: Option<Arc<dyn Sessions>>,
    /// Exported with our own metrics.
    pub collectors: Vec<Box<dyn Collector>>,
    /// Ends by itself after `stop`, within a limit of its own.
    pub task: Option<JoinHandle<()>>,
}

/// Serves by the config in `file` until `stop`. `beside` starts what runs beside the collector, in
/// one process and under one config, without either knowing the other.
///
/// With a lease, only the replica that holds it tells people of outages.
///
/// # Errors
/// When it cannot start: a bad config, a taken address.
pub async fn serve(
    file: PathBuf,
    lease: Option<Place>,
    build: Build,
    stop: CancellationToken,
    beside: impl FnOnce(Beside) -> Result<Running, String>,
) -> Result<(), ServeError> {
    let began = SystemTime::now();
    let config = config::load(&file).map_err(ServeError::Config)?;
    let listener = listen(config.api.listen).await?;
    let proxied = config
        .proxy
        .as_ref()
        .map_or(0, |proxy| proxy.limits.connections);
    descriptors::raise(config.targets.len(), proxied);
    let clock = Clock::system();
    let meters = Arc::new(TargetMeters::default());
    let desk = Desk::open(&config.data_dir);
    let (decider, decided) = Decider::new(&config, desk.ready()).map_err(ServeError::Gate)?;
    let by_people = decider.clone();
    desk.tell(move |begun| by_people.maintain(begun));
    let (keeper, history, restored) = Keeper::open(&config.data_dir, clock, decided.terms.clone());
    let (store, inbox, readers) = Store::new(clock, meters.clone(), restored);
    let running = beside(Beside {
        proxy: decided.proxy,
        seen: readers.follow(),
        stop: stop.clone(),
    });
    let running = running.map_err(ServeError::Beside)?;
    let schedule = ScheduleMeter::default();
    let reloads = ReloadMeter::default();
    let access = AccessMeter::default();
    let hints = Hints::default();
    let vitals = Vitals::default();
    let (leads, handover, lease) = leadership(lease);
    let found = DiscoveryMeter::default();
    let discovery =
        discovery::keeper::Keeper::new(readers.clone(), clock, leads.clone(), found.clone());
    let lease = lease.map(|lease| tokio::spawn(lease.run(stop.clone())));
    let (notifier, telling) = Notifier::new(Parts {
        readers: readers.clone(),
        clock,
        hints: hints.clone(),
        wishes: decided.wishes,
        leads,
        outbox: Outbox::open(&config.data_dir),
        vitals: vitals.clone(),
        handover,
    });
    let api = Api {
        metrics: Arc::new(
            Metrics::new(
                build,
                meters,
                readers.clone(),
                clock,
                telling.clone(),
                history.clone(),
                &schedule,
                &reloads,
            )
            .and(|registry| access.register(registry, decided.gate.clone()))
            .and(|registry| found.register(registry))
            .and(|registry| {
                registry.register_collector(Box::new(CompatCollector::new(
                    readers.clone(),
                    decided.compat,
                )));
            })
            .and(|registry| registry.register_collector(Box::new(VitalsCollector(vitals.clone()))))
            .and(|registry| {
                for collector in running.collectors {
                    registry.register_collector(collector);
                }
            }),
        ),
        readers: readers.clone(),
        clock,
        build,
        policy: decided.policy,
        gate: decided.gate.clone(),
        access: access.clone(),
        telling,
        desk: desk.clone(),
        sessions: running.sessions,
        vitals: vitals.clone(),
        history,
        maintenance: decided.terms,
        streams: Arc::new(Semaphore::new(api::STREAMS)),
        stop: stop.clone(),
    };
    // The store outlives its sources, so that their last words are heard.
    let end_store = CancellationToken::new();
    let store = tokio::spawn(store.run(vitals.clone(), end_store.clone()));
    let serving = api::server::Serving {
        router: api::router(api),
        gate: decided.gate,
        meter: access,
    };
    let server = tokio::spawn(api::server::serve(listener, serving, stop.clone()));
    let keeper = tokio::spawn(keeper.run(readers, vitals.clone(), end_store.clone()));
    let notifier = tokio::spawn(notifier.run(end_store.clone()));
    say_hello(&file, &config);

    let sources = Sources::new(clock, inbox, schedule, hints, vitals.clone());
    let reloader = Reloader::new(reload::Parts {
        file,
        clock,
        sources,
        meter: reloads,
        decider,
        discovery,
        vitals,
    });
    reloader.run(config, began, &stop).await;

    if let Some(task) = running.task
        && let Err(error) = task.await
    {
        tracing::error!("what ran beside the collector has failed: {error}");
    }
    end_store.cancel();
    ended("API", server).await;
    if let Some(lease) = lease {
        ended("lease", lease).await;
    }
    ended("notifier", notifier).await;
    ended("history", keeper).await;
    ended("store", store).await;
    Ok(())
}

/// Who tells: this process alone, or whichever replica holds the lease.
fn leadership(lease: Option<Place>) -> (Leads, Option<Handover>, Option<lease::keep::Keeper>) {
    let Some(place) = lease else {
        return (leader::always(), None, None);
    };
    let (told, told_reader) = watch::channel(String::new());
    let (found, found_reader) = watch::channel(String::new());
    let handover = lease::keep::Handover {
        told: told_reader,
        found,
    };
    let (keeper, leads) = lease::keep::Keeper::new(place, handover);
    let handover = Handover {
        told,
        found: found_reader,
    };
    (leads, Some(handover), Some(keeper))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen { address, error })
}

fn say_hello(file: &std::path::Path, config: &Config) {
    let (targets, listen) = (config.targets.len(), config.api.listen);
    let scheme = match config.access.tls {
        Some(_) => "https",
        None => "http",
    };
    tracing::info!(config = %file.display(), targets, "serving on {scheme}://{listen}/");
    if let Some(lack) = config.access.lacks()
        && !listen.ip().is_loopback()
    {
        tracing::warn!("api.listen {listen} is open beyond this machine, and {lack}");
    }
}

async fn ended(part: &str, task: JoinHandle<()>) {
    match tokio::time::timeout(END, task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("the {part} ended badly: {error}"),
        Err(_) => tracing::error!("the {part} did not end within {} s", END.as_secs()),
    }
}
