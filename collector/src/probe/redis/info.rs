//! What INFO says, judged. Pure: text in, facts and verdict out.
//! Source of the field names: the Redis documentation of INFO.

use std::collections::HashMap;

use comind_model::observation::Attention;
use comind_model::reason::Reason;

use crate::kinds::FactMetric;
use crate::probe::Seen;
use crate::probe::failure::Failure;

/// The share of a limit from which on it asks for attention.
const HIGH: f64 = 0.9;

/// The numeric facts that become metrics: `(INFO field, name, help)` is one row of [`FIELDS`].
pub(super) const METRICS: &[FactMetric] = &[
    FactMetric {
        name: "connected_clients",
        help: "Clients connected",
    },
    FactMetric {
        name: "blocked_clients",
        help: "Clients that wait in a blocking call",
    },
    FactMetric {
        name: "commands",
        help: "Commands processed since the server started",
    },
    FactMetric {
        name: "keyspace_hits",
        help: "Keys found since the server started",
    },
    FactMetric {
        name: "keyspace_misses",
        help: "Keys not found since the server started",
    },
    FactMetric {
        name: "max_clients",
        help: "Most clients that may be connected",
    },
    FactMetric {
        name: "memory_used_bytes",
        help: "Memory used",
    },
    FactMetric {
        name: "memory_max_bytes",
        help: "Most memory that may be used; 0 is no limit",
    },
    FactMetric {
        name: "evicted_keys",
        help: "Keys evicted since the server started",
    },
    FactMetric {
        name: "rejected_connections",
        help: "Connections rejected since the server started",
    },
    FactMetric {
        name: "replica_lag_seconds",
        help: "Seconds since the primary was last heard",
    },
];

const FIELDS: [(&str, &str); 11] = [
    ("blocked_clients", "blocked_clients"),
    ("total_commands_processed", "commands"),
    ("keyspace_hits", "keyspace_hits"),
    ("keyspace_misses", "keyspace_misses"),
    ("connected_clients", "connected_clients"),
    ("maxclients", "max_clients"),
    ("used_memory", "memory_used_bytes"),
    ("maxmemory", "memory_max_bytes"),
    ("evicted_keys", "evicted_keys"),
    ("rejected_connections", "rejected_connections"),
    ("master_last_io_seconds_ago", "replica_lag_seconds"),
];

/// Judges the answer to INFO.
///
/// # Errors
/// `Starting` while data is loaded, `ReplicationBroken` when a replica has lost its primary.
pub(super) fn judge(text: &str) -> Result<Seen, Failure> {
    let info: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let mut seen = Seen::default();
    for (field, name) in FIELDS {
        if let Some(Ok(value)) = info.get(field).map(|value| value.parse::<f64>()) {
            seen.facts.set(name, value);
        }
    }
    for (field, value) in &info {
        if let Some(keys) = keys_of(field, value) {
            seen.facts.set_labelled("keys", "db", field, keys);
        }
    }
    for (field, name) in [
        ("redis_version", "version"),
        ("role", "role"),
        ("maxmemory_policy", "eviction"),
    ] {
        if let Some(value) = info.get(field) {
            seen.facts.set(name, *value);
        }
    }
    if info.get("loading").is_some_and(|value| *value != "0") {
        let failure = Failure::new(Reason::Starting, "it loads its data set into memory");
        return Err(failure.with_facts(seen.facts));
    }
    if info
        .get("master_link_status")
        .is_some_and(|value| *value != "up")
    {
        let failure = Failure::new(Reason::ReplicationBroken, "the link to its primary is down");
        return Err(failure.with_facts(seen.facts));
    }
    let number = |field: &str| {
        info.get(field)
            .and_then(|value| value.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    // Where keys may be evicted a full memory is the normal state of a cache.
    if info
        .get("maxmemory_policy")
        .is_none_or(|policy| *policy == "noeviction")
    {
        let limit = (Reason::MemoryHigh, "memory", "bytes");
        seen.attention
            .extend(near(limit, number("used_memory"), number("maxmemory")));
    }
    let limit = (Reason::ConnectionsHigh, "connections", "clients");
    seen.attention.extend(near(
        limit,
        number("connected_clients"),
        number("maxclients"),
    ));
    Ok(seen)
}

/// `db0:keys=5,expires=0,avg_ttl=0` holds five keys.
fn keys_of(field: &str, value: &str) -> Option<f64> {
    let number = field.strip_prefix("db")?;
    let named = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let keys = value.strip_prefix("keys=")?.split(',').next()?;
    named.then(|| keys.parse().ok()).flatten()
}

fn near((reason, what, unit): (Reason, &str, &str), used: f64, limit: f64) -> Option<Attention> {
    (limit > 0.0 && used >= HIGH * limit).then(|| Attention {
        reason,
        message: format!("{what}: {used:.0} of {limit:.0} {unit} used"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nloading:0\r\nmaxclients:100\r\n";

    #[test]
    fn limits_ask_for_attention_near_their_end() {
        let reasons = |rest: &str| {
            let seen = judge(&format!("{BASE}{rest}")).unwrap();
            seen.attention
                .into_iter()
                .map(|a| a.reason)
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons("connected_clients:89\r\n"), []);
        assert_eq!(
            reasons("connected_clients:90\r\n"),
            [Reason::ConnectionsHigh]
        );
        let full = "used_memory:95\r\nmaxmemory:100\r\nmaxmemory_policy:";
        assert_eq!(
            reasons(&format!("{full}noeviction\r\n")),
            [Reason::MemoryHigh]
        );
        assert_eq!(reasons(&format!("{full}allkeys-lru\r\n")), []);
    }

    #[test]
    fn keys_are_counted_by_database() {
        let seen =
            judge("db0:keys=5,expires=1,avg_ttl=0\r\ndbx:keys=7\r\ndb:keys=7\r\ndb1:keys=x\r\n")
                .unwrap();
        assert_eq!(seen.facts.number("keys{db=db0}"), Some(5.0));
        assert_eq!(seen.facts.iter().count(), 1);
    }

    #[test]
    fn loading_and_a_lost_primary_are_failures() {
        assert_eq!(judge("loading:1\r\n").unwrap_err().reason, Reason::Starting);
        let replica = "role:slave\r\nmaster_link_status:down\r\n";
        assert_eq!(
            judge(replica).unwrap_err().reason,
            Reason::ReplicationBroken
        );
    }
}
