//! What Prometheus gets. Must not know HTTP; `api` serves it.

pub mod argocd;
pub mod compat;
pub mod encode;
pub mod history;
pub mod notify;
pub mod process;
pub mod schedule;
pub mod targets;
pub mod vitals;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock::Clock;
use crate::history::keeper::History;
use crate::metrics::argocd::ArgocdCollector;
use crate::metrics::history::HistoryCollector;
use crate::metrics::notify::NotifyCollector;
use crate::metrics::process::ProcessCollector;
use crate::metrics::schedule::ScheduleMeter;
use crate::metrics::targets::{TargetCollector, TargetMeters};
use crate::notify::status::Telling;
use crate::store::Readers;

/// How reloads of the config went.
#[derive(Clone, Debug, Default)]
pub struct ReloadMeter {
    /// 1 when the last reload succeeded.
    pub last_successful: Gauge,
    /// When the config in force was read.
    pub last_success_seconds: Gauge<f64, AtomicU64>,
    /// Reloads tried.
    pub total: Counter,
}

/// What identifies the running program in `comind_build_info`.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The version of the package.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
}

/// Everything that is exported.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Gathers all metrics behind one registry.
    #[expect(
        clippy::too_many_arguments,
        reason = "each part hands in what it counts, once"
    )]
    pub fn new(
        build: Build,
        meters: Arc<TargetMeters>,
        readers: Readers,
        clock: Clock,
        telling: Telling,
        history: History,
        schedule: &ScheduleMeter,
        reload: &ReloadMeter,
    ) -> Self {
        let mut registry = Registry::default();
        register_build(&mut registry, build);
        schedule.register(&mut registry);
        register_reload(&mut registry, reload);
        registry.register_collector(Box::new(TargetCollector::new(meters, readers.clone())));
        registry.register_collector(Box::new(ArgocdCollector::new(readers, clock)));
        registry.register_collector(Box::new(NotifyCollector(telling)));
        registry.register_collector(Box::new(HistoryCollector(history)));
        registry.register_collector(Box::new(ProcessCollector::new()));
        Self { registry }
    }

    /// Adds what registers itself.
    pub fn and(mut self, register: impl FnOnce(&mut Registry)) -> Self {
        register(&mut self.registry);
        self
    }

    /// The registry, for encoding.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn register_build(registry: &mut Registry, build: Build) {
    let info: Family<Vec<(&str, &str)>, Gauge> = Family::default();
    let labels = vec![("version", build.version), ("commit", build.commit)];
    info.get_or_create(&labels).set(1);
    registry.register("comind_build_info", "The running program, always 1", info);
}

fn register_reload(registry: &mut Registry, reload: &ReloadMeter) {
    registry.register(
        "comind_config_last_reload_successful",
        "1 when the last reading of the config succeeded, 0 when the config before it is still in force",
        reload.last_successful.clone(),
    );
    registry.register(
        "comind_config_last_reload_success_timestamp_seconds",
        "When the config in force was read",
        reload.last_success_seconds.clone(),
    );
    registry.register(
        "comind_config_reloads",
        "Readings of the config after the first, good and bad",
        reload.total.clone(),
    );
}
