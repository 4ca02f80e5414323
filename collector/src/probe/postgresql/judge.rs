//! What PostgreSQL is asked, and what its answers mean. Must not know connections.

use comind_model::observation::Attention;
use comind_model::reason::Reason;
use tokio_postgres::Row;

use crate::kinds::FactMetric;
use crate::probe::Seen;
use crate::probe::failure::Failure;
use crate::probe::postgresql::sqlstate;

/// The numeric facts that become metrics.
pub(super) const METRICS: &[FactMetric] = &[
    FactMetric {
        name: "connections",
        help: "Connections in use, those of all databases",
    },
    FactMetric {
        name: "connections_max",
        help: "Connections that clients without privileges may use",
    },
    FactMetric {
        name: "max_connections",
        help: "The setting max_connections",
    },
    FactMetric {
        name: "database_connections",
        help: "Connections to the database that is asked",
    },
    FactMetric {
        name: "commits",
        help: "Transactions committed in it",
    },
    FactMetric {
        name: "rollbacks",
        help: "Transactions rolled back in it",
    },
    FactMetric {
        name: "blocks_read",
        help: "Blocks that it read from disk",
    },
    FactMetric {
        name: "blocks_hit",
        help: "Blocks that it found in memory",
    },
    FactMetric {
        name: "rows_returned",
        help: "Rows that it read",
    },
    FactMetric {
        name: "rows_fetched",
        help: "Rows that it fetched by index",
    },
    FactMetric {
        name: "rows_inserted",
        help: "Rows inserted in it",
    },
    FactMetric {
        name: "rows_updated",
        help: "Rows updated in it",
    },
    FactMetric {
        name: "rows_deleted",
        help: "Rows deleted in it",
    },
    FactMetric {
        name: "deadlocks",
        help: "Deadlocks in it",
    },
    FactMetric {
        name: "read_only",
        help: "1 when new transactions are read-only",
    },
    FactMetric {
        name: "in_recovery",
        help: "1 when it is a replica, or still recovering",
    },
    FactMetric {
        name: "replication_lag_seconds",
        help: "How far a replica is behind, or the furthest of a primary's replicas",
    },
    FactMetric {
        name: "replicas",
        help: "Replicas that stream from it",
    },
];

/// One look: cheap enough for every second. `numbackends` is kept by the server; counting
/// `pg_stat_activity` would cost more and show the same.
pub(super) const LOOK: &str = "SELECT \
    (SELECT coalesce(sum(numbackends), 0)::float8 FROM pg_stat_database), \
    (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::float8, \
    pg_is_in_recovery(), \
    current_setting('transaction_read_only') = 'on', \
    current_setting('server_version')";

/// Writes to the log and to a file, and takes it back: needs no table of ours, no right
/// beyond TEMP, and leaves nothing.
pub(super) const WRITE: &str = "BEGIN; \
    CREATE TEMPORARY TABLE comind_ops_canary (filler text) ON COMMIT DROP; \
    INSERT INTO comind_ops_canary SELECT repeat('x', 1000) FROM generate_series(1, 16); \
    SELECT pg_logical_emit_message(true, 'comind-ops', 'canary'); \
    ROLLBACK";

/// How far behind: its own lag on a replica, the furthest replica's on a primary.
pub(super) const LAG: &str = "SELECT \
    CASE WHEN pg_is_in_recovery() \
        THEN CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
             ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END \
        ELSE (SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication) END::float8, \
    (SELECT count(*) FROM pg_stat_replication)::float8";

/// What the database that is asked has done, as the server counts it; with the deep look, because
/// nobody needs it every second. Source: postgresql.org/docs/current/monitoring-stats.html.
pub(super) const STATISTICS: &str = "SELECT current_setting('max_connections')::float8, datname::text, \
    numbackends::float8, xact_commit::float8, xact_rollback::float8, blks_read::float8, blks_hit::float8, tup_returned::float8, tup_fetched::float8, tup_inserted::float8, tup_updated::float8, tup_deleted::float8, deadlocks::float8 \
    FROM pg_stat_database WHERE datname = current_database()";

/// Connections to the database that is asked, by what they do; states without any count 0.
/// Source of the states: postgresql.org/docs/current/monitoring-stats.html.
pub(super) const ACTIVITY: &str = "SELECT state, (SELECT count(*) FROM pg_stat_activity AS it \
    WHERE it.datname = current_database() AND it.state = states.state)::float8 \
    FROM (VALUES ('active'), ('idle'), ('idle in transaction'), ('idle in transaction (aborted)'), \
    ('fastpath function call'), ('disabled')) AS states (state)";

/// The facts that [`STATISTICS`] brings, behind the setting and the database's name.
const COUNTED: &[&str] = &[
    "database_connections",
    "commits",
    "rollbacks",
    "blocks_read",
    "blocks_hit",
    "rows_returned",
    "rows_fetched",
    "rows_inserted",
    "rows_updated",
    "rows_deleted",
    "deadlocks",
];

/// What is asked of this server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// It must accept writes.
    pub(super) writable: bool,
    /// A lag beyond this asks for attention.
    pub(super) lag_max_seconds: f64,
}

/// The share of the connections from which on it asks for attention.
const HIGH: f64 = 0.9;

/// Judges the answer to [`LOOK`].
///
/// # Errors
/// `ReadOnly` where writes are wanted and would not be accepted.
pub(super) fn look(row: &Row, rules: &Rules) -> Result<Seen, Failure> {
    let bad = |error: tokio_postgres::Error| sqlstate::failure("read the answer", &error);
    let used: f64 = row.try_get(0).map_err(bad)?;
    let max: f64 = row.try_get(1).map_err(bad)?;
    let in_recovery: bool = row.try_get(2).map_err(bad)?;
    let read_only: bool = row.try_get(3).map_err(bad)?;
    let version: &str = row.try_get(4).map_err(bad)?;
    let mut seen = Seen::default();
    seen.facts.set("connections", used);
    seen.facts.set("connections_max", max);
    seen.facts.set("in_recovery", in_recovery);
    seen.facts.set("read_only", read_only);
    seen.facts
        .set("role", if in_recovery { "replica" } else { "primary" });
    // Distributions append their own words: "15.18 (Debian 15.18-0+deb12u1)".
    let number = version.split_whitespace().next().unwrap_or(version);
    seen.facts.set("version", number);
    if rules.writable && (in_recovery || read_only) {
        let why = match in_recovery {
            true => "it is in recovery (a replica, or not yet promoted)",
            false => "default_transaction_read_only is on",
        };
        let failure = Failure::new(Reason::ReadOnly, format!("it accepts no writes: {why}"));
        return Err(failure.with_facts(seen.facts));
    }
    if used >= HIGH * max {
        seen.attention.push(Attention {
            reason: Reason::ConnectionsHigh,
            message: format!("{used:.0} of {max:.0} connections are used"),
        });
    }
    Ok(seen)
}

/// Adds the answer to [`STATISTICS`].
///
/// # Errors
/// When the answer is not what was asked for.
pub(super) fn statistics(row: &Row, seen: &mut Seen) -> Result<(), Failure> {
    let bad = |error: tokio_postgres::Error| sqlstate::failure("read the answer", &error);
    let max: f64 = row.try_get(0).map_err(bad)?;
    let database: &str = row.try_get(1).map_err(bad)?;
    seen.facts.set("max_connections", max);
    seen.facts.set("database", database);
    for (place, name) in COUNTED.iter().enumerate() {
        let value: f64 = row.try_get(place + 2).map_err(bad)?;
        seen.facts.set(name, value);
    }
    Ok(())
}

/// Reads the answer to [`ACTIVITY`] into `seen`.
///
/// # Errors
/// When the answer is not what was asked for.
pub(super) fn activity(rows: &[Row], seen: &mut Seen) -> Result<(), Failure> {
    let bad = |error: tokio_postgres::Error| sqlstate::failure("read the answer", &error);
    for row in rows {
        let state: &str = row.try_get(0).map_err(bad)?;
        let count: f64 = row.try_get(1).map_err(bad)?;
        seen.facts.set_labelled("activity", "state", state, count);
    }
    Ok(())
}

/// Judges the answer to [`LAG`].
///
/// # Errors
/// When the answer is not what was asked for.
pub(super) fn lag(row: &Row, rules: &Rules) -> Result<Seen, Failure> {
    let bad = |error: tokio_postgres::Error| sqlstate::failure("read the answer", &error);
    let lag: Option<f64> = row.try_get(0).map_err(bad)?;
    let replicas: f64 = row.try_get(1).map_err(bad)?;
    let mut seen = Seen::default();
    seen.facts.set("replicas", replicas);
    if let Some(lag) = lag {
        seen.facts.set("replication_lag_seconds", lag);
        if lag > rules.lag_max_seconds {
            seen.attention.push(Attention {
                reason: Reason::ReplicationLag,
                message: format!("replication is {lag:.0} s behind"),
            });
        }
    }
    Ok(seen)
}
