//! The series of telling: open alerts, and how each receiver fares. Must not know HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use comind_model::alert::Severity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::notify::status::{Meter, Telling};

/// Encodes what readers of the notifier see.
#[derive(Debug)]
pub struct NotifyCollector(pub Telling);

type Encoded = Result<(), std::fmt::Error>;

impl Collector for NotifyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let alerts = self.0.alerts();
        let count = |severity: Severity, state: &str| {
            let open = alerts.open.iter();
            let of = open.filter(|open| {
                let word = match (&open.muted, open.told) {
                    (_, true) => "firing",
                    (Some(muted), false) => muted.as_str(),
                    (None, false) => "not_leading",
                };
                open.alert.name.severity() == severity && word == state
            });
            of.count() as f64
        };
        let help = "Open alerts: told (firing), or why not";
        let mut family =
            encoder.encode_descriptor("comind_alerts", help, None, MetricType::Gauge)?;
        for severity in [Severity::Page, Severity::Warning] {
            for state in [
                "firing",
                "dependency",
                "waiting",
                "maintenance",
                "not_leading",
            ] {
                let labels = [("severity", severity.as_str()), ("state", state)];
                ConstGauge::new(count(severity, state)).encode(family.encode_family(&labels)?)?;
            }
        }
        drop(family);
        gauge(
            &mut encoder,
            "comind_targets_flapping",
            "Targets that change too often",
            alerts.flapping.len() as f64,
        )?;
        gauge(
            &mut encoder,
            "comind_leader",
            "1 while this process is the one that tells",
            f64::from(u8::from(alerts.leads)),
        )?;
        let help = "1 while open alerts and waiting messages would survive a restart";
        gauge(
            &mut encoder,
            "comind_notify_persistent",
            help,
            f64::from(u8::from(alerts.not_kept.is_none())),
        )?;
        receivers(&mut encoder, &self.0.receivers())
    }
}

fn receivers(encoder: &mut DescriptorEncoder<'_>, meters: &[Arc<Meter>]) -> Encoded {
    let help = "Deliveries to a receiver, by how they ended";
    let mut family =
        encoder.encode_descriptor("comind_notifications", help, None, MetricType::Counter)?;
    for meter in meters {
        for (outcome, count) in [
            ("delivered", &meter.delivered),
            ("failed", &meter.failed),
            ("dropped", &meter.dropped),
        ] {
            let labels = [("receiver", meter.receiver.as_str()), ("outcome", outcome)];
            let count = count.load(Ordering::Relaxed);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    drop(family);
    let help = "Messages that wait for a receiver";
    let name = "comind_notification_queue_length";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for meter in meters {
        let waiting = meter.waiting.load(Ordering::Relaxed) as f64;
        let labels = [("receiver", meter.receiver.as_str())];
        ConstGauge::new(waiting).encode(family.encode_family(&labels)?)?;
    }
    drop(family);
    let help = "When a receiver last accepted a delivery";
    let name = "comind_notification_last_success_timestamp_seconds";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for meter in meters {
        if let Some(at) = meter.last_success() {
            let labels = [("receiver", meter.receiver.as_str())];
            ConstGauge::new(at.as_seconds()).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Encoded {
    let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(family)
}
