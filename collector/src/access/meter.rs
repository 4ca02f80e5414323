//! The series of access: requests, refusals, and when our certificate ends. Must not know HTTP.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::gate::Gate;

type Labels = Vec<(&'static str, String)>;

/// Counts requests and refusals.
#[derive(Clone, Debug, Default)]
pub struct AccessMeter {
    requests: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    handshakes: Family<Labels, Counter>,
}

impl AccessMeter {
    /// Counts an answer; `path` is a route's template, never what was asked for.
    pub fn answered(&self, path: &str, status: u16) {
        let class = format!("{}xx", status / 100);
        let labels = vec![("path", path.to_owned()), ("status", class)];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts somebody who was not let in.
    pub fn refused(&self, reason: &'static str) {
        let labels = vec![("reason", reason.to_owned())];
        self.failures.get_or_create(&labels).inc();
    }

    /// Counts a handshake that came to nothing.
    pub fn no_handshake(&self, reason: &'static str) {
        let labels = vec![("reason", reason.to_owned())];
        self.handshakes.get_or_create(&labels).inc();
    }

    /// Puts the series into a registry.
    pub fn register(&self, registry: &mut Registry, gate: watch::Receiver<Arc<Gate>>) {
        registry.register(
            "comind_api_requests",
            "Requests to the API, the page and the metrics, by route and class of status",
            self.requests.clone(),
        );
        registry.register(
            "comind_api_auth_failures",
            "Requests that were not let in",
            self.failures.clone(),
        );
        registry.register(
            "comind_api_handshake_failures",
            "Connections that came to no agreement on TLS",
            self.handshakes.clone(),
        );
        registry.register_collector(Box::new(Certificate(gate)));
    }
}

#[derive(Debug)]
struct Certificate(watch::Receiver<Arc<Gate>>);

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(end) = self.0.borrow().tls().map(|tls| tls.expiry_seconds) else {
            return Ok(());
        };
        let name = "comind_api_certificate_expiry_timestamp_seconds";
        let help = "When the certificate ends that the API shows";
        let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(end).encode(family)
    }
}
