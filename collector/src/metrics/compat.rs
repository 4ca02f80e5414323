//! The names under which existing dashboards and rules look for the same facts: those of
//! blackbox_exporter, postgres_exporter, redis_exporter, Argo CD and YACE. A name is here only
//! where ours means what theirs means; a test asks the exporters themselves beside us.
//! Must not know probes.
//!
//! `instance` is the target's name. Prometheus keeps it with `honor_labels: true`.

use std::sync::Arc;

use comind_model::fact::{FactValue, Facts, split_label};
use comind_model::health::Health;
use comind_model::state::State;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::metrics::targets::CERTIFICATE_EXPIRY;
use crate::probe::argocd::APPLICATION;
use crate::store::Readers;

/// Where a value comes from.
enum From {
    /// 1 while the target works, 0 while it does not; absent while that is unknown.
    Works,
    /// How long the last look took, in seconds.
    Latency,
    /// A number among the facts.
    Fact(&'static str),
    /// Numbers that differ by a label, which has this name there.
    Labelled(&'static str, &'static str),
    /// A number about the database whose name is among the facts.
    OfDatabase(&'static str),
    /// Numbers about that database that differ by a label, which has this name there.
    OfDatabaseBy(&'static str, &'static str),
}

use From::{Fact, Labelled, Latency, OfDatabase, OfDatabaseBy, Works};

/// One name: of these kinds, from there, and whether it only grows.
struct Twin {
    kinds: &'static [&'static str],
    name: &'static str,
    help: &'static str,
    grows: bool,
    from: From,
}

const PROBED: &[&str] = &["http", "tcp", "tls", "dns", "minio", "elasticmq"];
const PG: &[&str] = &["postgresql"];
const REDIS: &[&str] = &["redis"];
const SQS: &[&str] = &["elasticmq"];

const fn twin(
    kinds: &'static [&'static str],
    name: &'static str,
    help: &'static str,
    from: From,
) -> Twin {
    let grows = false;
    Twin {
        kinds,
        name,
        help,
        grows,
        from,
    }
}

/// `name` without `_total`, which the encoding adds.
const fn growing(
    kinds: &'static [&'static str],
    name: &'static str,
    help: &'static str,
    from: From,
) -> Twin {
    let grows = true;
    Twin {
        grows,
        ..twin(kinds, name, help, from)
    }
}

/// All of them. Those of postgres_exporter are counters without `_total`, and so are gauges here:
/// `rate()` does not mind.
const TWINS: &[Twin] = &[
    twin(
        PROBED,
        "probe_success",
        "Whether the target does its work",
        Works,
    ),
    twin(
        PROBED,
        "probe_duration_seconds",
        "How long the last look took",
        Latency,
    ),
    twin(
        &["http"],
        "probe_http_status_code",
        "The status of the last answer",
        Fact("status"),
    ),
    twin(
        &["http", "tls", "minio", "elasticmq", "redis", "postgresql"],
        "probe_ssl_earliest_cert_expiry",
        "When the certificate that was shown ends",
        Fact(CERTIFICATE_EXPIRY),
    ),
    twin(PG, "pg_up", "Whether the server does its work", Works),
    twin(
        PG,
        "pg_settings_max_connections",
        "The setting max_connections",
        Fact("max_connections"),
    ),
    twin(
        PG,
        "pg_replication_is_replica",
        "1 on a replica",
        Fact("in_recovery"),
    ),
    twin(
        PG,
        "pg_stat_database_numbackends",
        "Connections to the database",
        OfDatabase("database_connections"),
    ),
    twin(
        PG,
        "pg_stat_database_xact_commit",
        "Transactions committed",
        OfDatabase("commits"),
    ),
    twin(
        PG,
        "pg_stat_database_xact_rollback",
        "Transactions rolled back",
        OfDatabase("rollbacks"),
    ),
    twin(
        PG,
        "pg_stat_database_blks_read",
        "Blocks read from disk",
        OfDatabase("blocks_read"),
    ),
    twin(
        PG,
        "pg_stat_database_blks_hit",
        "Blocks found in memory",
        OfDatabase("blocks_hit"),
    ),
    twin(
        PG,
        "pg_stat_database_deadlocks",
        "Deadlocks",
        OfDatabase("deadlocks"),
    ),
    twin(
        PG,
        "pg_stat_database_tup_returned",
        "Rows read",
        OfDatabase("rows_returned"),
    ),
    twin(
        PG,
        "pg_stat_database_tup_fetched",
        "Rows fetched by index",
        OfDatabase("rows_fetched"),
    ),
    twin(
        PG,
        "pg_stat_database_tup_inserted",
        "Rows inserted",
        OfDatabase("rows_inserted"),
    ),
    twin(
        PG,
        "pg_stat_database_tup_updated",
        "Rows updated",
        OfDatabase("rows_updated"),
    ),
    twin(
        PG,
        "pg_stat_database_tup_deleted",
        "Rows deleted",
        OfDatabase("rows_deleted"),
    ),
    twin(
        PG,
        "pg_stat_activity_count",
        "Connections to the database in this state",
        OfDatabaseBy("activity", "state"),
    ),
    twin(REDIS, "redis_up", "Whether the server does its work", Works),
    twin(
        REDIS,
        "redis_connected_clients",
        "Clients connected",
        Fact("connected_clients"),
    ),
    twin(
        REDIS,
        "redis_blocked_clients",
        "Clients that wait in a blocking call",
        Fact("blocked_clients"),
    ),
    twin(
        REDIS,
        "redis_config_maxclients",
        "The setting maxclients",
        Fact("max_clients"),
    ),
    twin(
        REDIS,
        "redis_memory_used_bytes",
        "Memory used",
        Fact("memory_used_bytes"),
    ),
    twin(
        REDIS,
        "redis_memory_max_bytes",
        "Most memory that may be used",
        Fact("memory_max_bytes"),
    ),
    growing(
        REDIS,
        "redis_commands_processed",
        "Commands processed",
        Fact("commands"),
    ),
    growing(
        REDIS,
        "redis_keyspace_hits",
        "Keys found",
        Fact("keyspace_hits"),
    ),
    growing(
        REDIS,
        "redis_keyspace_misses",
        "Keys not found",
        Fact("keyspace_misses"),
    ),
    growing(
        REDIS,
        "redis_evicted_keys",
        "Keys evicted",
        Fact("evicted_keys"),
    ),
    growing(
        REDIS,
        "redis_rejected_connections",
        "Connections rejected",
        Fact("rejected_connections"),
    ),
    twin(
        REDIS,
        "redis_db_keys",
        "Keys in the database",
        Labelled("keys", "db"),
    ),
    twin(
        SQS,
        "aws_sqs_approximate_number_of_messages_visible_sum",
        "Messages that wait",
        Labelled("messages_visible", "dimension_QueueName"),
    ),
    twin(
        SQS,
        "aws_sqs_approximate_number_of_messages_not_visible_sum",
        "Messages received and not yet deleted",
        Labelled("messages_in_flight", "dimension_QueueName"),
    ),
];

/// Encodes the twins of the newest snapshot while the config wants them.
#[derive(Debug)]
pub struct CompatCollector {
    readers: Readers,
    wanted: watch::Receiver<bool>,
}

impl CompatCollector {
    /// Reads from `readers`.
    pub fn new(readers: Readers, wanted: watch::Receiver<bool>) -> Self {
        Self { readers, wanted }
    }
}

type Encoded = Result<(), std::fmt::Error>;
type Seen<'a> = (&'a Arc<State>, Facts);

impl Collector for CompatCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        if !*self.wanted.borrow() {
            return Ok(());
        }
        let snapshot = self.readers.snapshot();
        let seen: Vec<Seen<'_>> = snapshot
            .targets
            .iter()
            .map(|state| (state, state.facts()))
            .collect();
        for twin in TWINS {
            family(&mut encoder, twin, &seen)?;
        }
        applications(&mut encoder, &seen)
    }
}

fn family(encoder: &mut DescriptorEncoder<'_>, twin: &Twin, seen: &[Seen<'_>]) -> Encoded {
    let of_kind = |(state, _): &&Seen<'_>| twin.kinds.contains(&state.target().kind);
    let mut of_kind = seen.iter().filter(of_kind).peekable();
    if of_kind.peek().is_none() {
        return Ok(());
    }
    let kind = match twin.grows {
        true => MetricType::Counter,
        false => MetricType::Gauge,
    };
    let mut family = encoder.encode_descriptor(twin.name, twin.help, None, kind)?;
    for (state, facts) in of_kind {
        let instance = ("instance", &*state.target().name);
        let mut put = |more: &[(&str, &str)], value: f64| {
            let labels: Vec<(&str, &str)> = [&[instance], more].concat();
            let metric = family.encode_family(&labels)?;
            match twin.grows {
                true => ConstCounter::new(value).encode(metric),
                false => ConstGauge::new(value).encode(metric),
            }
        };
        match twin.from {
            Works => {
                if let Some(works) = works(state) {
                    put(&[], works)?;
                }
            }
            Latency => {
                if let Some(latency) = state.latency() {
                    put(&[], latency.as_secs_f64())?;
                }
            }
            Fact(name) => {
                if let Some(value) = facts.number(name) {
                    put(&[], value)?;
                }
            }
            OfDatabase(name) => {
                if let (Some(value), Some(FactValue::Text(database))) =
                    (facts.number(name), facts.get("database"))
                {
                    put(&[("datname", database)], value)?;
                }
            }
            OfDatabaseBy(name, label) => {
                if let Some(FactValue::Text(database)) = facts.get("database") {
                    for (value_of, value) in labelled(facts, name) {
                        put(&[("datname", database), (label, value_of)], value)?;
                    }
                }
            }
            Labelled(name, label) => {
                for (value_of, value) in labelled(facts, name) {
                    put(&[(label, value_of)], value)?;
                }
            }
        }
    }
    Ok(())
}

/// The numbers of this name, each with what its label says.
fn labelled<'a>(facts: &'a Facts, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    facts.iter().filter_map(move |(fact, value)| {
        let (base, label) = split_label(fact);
        (base == name).then_some((label?.1, value.number()?))
    })
}

fn works(state: &State) -> Option<f64> {
    let health = state.standing().health;
    (health != Health::Unknown).then(|| f64::from(u8::from(health.works())))
}

/// Under Argo CD's own name, with its own labels.
fn applications(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen<'_>]) -> Encoded {
    let all: Vec<_> = seen
        .iter()
        .filter(|(state, _)| state.target().kind == APPLICATION)
        .map(|(state, facts)| (&*state.target().name, facts.clone()))
        .collect();
    match all.is_empty() {
        true => Ok(()),
        false => super::argocd::info(encoder, "argocd_app_info", &all),
    }
}
