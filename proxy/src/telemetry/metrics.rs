//! The proxy's counters as series of Prometheus.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::meter::{BUCKETS, ProxyMeter, Reading, RouteMeter};
use crate::endpoint::Endpoint;
use crate::session::table::Sessions;

/// What is exported.
#[derive(Debug, Default)]
pub struct Exported {
    /// The routes' counters.
    pub routes: Vec<Arc<RouteMeter>>,
    /// The endpoints of each route.
    pub endpoints: Vec<(Arc<str>, Arc<Endpoint>)>,
}

/// Reads the counters at each scrape.
#[derive(Debug)]
pub struct ProxyCollector {
    /// What holds for all routes together.
    pub meter: Arc<ProxyMeter>,
    /// Swapped with the route table.
    pub exported: Arc<ArcSwap<Exported>>,
    /// Gives the proxy's time in milliseconds.
    pub clock: crate::run::Clock,
    /// Sessions, once there are logins.
    pub guards: Arc<ArcSwapOption<Sessions>>,
}

type Encoded = Result<(), std::fmt::Error>;

impl Collector for ProxyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let exported = self.exported.load();
        let readings: Vec<(Arc<str>, Reading)> = exported
            .routes
            .iter()
            .map(|meter| (meter.name.clone(), meter.read()))
            .collect();
        self.proxy(&mut encoder)?;
        requests(&mut encoder, &readings)?;
        durations(&mut encoder, &readings)?;
        for (name, help, of) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (route, reading) in &readings {
                let labels = [("route", &**route)];
                ConstGauge::new(of(reading)).encode(family.encode_family(&labels)?)?;
            }
        }
        bytes(&mut encoder, &readings)?;
        errors(&mut encoder, &readings)?;
        if let Some(sessions) = &*self.guards.load() {
            sessions.encode(&mut encoder)?;
        }
        self.endpoints(&mut encoder, &exported)
    }
}

impl Sessions {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let name = "comind_proxy_sessions";
        let metric =
            encoder.encode_descriptor(name, "Sessions that last", None, MetricType::Gauge)?;
        ConstGauge::new(self.open() as i64).encode(metric)?;
        let counters = [
            (
                "comind_proxy_sessions_begun",
                "Sessions that have begun",
                self.counts.began.load(Relaxed),
            ),
            (
                "comind_proxy_sessions_ended",
                "Sessions that have ended, whatever the reason",
                self.counts.ended.load(Relaxed),
            ),
            (
                "comind_proxy_logins_refused",
                "Requests that a login did not let in",
                self.counts.refused.load(Relaxed),
            ),
            (
                "comind_proxy_audit_lost",
                "Entries of the audit log that could not be written",
                self.lost(),
            ),
        ];
        for (name, help, count) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        self.encode_events(encoder)
    }

    fn encode_events(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let events = &self.counts.events;
        let name = "comind_proxy_session_events";
        let help = "Events of sessions that a cluster was told";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(events.told.load(Relaxed)).encode(metric)?;
        let name = "comind_proxy_session_events_lost";
        let help =
            "Events of sessions that were not told: no room, not taken by the cluster, too many";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in [
            ("queue", &events.queue),
            ("failed", &events.failed),
            ("rate", &events.rate),
        ] {
            let labels = [("reason", reason)];
            ConstCounter::new(count.load(Relaxed)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

type Gauge = (&'static str, &'static str, fn(&Reading) -> i64);

const GAUGES: [Gauge; 2] = [
    (
        "comind_proxy_requests_in_flight",
        "Requests under way",
        |reading| reading.in_flight,
    ),
    (
        "comind_proxy_tunnels",
        "Open upgraded connections, such as WebSockets",
        |reading| reading.tunnels,
    ),
];

impl ProxyCollector {
    fn proxy(&self, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let counters = [
            (
                "comind_proxy_connections",
                "Connections taken",
                &self.meter.connections,
            ),
            (
                "comind_proxy_access_log_lost",
                "Lines of the access log that found no room",
                &self.meter.log_lost,
            ),
            (
                "comind_proxy_route_tables",
                "Route tables brought into force",
                &self.meter.reloads,
            ),
        ];
        for (name, help, counter) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.load(Relaxed)).encode(metric)?;
        }
        let gauges = [
            (
                "comind_proxy_connections_open",
                "Open connections",
                &self.meter.open,
            ),
            (
                "comind_proxy_connections_resting",
                "Connections that wait for a request and have given their buffers back",
                &self.meter.resting,
            ),
        ];
        for (name, help, gauge) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(gauge.load(Relaxed)).encode(metric)?;
        }
        let expiry = self.meter.certificate_expiry.load(Relaxed);
        if expiry != 0 {
            let help = "When the first of our certificates ends";
            let name = "comind_proxy_certificate_expiry_timestamp_seconds";
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(expiry).encode(metric)?;
        }
        let help = "Connections and requests that were refused";
        let mut family =
            encoder.encode_descriptor("comind_proxy_refused", help, None, MetricType::Counter)?;
        for (reason, count) in self.meter.refusals() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }

    fn endpoints(&self, encoder: &mut DescriptorEncoder<'_>, exported: &Exported) -> Encoded {
        let help =
            "1 where requests go by choice, 0 while failures or the collector speak against it";
        let mut family = encoder.encode_descriptor(
            "comind_proxy_endpoint_usable",
            help,
            None,
            MetricType::Gauge,
        )?;
        let now = self.clock.millis();
        for (route, endpoint) in &exported.endpoints {
            let place = format!("{}:{}", endpoint.host, endpoint.port);
            let labels = [("route", &**route), ("endpoint", place.as_str())];
            let usable = i64::from(endpoint.is_usable(now));
            ConstGauge::new(usable).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn requests(encoder: &mut DescriptorEncoder<'_>, readings: &[(Arc<str>, Reading)]) -> Encoded {
    let help = "Requests by what they were answered with; `none` is without an answer";
    let mut family =
        encoder.encode_descriptor("comind_proxy_requests", help, None, MetricType::Counter)?;
    for (route, reading) in readings {
        for (class, count) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]
            .into_iter()
            .zip(reading.classes)
        {
            if count > 0 {
                let labels = [("route", &**route), ("code", class)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    let help = "Requests that were tried again";
    let mut family =
        encoder.encode_descriptor("comind_proxy_retries", help, None, MetricType::Counter)?;
    for (route, reading) in readings {
        ConstCounter::new(reading.retries).encode(family.encode_family(&[("route", &**route)])?)?;
    }
    Ok(())
}

fn durations(encoder: &mut DescriptorEncoder<'_>, readings: &[(Arc<str>, Reading)]) -> Encoded {
    let help = "From a request's head to the last byte of its answer";
    let name = "comind_proxy_request_duration";
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
    for (route, reading) in readings {
        let labels = [("route", &**route)];
        let mut metric: MetricEncoder<'_> = family.encode_family(&labels)?;
        let bounds = BUCKETS.into_iter().chain(std::iter::once(f64::MAX));
        let buckets: Vec<(f64, u64)> = bounds.zip(reading.buckets).collect();
        let count = reading.buckets.iter().sum();
        metric.encode_histogram::<NoLabelSet>(reading.seconds, count, &buckets, None)?;
    }
    Ok(())
}

fn bytes(encoder: &mut DescriptorEncoder<'_>, readings: &[(Arc<str>, Reading)]) -> Encoded {
    let help = "Bytes of bodies and of upgraded connections: `in` from clients, `out` to them";
    let unit = Some(&Unit::Bytes);
    let mut family = encoder.encode_descriptor("comind_proxy", help, unit, MetricType::Counter)?;
    for (route, reading) in readings {
        for (direction, count) in [("in", reading.received), ("out", reading.sent)] {
            let labels = [("route", &**route), ("direction", direction)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn errors(encoder: &mut DescriptorEncoder<'_>, readings: &[(Arc<str>, Reading)]) -> Encoded {
    let help = "Failures of upstreams, those that a retry mended too";
    let mut family = encoder.encode_descriptor(
        "comind_proxy_upstream_errors",
        help,
        None,
        MetricType::Counter,
    )?;
    for (route, reading) in readings {
        for (reason, count) in &reading.errors {
            let labels = [("route", &**route), ("reason", *reason)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
