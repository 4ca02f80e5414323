//! The series of discovery. Must not know how things are found.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::wish::{Asker, Origin};
use crate::discovery::judge::Verdict;

type Labels = Vec<(&'static str, String)>;

/// Counts what was found.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryMeter {
    askers: Family<Labels, Gauge>,
    feeds: Family<Labels, Gauge>,
    failures: Counter,
}

impl DiscoveryMeter {
    /// What came of all askers.
    pub fn judged<'a>(&self, verdicts: impl Iterator<Item = (&'a Asker, &'a Verdict)>) {
        self.askers.clear();
        for (asker, verdict) in verdicts {
            let labels = vec![
                ("source", asker.origin.as_str().to_owned()),
                ("reason", verdict.reason.to_owned()),
            ];
            self.askers.get_or_create(&labels).inc();
        }
    }

    /// Whether one kind of object in one namespace (empty: all) is heard of.
    pub fn heard(&self, origin: Origin, namespace: Option<&str>, well: bool) {
        let labels = vec![
            ("source", origin.as_str().to_owned()),
            ("namespace", namespace.unwrap_or_default().to_owned()),
        ];
        self.feeds.get_or_create(&labels).set(i64::from(well));
    }

    /// Nothing is asked for any more.
    pub fn reset(&self) {
        self.feeds.clear();
        self.askers.clear();
    }

    /// A status could not be written back.
    pub fn not_told(&self) {
        self.failures.inc();
    }

    /// Puts the series into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "comind_discovery_objects",
            "Objects of the cluster that ask to be watched, by what came of it (reason Watched: a target)",
            self.askers.clone(),
        );
        registry.register(
            "comind_discovery_up",
            "1 while the cluster tells of such objects; 0: what was found last is still watched",
            self.feeds.clone(),
        );
        registry.register(
            "comind_discovery_status_failures",
            "Statuses that could not be written to the objects",
            self.failures.clone(),
        );
    }
}
