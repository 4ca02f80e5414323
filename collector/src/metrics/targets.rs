//! The series of the watched targets. The store counts, a scrape reads; a target's series go
//! with it, because they live nowhere else. Must not know probes or HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use comind_model::event::Event;
use comind_model::fact::{Facts, split_label};
use comind_model::health::Health;
use comind_model::observation::{Depth, Observation, Outcome};
use comind_model::reason::Reason;
use comind_model::state::State;
use comind_model::target::Target;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use crate::kinds;
use crate::store::Readers;

/// The fact from which `comind_certificate_expiry_timestamp_seconds` is made.
pub const CERTIFICATE_EXPIRY: &str = "certificate_expiry_timestamp_seconds";

/// Classic bounds, in seconds: from a loopback answer to the longest deadline that makes sense.
const DURATION_BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
const DETECTION_BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 60.0];

fn histogram(bounds: [f64; 10]) -> Histogram {
    // 10 % wide native buckets, and a bound on how many, so that memory has one too.
    let native = NativeHistogramConfig::new(1.1).max_buckets(160);
    Histogram::new_classic_and_native(bounds, native)
}

/// A histogram that is made when it is first needed: most targets never fail, and many
/// have no deep look.
#[derive(Debug, Default)]
struct LazyHistogram(std::sync::OnceLock<Histogram>);

impl LazyHistogram {
    fn observe(&self, bounds: [f64; 10], seconds: f64) {
        self.0.get_or_init(|| histogram(bounds)).observe(seconds);
    }
}

/// The counters of one target.
#[derive(Debug)]
struct Meter {
    target: Arc<Target>,
    look: LazyHistogram,
    deep: LazyHistogram,
    connect: LazyHistogram,
    detection: LazyHistogram,
    probes: AtomicU64,
    transitions: [AtomicU64; Health::ALL.len()],
    failures: Mutex<BTreeMap<Reason, u64>>,
}

impl Meter {
    fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            look: LazyHistogram::default(),
            deep: LazyHistogram::default(),
            connect: LazyHistogram::default(),
            detection: LazyHistogram::default(),
            probes: AtomicU64::new(0),
            transitions: Default::default(),
            failures: Mutex::default(),
        }
    }

    fn phases(&self) -> [(&'static str, &LazyHistogram); 3] {
        [
            ("connect", &self.connect),
            ("look", &self.look),
            ("deep", &self.deep),
        ]
    }
}

/// The counters of all targets.
#[derive(Debug, Default)]
pub struct TargetMeters {
    meters: RwLock<Meters>,
}

#[derive(Debug, Default)]
struct Meters {
    ordered: Vec<Arc<Meter>>,
    by_name: HashMap<Arc<str>, Arc<Meter>>,
}

impl Meters {
    fn take_out(&mut self, name: &str) {
        if self.by_name.remove(name).is_some() {
            self.ordered.retain(|meter| &*meter.target.name != name);
        }
    }
}

impl TargetMeters {
    /// From now on these targets have series; a `true` beside one keeps what it counted.
    pub fn watch<'a>(&self, targets: impl Iterator<Item = (&'a Arc<Target>, bool)>) {
        let mut meters = self.meters.write().unwrap_or_else(PoisonError::into_inner);
        let ordered: Vec<_> = targets
            .map(|(target, keep)| match meters.by_name.get(&target.name) {
                Some(meter) if keep && meter.target.required == target.required => meter.clone(),
                _ => Arc::new(Meter::new(target.clone())),
            })
            .collect();
        meters.by_name = ordered
            .iter()
            .map(|meter| (meter.target.name.clone(), meter.clone()))
            .collect();
        meters.ordered = ordered;
    }

    /// This one has series too, from now on. What it counted under this name goes on.
    pub fn add(&self, target: &Arc<Target>) {
        let mut meters = self.meters.write().unwrap_or_else(PoisonError::into_inner);
        let known = meters.by_name.get(&target.name);
        if known.is_some_and(|meter| meter.target.required == target.required) {
            return;
        }
        meters.take_out(&target.name);
        let meter = Arc::new(Meter::new(target.clone()));
        meters.by_name.insert(target.name.clone(), meter.clone());
        meters.ordered.push(meter);
    }

    /// This one has no series any more.
    pub fn remove(&self, name: &str) {
        let mut meters = self.meters.write().unwrap_or_else(PoisonError::into_inner);
        meters.take_out(name);
    }

    /// A look has ended.
    pub fn observed(&self, observation: &Observation, connect: Option<Duration>) {
        let Some(meter) = self.of(&observation.target) else {
            return;
        };
        meter
            .probes
            .fetch_add(u64::from(observation.looks), Ordering::Relaxed);
        let lane = match observation.depth {
            Depth::Look => Some(&meter.look),
            Depth::Deep => Some(&meter.deep),
            // Nothing was asked, so nothing took its time.
            Depth::Watch => None,
        };
        if let Some(lane) = lane {
            lane.observe(DURATION_BOUNDS, observation.latency.as_secs_f64());
        }
        if let Some(connect) = connect {
            meter
                .connect
                .observe(DURATION_BOUNDS, connect.as_secs_f64());
        }
        if let Outcome::Bad { reason, .. } = observation.outcome {
            let mut failures = meter
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *failures.entry(reason).or_default() += u64::from(observation.looks);
        }
    }

    /// A target's health has changed.
    pub fn transition(&self, event: &Event) {
        let Some(meter) = self.of(&event.target) else {
            return;
        };
        meter.transitions[place(event.to)].fetch_add(1, Ordering::Relaxed);
        if event.to == Health::Down {
            meter
                .detection
                .observe(DETECTION_BOUNDS, event.detected_ms / 1e3);
        }
    }

    fn of(&self, target: &str) -> Option<Arc<Meter>> {
        let meters = self.meters.read().unwrap_or_else(PoisonError::into_inner);
        meters.by_name.get(target).cloned()
    }

    fn all(&self) -> Vec<Arc<Meter>> {
        let meters = self.meters.read().unwrap_or_else(PoisonError::into_inner);
        meters.ordered.clone()
    }
}

fn place(health: Health) -> usize {
    match health {
        Health::Up => 0,
        Health::Degraded => 1,
        Health::Down => 2,
        Health::Unknown => 3,
    }
}

/// Encodes counters and the newest snapshot at each scrape.
#[derive(Debug)]
pub struct TargetCollector {
    meters: Arc<TargetMeters>,
    readers: Readers,
}

impl TargetCollector {
    /// Reads from both.
    pub fn new(meters: Arc<TargetMeters>, readers: Readers) -> Self {
        Self { meters, readers }
    }
}

type Encoded = Result<(), std::fmt::Error>;

impl Collector for TargetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let snapshot = self.readers.snapshot();
        let meters = self.meters.all();
        encode_states(&mut encoder, &snapshot.targets)?;
        encode_counters(&mut encoder, &meters)?;
        encode_histograms(&mut encoder, &meters)?;
        encode_facts(&mut encoder, &snapshot.targets)
    }
}

fn encode_states(encoder: &mut DescriptorEncoder<'_>, states: &[Arc<State>]) -> Encoded {
    let help = "1 when the target does its work, 0 when it cannot; absent when that is unknown";
    gauges(
        encoder,
        "comind_target_up",
        help,
        states,
        |state, family| {
            let health = state.standing().health;
            if health == Health::Unknown {
                return Ok(());
            }
            let value = if health.works() { 1.0 } else { 0.0 };
            gauge(family, &labels_with_required(state.target()), value)
        },
    )?;
    let help = "1 when it is unknown whether the target does its work";
    gauges(
        encoder,
        "comind_target_unknown",
        help,
        states,
        |state, family| {
            let value = if state.standing().health == Health::Unknown {
                1.0
            } else {
                0.0
            };
            gauge(family, &labels_with_required(state.target()), value)
        },
    )?;
    let help = "1 when the target works but something asks for attention";
    gauges(
        encoder,
        "comind_target_degraded",
        help,
        states,
        |state, family| {
            let value = if state.standing().health == Health::Degraded {
                1.0
            } else {
                0.0
            };
            gauge(family, &labels_with_required(state.target()), value)
        },
    )?;
    let help = "When the last look ended";
    let name = "comind_last_probe_timestamp_seconds";
    gauges(encoder, name, help, states, |state, family| {
        let Some(at) = state.last_seen() else {
            return Ok(());
        };
        gauge(family, &labels(state.target()), at.as_seconds())
    })
}

fn encode_counters(encoder: &mut DescriptorEncoder<'_>, meters: &[Arc<Meter>]) -> Encoded {
    let mut family =
        encoder.encode_descriptor("comind_probes", "Looks made", None, MetricType::Counter)?;
    for meter in meters {
        counter(
            &mut family,
            &labels(&meter.target),
            meter.probes.load(Ordering::Relaxed),
        )?;
    }
    drop(family);

    let help = "Looks that failed, by cause";
    let mut family =
        encoder.encode_descriptor("comind_probe_failures", help, None, MetricType::Counter)?;
    for meter in meters {
        let failures = meter
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (reason, count) in failures {
            let [target, kind] = labels(&meter.target);
            counter(
                &mut family,
                &[target, kind, ("reason", reason.as_str())],
                count,
            )?;
        }
    }
    drop(family);

    let help = "Changes of health, by the health after";
    let mut family =
        encoder.encode_descriptor("comind_transitions", help, None, MetricType::Counter)?;
    for meter in meters {
        for to in Health::ALL {
            let count = meter.transitions[place(to)].load(Ordering::Relaxed);
            if count > 0 {
                counter(
                    &mut family,
                    &[("target", &*meter.target.name), ("to", to.as_str())],
                    count,
                )?;
            }
        }
    }
    Ok(())
}

fn encode_histograms(encoder: &mut DescriptorEncoder<'_>, meters: &[Arc<Meter>]) -> Encoded {
    let help = "How long looks, deep looks and connecting took";
    let name = "comind_probe_duration_seconds";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for meter in meters {
        for (phase, histogram) in meter.phases() {
            if let Some(histogram) = histogram.0.get() {
                let [target, kind] = labels(&meter.target);
                histogram.encode(family.encode_family(&[target, kind, ("phase", phase)])?)?;
            }
        }
    }
    drop(family);

    let help = "From the first sign of an outage to its transition";
    let name = "comind_outage_detection_seconds";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for meter in meters {
        if let Some(histogram) = meter.detection.0.get() {
            histogram.encode(family.encode_family(&labels(&meter.target))?)?;
        }
    }
    Ok(())
}

fn encode_facts(encoder: &mut DescriptorEncoder<'_>, states: &[Arc<State>]) -> Encoded {
    let help = "When the certificate that the target showed ends";
    let name = "comind_certificate_expiry_timestamp_seconds";
    gauges(encoder, name, help, states, |state, family| {
        match state.facts().number(CERTIFICATE_EXPIRY) {
            Some(at) => gauge(family, &labels(state.target()), at),
            None => Ok(()),
        }
    })?;
    for kind in kinds::KINDS {
        let of_kind: Vec<_> = states
            .iter()
            .filter(|state| state.target().kind == kind.name)
            // Put together once for all metrics of the kind.
            .map(|state| (&*state.target().name, state.facts()))
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        for metric in kind.metrics {
            let name = format!("comind_{}_{}", kind.name, metric.name);
            let mut family =
                encoder.encode_descriptor(&name, metric.help, None, MetricType::Gauge)?;
            for (target, facts) in &of_kind {
                encode_fact(&mut family, target, facts, metric.name)?;
            }
        }
    }
    Ok(())
}

fn encode_fact(
    family: &mut MetricEncoder<'_>,
    target: &str,
    facts: &Facts,
    wanted: &str,
) -> Encoded {
    for (name, value) in facts.iter() {
        let (base, label) = split_label(name);
        if base != wanted {
            continue;
        }
        let Some(value) = value.number() else {
            continue;
        };
        let target = ("target", target);
        match label {
            Some(label) => gauge(family, &[target, label], value)?,
            None => gauge(family, &[target], value)?,
        }
    }
    Ok(())
}

fn labels(target: &Target) -> [(&str, &str); 2] {
    [("target", &target.name), ("kind", target.kind)]
}

fn labels_with_required(target: &Target) -> [(&str, &str); 3] {
    let [name, kind] = labels(target);
    [
        name,
        kind,
        ("required", if target.required { "true" } else { "false" }),
    ]
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    states: &[Arc<State>],
    mut each: impl FnMut(&State, &mut MetricEncoder<'_>) -> Encoded,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    states.iter().try_for_each(|state| each(state, &mut family))
}

fn gauge<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: f64,
) -> Encoded {
    ConstGauge::new(value).encode(family.encode_family(labels)?)
}

fn counter<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> Encoded {
    ConstCounter::new(value).encode(family.encode_family(labels)?)
}
