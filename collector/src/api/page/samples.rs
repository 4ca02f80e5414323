//! Snapshots to look at: what a platform may be like. For tests only.
//! Must not know how they are shown.

use std::sync::Arc;
use std::time::Duration;

use comind_model::event::Event;
use comind_model::fact::Facts;
use comind_model::observation::{Attention, Depth, Hint, Observation, Outcome};
use comind_model::reason::Reason;
use comind_model::snapshot::Snapshot;
use comind_model::state::State;
use comind_model::target::Target;
use comind_model::thresholds::Thresholds;
use comind_model::timestamp::Timestamp;

/// 02:13:20 UTC on some day.
pub(super) const NOW: Timestamp = Timestamp::from_micros(1_795_400_000_123_456);

/// What happens to a target at the end of a sample.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    Up,
    Down(Reason, &'static str),
    Degraded(Reason, &'static str),
    NeverSeen,
    Silent,
}

/// A platform in the making: targets with their states, and what has happened.
pub(super) struct Sample {
    states: Vec<Arc<State>>,
    timeline: Vec<Arc<Event>>,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            states: Vec::new(),
            timeline: Vec::new(),
        }
    }

    /// Watches a target for two hours of looks, then lets `fate` come, `ago` seconds before now.
    pub(super) fn with(
        mut self,
        name: &str,
        kind: &'static str,
        required: bool,
        fate: Fate,
        ago: u64,
    ) -> Self {
        let target = Arc::new(Target {
            name: name.into(),
            kind,
            required,
            thresholds: Thresholds::default(),
            stale_after: Duration::from_secs(15),
            deep: false,
            watched: false,
            parent: None,
            depends_on: Arc::default(),
            objective: None,
        });
        let changed = NOW - Duration::from_secs(ago);
        let started = changed - Duration::from_secs(7200);
        let mut state = State::new(target, started);
        if !matches!(fate, Fate::NeverSeen) {
            self.looks(&mut state, started);
            self.come(&mut state, fate, changed);
        }
        self.states.push(Arc::new(state));
        self
    }

    pub(super) fn done(mut self) -> Snapshot {
        self.timeline.sort_by_key(|event| event.at);
        let numbered = self.timeline.iter().enumerate().map(|(index, event)| {
            let mut event = Event::clone(event);
            event.seq = index as u64 + 1;
            Arc::new(event)
        });
        let timeline: Vec<_> = numbered.collect();
        Snapshot {
            seq: timeline.len() as u64,
            at: NOW,
            targets: self.states.into(),
            timeline: timeline.into(),
            complete: true,
        }
    }

    fn looks(&mut self, state: &mut State, started: Timestamp) {
        let seed = state
            .target()
            .name
            .bytes()
            .fold(7u64, |sum, byte| sum * 31 % 10_007 + u64::from(byte));
        for look in 0..70u64 {
            let noise = (seed * (look + 3) * 7919) % 97;
            let spike = if (look + seed) % 23 == 0 { 900 } else { 0 };
            let latency = Duration::from_micros(180 + seed % 300 + noise + spike);
            let at = started + Duration::from_secs(look) + latency;
            self.see(
                state,
                Outcome::Good {
                    attention: Vec::new(),
                },
                latency,
                None,
                at,
            );
        }
    }

    fn come(&mut self, state: &mut State, fate: Fate, changed: Timestamp) {
        let good = |attention| Outcome::Good { attention };
        let fast = Duration::from_micros(350);
        match fate {
            Fate::Up | Fate::NeverSeen => {
                self.see(
                    state,
                    good(Vec::new()),
                    fast,
                    None,
                    NOW - Duration::from_millis(400),
                );
            }
            Fate::Degraded(reason, message) => {
                let attention = || {
                    vec![Attention {
                        reason,
                        message: message.to_owned(),
                    }]
                };
                self.see(state, good(attention()), fast, None, changed);
                self.see(
                    state,
                    good(attention()),
                    fast,
                    None,
                    NOW - Duration::from_millis(800),
                );
            }
            Fate::Down(reason, message) => {
                let hint = Hint {
                    what: "connection_closed",
                    at: changed - Duration::from_micros(3_240),
                };
                let bad = || Outcome::Bad {
                    reason,
                    message: message.to_owned(),
                };
                self.see(state, bad(), fast, Some(hint), changed);
                self.see(state, bad(), fast, None, changed);
                self.see(state, bad(), fast, None, NOW - Duration::from_millis(120));
            }
            Fate::Silent => {
                let event = state.expire(0, changed);
                self.timeline.extend(event.map(Arc::new));
            }
        }
    }

    fn see(
        &mut self,
        state: &mut State,
        outcome: Outcome,
        latency: Duration,
        hint: Option<Hint>,
        at: Timestamp,
    ) {
        let facts = if matches!(outcome, Outcome::Good { .. }) {
            facts(state.target().kind)
        } else {
            Facts::default()
        };
        let seen = Observation {
            target: state.target().name.clone(),
            at,
            depth: Depth::Look,
            outcome,
            latency,
            looks: 1,
            hint,
            facts,
        };
        let event = state.apply(&seen, 0, at);
        self.timeline.extend(event.map(Arc::new));
    }
}

fn facts(kind: &str) -> Facts {
    let mut facts = Facts::default();
    match kind {
        "postgresql" => {
            facts.set("connections", 12.0);
            facts.set("connections_max", 100.0);
            facts.set("database_size_bytes", 48_234_496.0);
            facts.set("in_recovery", false);
            facts.set("read_only", false);
            facts.set("version", "15.14");
        }
        "redis" => {
            facts.set("connected_clients", 3.0);
            facts.set("memory_used_bytes", 1_048_576.0);
            facts.set("memory_max_bytes", 1_100_000.0);
            facts.set("role", "master");
            facts.set("uptime_seconds", 93_000.0);
            facts.set("evicted_keys_total", 12_345.0);
            facts.set("keys", 1_203.0);
        }
        "minio" => {
            facts.set("buckets", 5.0);
            facts.set("write_quorum", true);
            facts.set("version", "RELEASE.2025-09-07");
        }
        "elasticmq" => {
            for (queue, visible) in [("jobs", 3.0), ("mail", 12_400.0)] {
                facts.set_labelled("messages_visible", "queue", queue, visible);
                facts.set_labelled("messages_in_flight", "queue", queue, 1.0);
                facts.set_labelled("messages_delayed", "queue", queue, 0.0);
            }
        }
        "tls" => facts.set(
            "certificate_expiry_timestamp_seconds",
            NOW.as_seconds() + 9.0 * 86_400.0,
        ),
        _ => facts.set("status", 200.0),
    }
    facts
}

/// The platform of the defaults, with one fate for each service.
pub(super) fn platform(postgresql: Fate, minio: Fate, redis: Fate, elasticmq: Fate) -> Snapshot {
    Sample::new()
        .with("postgresql", "postgresql", true, postgresql, 12)
        .with("minio", "minio", true, minio, 11_520)
        .with("redis", "redis", false, redis, 95)
        .with("elasticmq", "elasticmq", false, elasticmq, 20_000)
        .with("grafana", "http", false, Fate::Up, 20_010)
        .done()
}

/// PostgreSQL does not listen.
pub(super) const REFUSED: Fate = Fate::Down(
    Reason::Refused,
    "connect to 127.0.0.1:5432: connection refused",
);
/// Redis is nearly full.
pub(super) const FILLING: Fate = Fate::Degraded(
    Reason::MemoryHigh,
    "95 % of maxmemory used (1.0 of 1.05 MiB)",
);

/// Every tenth of `number` targets is down, or worse known.
pub(super) fn many(number: usize) -> Snapshot {
    (0..number)
        .fold(Sample::new(), |sample, index| {
            let fate = match index % 40 {
                7 => REFUSED,
                19 => Fate::Degraded(
                    Reason::CertificateExpiring,
                    "the certificate ends in 6 days",
                ),
                31 => Fate::NeverSeen,
                _ => Fate::Up,
            };
            let name = format!("service-{index:04}.team-{}.example.internal", index % 13);
            sample.with(&name, "http", index % 5 == 0, fate, 30 + index as u64)
        })
        .done()
}

/// Names and messages that try to be something else than text.
pub(super) fn hostile() -> Snapshot {
    let evil = "<img src=x onerror=alert(1)>\"' onload=\"alert(2)\" &lt;b&gt;\u{0}\u{202e}gnp.exe";
    let message = "</li><script>alert('message')</script><style>*{display:none}</style> \u{1b}[31m";
    Sample::new()
        .with(
            evil,
            "http",
            true,
            Fate::Down(Reason::BadStatus, message),
            5,
        )
        .with(
            &"w".repeat(300),
            "tcp",
            false,
            Fate::Down(Reason::Timeout, LONG),
            64,
        )
        .with(
            "javascript:alert(1)#</title><script>",
            "dns",
            false,
            Fate::Up,
            64,
        )
        .with("שלום עולם – 数据库 – قاعدة", "tls", true, Fate::Up, 64)
        .done()
}

const LONG: &str = "no answer from https://a-very-long-host-name.example.internal:8443/with/a/path/which/never/ends/\
    and/goes/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/\
    and/goes/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/\
    and/goes/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/and/on/\
    until it ends";
