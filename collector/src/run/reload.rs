//! Carries the config into force, at the start, at SIGHUP and when its files change.
//! A bad one changes nothing and says so.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::target::TargetConfig;
use crate::config::{self, Config};
use crate::discovery::keeper::Keeper;
use crate::metrics::ReloadMeter;
use crate::run::decided::Decider;
use crate::run::sources::Sources;
use crate::vitals::{self, Vitals};

/// Editors and ConfigMap updates write in several steps: wait until they have been quiet for this long.
const QUIET: Duration = Duration::from_millis(150);

/// File systems stamp changes with a clock that lags by a tick of the kernel: at most this much.
const TICK: Duration = Duration::from_millis(10);

/// What it works with.
pub struct Parts {
    /// The config.
    pub file: PathBuf,
    /// Gives the time.
    pub clock: Clock,
    /// The running sources.
    pub sources: Sources,
    /// Counts reloads.
    pub meter: ReloadMeter,
    /// Where other parts follow the config.
    pub decider: Decider,
    /// Targets that a cluster names.
    pub discovery: Keeper,
    /// Where it gives its signs of life.
    pub vitals: Vitals,
}

/// Owns what the config decides.
pub struct Reloader {
    parts: Parts,
    /// Those that stand in the config.
    targets: Vec<TargetConfig>,
    /// Of what is in force; none where a file changed while it was read.
    fingerprint: Option<u64>,
    files: Vec<PathBuf>,
    listen: Option<std::net::SocketAddr>,
}

impl Reloader {
    /// Nothing is in force yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            targets: Vec::new(),
            fingerprint: None,
            files: Vec::new(),
            listen: None,
        }
    }

    /// Brings `config`, whose reading `began` then, into force, and every later one, until
    /// `stop`; then ends the sources.
    pub async fn run(mut self, config: Config, began: SystemTime, stop: &CancellationToken) {
        self.take(config, began).await;
        let (changed, mut changes) = mpsc::channel(1);
        let mut watcher = self.watch_files(changed.clone());
        let mut hangup = hangups();
        let pulse = self.parts.vitals.task("config", vitals::PATIENCE);
        let mut beat = tokio::time::interval(vitals::BEAT);
        // Also what changed while it was read, or while nobody watched.
        let mut look = true;
        loop {
            pulse.beat();
            if look && self.changed() {
                settle(&mut changes).await;
                self.reload().await;
                // The old one watches until there is the new one.
                let next = self.watch_files(changed.clone());
                drop(std::mem::replace(&mut watcher, next));
            }
            look = tokio::select! {
                () = stop.cancelled() => break,
                // Asks for a reading whatever the files look like.
                () = next(&mut hangup) => {
                    self.fingerprint = None;
                    true
                }
                // A file changed while it was read: once more, when that has come to rest.
                () = tokio::time::sleep(QUIET), if self.fingerprint.is_none() => true,
                _ = changes.recv() => true,
                _ = beat.tick() => false,
                () = self.parts.discovery.changed() => {
                    self.watch_targets().await;
                    false
                }
            };
        }
        self.parts.discovery.end().await;
        self.parts.sources.end().await;
    }

    async fn reload(&mut self) {
        self.parts.meter.total.inc();
        let began = SystemTime::now();
        let file = self.parts.file.clone();
        // Reads files and builds probes: not on a thread that probes run on.
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        match loaded {
            Ok(Ok(config)) => {
                if self
                    .listen
                    .is_some_and(|listen| listen != config.api.listen)
                {
                    tracing::warn!(
                        "api.listen has changed to {}: that takes a restart",
                        config.api.listen
                    );
                }
                let targets = config.targets.len();
                self.take(config, began).await;
                tracing::info!(targets, "the config was read again and is in force");
            }
            Ok(Err(error)) => self.refuse(&error.to_string(), began),
            Err(error) => self.refuse(&format!("reading it failed: {error}"), began),
        }
    }

    fn refuse(&mut self, error: &str, began: SystemTime) {
        self.parts.meter.last_successful.set(0);
        self.fingerprint = self.print_of(began);
        for line in error.lines() {
            tracing::error!("{line}");
        }
        tracing::error!("the config is not usable: the one before stays in force");
    }

    async fn take(&mut self, config: Config, began: SystemTime) {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.listen.get_or_insert(config.api.listen);
        self.parts.decider.decide(&config);
        self.parts.discovery.take(&config).await;
        self.files = config.files;
        self.fingerprint = self.print_of(began);
        self.targets = config.targets;
        self.watch_targets().await;
        self.parts.meter.last_successful.set(1);
        self.parts
            .meter
            .last_success_seconds
            .set(self.parts.clock.now().as_seconds());
    }

    /// Those of the config, and those that the cluster asks for.
    async fn watch_targets(&mut self) {
        let mut targets = self.targets.clone();
        targets.extend(self.parts.discovery.targets());
        self.parts.sources.watch(targets).await;
    }

    fn changed(&self) -> bool {
        self.fingerprint != Some(self.print())
    }

    fn watched(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.parts.file).chain(&self.files)
    }

    /// Of what was read from `began` on, unless a file has changed since: then what was read may
    /// be something else.
    fn print_of(&self, began: SystemTime) -> Option<u64> {
        let print = self.print();
        let since = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = since.saturating_sub(TICK).as_nanos();
        let touched = self.watched().any(|file| {
            // The time of the change itself: a renamed file keeps the time of its contents.
            std::fs::metadata(file).is_ok_and(|about| {
                let nanos =
                    i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
                u128::try_from(nanos).is_ok_and(|nanos| nanos >= since)
            })
        });
        (!touched).then_some(print)
    }

    /// Of the contents, so that a touched file is no change and a replaced one is.
    fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in self.watched() {
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Watches the folders, because editors and ConfigMaps replace files instead of writing them.
    fn watch_files(&self, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // That we read the files is told too, and must not make us read them again.
            let only_read = event.is_ok_and(|event| match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => true,
                _ => false,
            });
            if !only_read {
                // One waiting notice is as good as many.
                let _ = changed.try_send(());
            }
        });
        let mut watcher = match made {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!("config changes are not noticed, send SIGHUP instead: {error}");
                return None;
            }
        };
        let folders: HashSet<&Path> = self.watched().map(|file| folder(file)).collect();
        for folder in folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(
                    "changes in {} are not noticed, send SIGHUP instead: {error}",
                    folder.display()
                );
            }
        }
        Some(watcher)
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

async fn settle(changes: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {}
}

fn hangups() -> Option<Signal> {
    match signal(SignalKind::hangup()) {
        Ok(signal) => Some(signal),
        Err(error) => {
            tracing::warn!("SIGHUP does not reload: {error}");
            None
        }
    }
}

async fn next(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
