//! The series of Argo CD's applications, made at each scrape from the newest snapshot. Must not
//! know the Kubernetes API.
//!
//! `comind_argocd_app_info` bears the labels of Argo CD's own `argocd_app_info`, so that a
//! dashboard built on that needs only another name.

use comind_model::fact::{FactValue, Facts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::Clock;
use crate::probe::argocd::APPLICATION;
use crate::probe::argocd::track::{OUT_OF_SYNC_SINCE, SYNCS};
use crate::store::Readers;

/// Encodes the applications of the newest snapshot.
#[derive(Debug)]
pub struct ArgocdCollector {
    readers: Readers,
    clock: Clock,
}

impl ArgocdCollector {
    /// Reads from `readers`.
    pub fn new(readers: Readers, clock: Clock) -> Self {
        Self { readers, clock }
    }
}

/// Name of the part, and what is known of it.
type Application<'a> = (&'a str, Facts);
type Encoded = Result<(), std::fmt::Error>;

impl Collector for ArgocdCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let snapshot = self.readers.snapshot();
        let applications: Vec<_> = snapshot
            .targets
            .iter()
            .filter(|state| state.target().kind == APPLICATION)
            // Put together once for all families.
            .map(|state| (&*state.target().name, state.facts()))
            .collect();
        if applications.is_empty() {
            return Ok(());
        }
        info(&mut encoder, "comind_argocd_app_info", &applications)?;
        let now = self.clock.now().as_seconds();
        let help = "For how long the cluster has differed from the repository; 0 while it does not";
        let name = "comind_argocd_app_out_of_sync_seconds";
        gauges(&mut encoder, name, help, &applications, |facts| {
            let since = facts.number(OUT_OF_SYNC_SINCE);
            Some(since.map_or(0.0, |since| (now - since).max(0.0)))
        })?;
        for (fact, help) in [
            (
                "last_sync_duration_seconds",
                "How long the last operation took",
            ),
            (
                "last_sync_timestamp_seconds",
                "When the last operation ended",
            ),
        ] {
            let name = format!("comind_argocd_app_{fact}");
            gauges(&mut encoder, &name, help, &applications, |facts| {
                facts.number(fact)
            })?;
        }
        syncs(&mut encoder, &applications)
    }
}

pub(super) fn info(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    applications: &[Application<'_>],
) -> Encoded {
    let help = "An application of Argo CD and how it is, always 1";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (target, facts) in applications {
        let word = |name| match facts.get(name) {
            Some(FactValue::Text(text)) => text.as_str(),
            Some(FactValue::Flag(true)) => "true",
            Some(FactValue::Flag(false)) => "false",
            _ => "",
        };
        let labels = [
            ("target", *target),
            ("name", word("name")),
            ("namespace", word("namespace")),
            ("project", word("project")),
            ("sync_status", word("sync_status")),
            ("health_status", word("health_status")),
            ("autosync_enabled", word("autosync")),
            ("repo", word("repo")),
            ("dest_server", word("dest_server")),
            ("dest_namespace", word("dest_namespace")),
            ("operation", word("operation_phase")),
        ];
        ConstGauge::new(1.0).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn syncs(encoder: &mut DescriptorEncoder<'_>, applications: &[Application<'_>]) -> Encoded {
    let help = "Operations that ended since we watch, by how";
    let name = "comind_argocd_app_syncs";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (target, facts) in applications {
        for (name, value) in facts.iter() {
            let (SYNCS, Some((_, phase))) = comind_model::fact::split_label(name) else {
                continue;
            };
            if let FactValue::Number(count) = value {
                let labels = [("target", *target), ("phase", phase)];
                ConstCounter::new(*count as u64).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    applications: &[Application<'_>],
    value: impl Fn(&Facts) -> Option<f64>,
) -> Encoded {
    let mut family: MetricEncoder<'_> =
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (target, facts) in applications {
        if let Some(value) = value(facts) {
            let labels = [("target", *target)];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
