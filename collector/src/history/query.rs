//! Questions to the file, each on a connection of its own that can only read, a few at a time.
//! Must not write, nor know HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comind_model::event::Event;
use comind_model::ledger::{Ledger, Outage, Stretch, outages};
use comind_model::reason::Reason;
use comind_model::timestamp::Timestamp;
use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::history::file::{Latency, word};
use crate::history::keeper::{History, ledgers};

/// Questions at a time; more wait.
static AT_A_TIME: Semaphore = Semaphore::const_new(4);
/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// An outage, and whose.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// The target.
    pub target: String,
    /// The outage.
    #[serde(flatten)]
    pub outage: Outage,
    /// How long it lasted, or has lasted so far.
    pub duration_seconds: f64,
}

/// Runs a question against the file.
///
/// # Errors
/// When nothing is kept, the file cannot be read, or too many ask.
pub async fn ask<T: Send + 'static>(
    history: &History,
    question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, String> {
    let Some(file) = history.file.clone() else {
        return Err("history is not kept: see the log for why data_dir cannot be used".to_owned());
    };
    let turn = tokio::time::timeout(TURN, AT_A_TIME.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err("too many questions to the history at once".to_owned());
    };
    let asked = tokio::task::spawn_blocking(move || open(&file).and_then(|c| question(&c)));
    match asked.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("failed to read the history: {error}")),
        Err(error) => Err(format!("failed to read the history: {error}")),
    }
}

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection)
}

/// The last `limit` transitions between two moments, newest first; of one target, or of all.
///
/// # Errors
/// When the file cannot be read.
pub fn transitions(
    connection: &Connection,
    target: Option<&str>,
    (from, to): Stretch,
    limit: u32,
) -> rusqlite::Result<Vec<Event>> {
    let mut query = connection.prepare(
        "select seq, at, target, was, health, reason, message, hint, detected_ms from transitions
         where at >= ?1 and at < ?2 and (?3 is null or target = ?3) order by at desc, seq desc limit ?4",
    )?;
    let rows = query.query_map(
        params![from.as_micros(), to.as_micros(), target, limit],
        |row| {
            let text = |place| row.get::<_, String>(place);
            Ok(Event {
                seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                at: Timestamp::from_micros(row.get(1)?),
                target: text(2)?.into(),
                from: word(&text(3)?),
                to: word(&text(4)?),
                reason: reason(&text(5)?),
                message: text(6)?,
                hint: row.get(7)?,
                detected_ms: row.get(8)?,
            })
        },
    )?;
    rows.collect()
}

/// The outages in these transitions (newest first), newest first, each with its target.
pub fn outages_in(transitions: &[Event], now: Timestamp) -> Vec<Told> {
    let mut by_target: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in transitions.iter().rev() {
        by_target.entry(&event.target).or_default().push(event);
    }
    let mut all: Vec<Told> = by_target
        .into_iter()
        .flat_map(|(target, events)| {
            outages(events.into_iter())
                .into_iter()
                .map(move |outage| Told {
                    target: target.to_owned(),
                    duration_seconds: outage.end.unwrap_or(now).since(outage.start).as_secs_f64(),
                    outage,
                })
        })
        .collect();
    all.sort_by_key(|told| std::cmp::Reverse(told.outage.start));
    all
}

/// How long looks at a target took, minute by minute, oldest first.
///
/// # Errors
/// When the file cannot be read.
pub fn latencies(
    connection: &Connection,
    target: &str,
    (from, to): Stretch,
) -> rusqlite::Result<Vec<(Timestamp, Latency)>> {
    let mut query = connection.prepare(
        "select minute, looks, p50, p95, max from latency
         where target = ?1 and minute >= ?2 and minute < ?3 order by minute",
    )?;
    let rows = query.query_map(params![target, from.as_micros(), to.as_micros()], |row| {
        let latency = Latency {
            looks: row.get(1)?,
            p50: row.get(2)?,
            p95: row.get(3)?,
            max: row.get(4)?,
        };
        Ok((Timestamp::from_micros(row.get(0)?), latency))
    })?;
    rows.collect()
}

/// A reason by its word; one of a later release is told as an error of the server.
fn reason(text: &str) -> Reason {
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == text);
    known.copied().unwrap_or(Reason::ServerError)
}

/// How a target did on each of the last days (UTC), oldest first.
#[derive(Clone, Debug)]
pub struct Day {
    /// Its start.
    pub start: Timestamp,
    /// Good time as a share of the known.
    pub uptime: Option<f64>,
    /// How long it was down.
    pub down: Duration,
}

/// The last `count` days of a target, from the file alone.
///
/// # Errors
/// When the file cannot be read.
pub fn days(
    connection: &Connection,
    target: &str,
    count: u32,
    excluded: &[Stretch],
    now: Timestamp,
) -> rusqlite::Result<Vec<Day>> {
    const DAY: Duration = Duration::from_secs(86_400);
    let first = super::day_of(now) - DAY * count.saturating_sub(1);
    let ledger = ledger(connection, target, first - DAY)?;
    let days = (0..count).map(|n| {
        let start = first + DAY * n;
        let share = ledger.share((start, (start + DAY).min(now)), excluded);
        Day {
            start,
            uptime: share.uptime(),
            down: share.bad,
        }
    });
    Ok(days.collect())
}

/// The ledger of one target, from the file alone.
fn ledger(connection: &Connection, target: &str, since: Timestamp) -> rusqlite::Result<Ledger> {
    let stamp = |row: &rusqlite::Row<'_>| row.get(0).map(Timestamp::from_micros);
    let mut query = connection.prepare("select alive from runs order by alive")?;
    let mut ends: Vec<_> = query.query_map([], stamp)?.collect::<Result<_, _>>()?;
    // The newest run is this one: it has not ended.
    ends.pop();
    let mut query = connection.prepare(
        "select at, health from transitions where target = ?1 and at >= ?2 order by at, seq",
    )?;
    let name: Arc<str> = target.into();
    let rows = query.query_map(params![target, since.as_micros()], |row| {
        let health: String = row.get(1)?;
        Ok((name.clone(), stamp(row)?, word(&health)))
    })?;
    let changes: Vec<_> = rows.collect::<Result<_, _>>()?;
    Ok(ledgers(&changes, &ends).remove(&name).unwrap_or_default())
}
