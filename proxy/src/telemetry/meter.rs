//! Counters that requests touch: plain atomics, one set a route, made once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of durations, in seconds.
pub const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
const BUCKETS_MICROS: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// The requests of one route.
#[derive(Debug)]
pub struct RouteMeter {
    /// The route.
    pub name: Arc<str>,
    /// By the first digit of the status; 499 apart in the first.
    classes: [AtomicU64; 6],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    in_flight: AtomicI64,
    retries: AtomicU64,
    tunnels: AtomicI64,
    /// By reason; touched only when something failed.
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl RouteMeter {
    /// Nothing has been counted.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            classes: Default::default(),
            buckets: Default::default(),
            micros: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
            retries: AtomicU64::new(0),
            tunnels: AtomicI64::new(0),
            errors: Mutex::default(),
        }
    }

    /// A request begins.
    pub fn begins(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// It turns out to belong to another route.
    pub fn moved_to(&self, other: &Self) {
        self.in_flight.fetch_sub(1, Relaxed);
        other.begins();
    }

    /// It has ended, and that is what it took.
    pub fn ended(&self, status: u16, took: Duration, received: u64, sent: u64) {
        self.in_flight.fetch_sub(1, Relaxed);
        let class = match status {
            499 => 0,
            other => usize::from(other / 100).min(5),
        };
        self.classes[class].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        if received != 0 {
            self.received.fetch_add(received, Relaxed);
        }
        self.sent.fetch_add(sent, Relaxed);
    }

    /// It is tried again.
    pub fn retries(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// An upgraded connection opens.
    pub fn tunnel_opens(&self) {
        self.tunnels.fetch_add(1, Relaxed);
    }

    /// It has closed.
    pub fn tunnel_closes(&self, up: u64, down: u64) {
        self.tunnels.fetch_sub(1, Relaxed);
        self.received.fetch_add(up, Relaxed);
        self.sent.fetch_add(down, Relaxed);
    }

    /// An upstream failed.
    pub fn upstream_failed(&self, reason: &'static str) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(reason).or_default() += 1;
    }

    /// What was counted.
    pub fn read(&self) -> Reading {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        Reading {
            classes: std::array::from_fn(|at| load(&self.classes[at])),
            buckets: std::array::from_fn(|at| load(&self.buckets[at])),
            seconds: load(&self.micros) as f64 / 1e6,
            received: load(&self.received),
            sent: load(&self.sent),
            in_flight: self.in_flight.load(Relaxed),
            retries: load(&self.retries),
            tunnels: self.tunnels.load(Relaxed),
            errors: self
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// What a meter says at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// By the first digit of the status; 0 is without an answer.
    pub classes: [u64; 6],
    /// Not cumulative; the last is beyond all bounds.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// The sum of durations.
    pub seconds: f64,
    /// Bytes of request bodies.
    pub received: u64,
    /// Bytes of answers' bodies.
    pub sent: u64,
    /// Requests under way.
    pub in_flight: i64,
    /// Requests that were tried again.
    pub retries: u64,
    /// Open upgraded connections.
    pub tunnels: i64,
    /// Failures of upstreams by reason.
    pub errors: BTreeMap<&'static str, u64>,
}

/// What is counted for all routes together.
#[derive(Debug, Default)]
pub struct ProxyMeter {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Open connections.
    pub open: AtomicI64,
    /// Those that wait for their next request and have given their buffers back.
    pub resting: AtomicI64,
    /// Lines of the access log that found no room.
    pub log_lost: AtomicU64,
    /// Route tables brought into force.
    pub reloads: AtomicU64,
    /// When the next of our certificates ends; seconds since the Unix epoch, 0 where there is none.
    pub certificate_expiry: AtomicI64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl ProxyMeter {
    /// A connection or a request was refused.
    pub fn refused(&self, reason: &'static str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(reason).or_default() += 1;
    }

    /// What was refused so far.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_into_their_classes_and_buckets() {
        let meter = RouteMeter::new("r".into());
        for (status, micros) in [(200, 900), (204, 1_001), (499, 20_000_000), (503, 1)] {
            meter.begins();
            meter.ended(status, Duration::from_micros(micros), 1, 2);
        }
        let reading = meter.read();
        assert_eq!(reading.classes, [1, 0, 2, 0, 0, 1]);
        assert_eq!(
            (reading.buckets[0], reading.buckets[1], reading.buckets[12]),
            (2, 1, 1)
        );
        assert_eq!(
            (reading.in_flight, reading.received, reading.sent),
            (0, 4, 8)
        );
    }
}
