//! The file's tables and all that writes to them. Must not know when something is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comind_model::event::Event;
use comind_model::health::Health;
use comind_model::state::Standing;
use comind_model::timestamp::Timestamp;
use rusqlite::{Connection, params};

use crate::history::Limits;
use crate::sqlite;

/// The schema's versions. Times are microseconds since the Unix epoch.
pub const STEPS: &[&str] = &["
    create table transitions (
        seq integer primary key,
        target text not null,
        at integer not null,
        was text not null,
        health text not null,
        reason text not null,
        message text not null,
        hint text,
        detected_ms real not null
    ) strict;
    create index transitions_of on transitions (target, at);
    create index transitions_at on transitions (at);
    create table standing (
        target text primary key,
        standing text not null
    ) strict, without rowid;
    create table runs (
        started integer primary key,
        alive integer not null
    ) strict;
    create table latency (
        target text not null,
        minute integer not null,
        looks integer not null,
        p50 integer not null,
        p95 integer not null,
        max integer not null,
        primary key (target, minute)
    ) strict, without rowid;
    create index latency_at on latency (minute);
"];

/// How long the looks of one minute took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// How many looks.
    pub looks: u32,
    /// Half of them took no longer.
    pub p50: u32,
    /// 95 of 100 took no longer.
    pub p95: u32,
    /// The longest.
    pub max: u32,
}

impl Latency {
    /// Of these looks; `None` where there are none.
    pub fn of(looks: &[u32]) -> Option<Self> {
        let mut sorted = looks.to_vec();
        sorted.sort_unstable();
        let rank = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            looks: u32::try_from(sorted.len()).unwrap_or(u32::MAX),
            p50: rank(0.5)?,
            p95: rank(0.95)?,
            max: rank(1.0)?,
        })
    }
}

/// Everything that is written at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// What happened.
    pub events: Vec<Arc<Event>>,
    /// How targets are now.
    pub standings: Vec<(Arc<str>, Standing)>,
    /// How long their looks took in one minute.
    pub latencies: Vec<(Arc<str>, Timestamp, Latency)>,
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Before {
    /// How targets were when the process before ended.
    pub standings: Vec<(Arc<str>, Standing)>,
    /// Changes of the kept time, oldest first.
    pub changes: Vec<(Arc<str>, Timestamp, Health)>,
    /// When earlier processes were last alive.
    pub ends: Vec<Timestamp>,
}

/// The open file. Only the keeper has one.
pub struct File {
    connection: Connection,
    path: PathBuf,
    run: Timestamp,
}

impl File {
    /// Opens `history.sqlite` in a folder, or makes it; and what was set aside for that.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(folder: &Path, now: Timestamp) -> Result<(Self, Option<sqlite::SetAside>), String> {
        let path = folder.join("history.sqlite");
        let opened = sqlite::open(&path, STEPS)?;
        let file = Self {
            connection: opened.connection,
            path,
            run: now,
        };
        file.alive(now).map_err(|error| error.to_string())?;
        Ok((file, opened.set_aside))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What earlier processes left.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn before(&self, since: Timestamp) -> rusqlite::Result<Before> {
        let mut before = Before::default();
        let mut query = self
            .connection
            .prepare("select target, standing from standing")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        for row in rows {
            let (target, text) = row?;
            if let Ok(standing) = serde_json::from_str(&text) {
                before.standings.push((target.into(), standing));
            }
        }
        let mut query = self.connection.prepare(
            "select target, at, health from transitions where at >= ?1 order by at, seq",
        )?;
        let rows = query.query_map([since.as_micros()], |row| {
            let health: String = row.get(2)?;
            let target: String = row.get(0)?;
            Ok((
                target.into(),
                Timestamp::from_micros(row.get(1)?),
                word(&health),
            ))
        })?;
        before.changes = rows.collect::<Result<_, _>>()?;
        let mut query = self
            .connection
            .prepare("select alive from runs where started < ?1 order by alive")?;
        let rows = query.query_map([self.run.as_micros()], |row| {
            row.get(0).map(Timestamp::from_micros)
        })?;
        before.ends = rows.collect::<Result<_, _>>()?;
        Ok(before)
    }

    /// This process is still alive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn alive(&self, now: Timestamp) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "insert into runs values (?1, ?2) on conflict do update set alive = ?2",
            )?
            .execute([self.run.as_micros(), now.as_micros()])
            .map(drop)
    }

    /// Writes a batch, all or nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let change = self.connection.transaction()?;
        {
            let mut add = change.prepare_cached(
                "insert or ignore into transitions values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            for event in &batch.events {
                add.execute(params![
                    i64::try_from(event.seq).unwrap_or(i64::MAX),
                    &*event.target,
                    event.at.as_micros(),
                    event.from.as_str(),
                    event.to.as_str(),
                    event.reason.as_str(),
                    event.message,
                    event.hint,
                    event.detected_ms,
                ])?;
            }
            let mut set =
                change.prepare_cached("insert or replace into standing values (?1, ?2)")?;
            for (target, standing) in &batch.standings {
                let text = serde_json::to_string(standing).unwrap_or_default();
                set.execute(params![&**target, text])?;
            }
            let mut add = change
                .prepare_cached("insert or replace into latency values (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for (target, minute, latency) in &batch.latencies {
                add.execute(params![
                    &**target,
                    minute.as_micros(),
                    latency.looks,
                    latency.p50,
                    latency.p95,
                    latency.max,
                ])?;
            }
        }
        change.commit()
    }

    /// Forgets targets that are no longer watched: should they come back, they begin anew.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget(&self, targets: &[Arc<str>]) -> rusqlite::Result<()> {
        let mut forget = self
            .connection
            .prepare_cached("delete from standing where target = ?1")?;
        targets
            .iter()
            .try_for_each(|target| forget.execute([&**target]).map(drop))
    }

    /// Forgets what is too old, and the oldest while the file is too large. How many rows went.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn prune(&self, limits: Limits, now: Timestamp) -> rusqlite::Result<usize> {
        let mut gone = self.forget_before(now - limits.keep)?;
        while self.size()? > limits.max_size {
            // A tenth of the time that is left goes at once, so that this is rare.
            let oldest: Option<i64> = self.connection.query_row(
                "select min(at) from (select min(at) as at from transitions union all select min(minute) from latency)",
                [],
                |row| row.get(0),
            )?;
            let Some(oldest) = oldest else { break };
            let age = now.as_micros().saturating_sub(oldest);
            let went = self.forget_before(Timestamp::from_micros(oldest + age / 10 + 1))?;
            gone += went;
            self.connection.execute_batch("pragma incremental_vacuum")?;
            if went == 0 {
                break;
            }
        }
        Ok(gone)
    }

    fn forget_before(&self, at: Timestamp) -> rusqlite::Result<usize> {
        let micros = at.as_micros();
        let run = "delete from runs where alive < ?1 and started < ?2";
        self.connection
            .execute(run, [micros, self.run.as_micros()])?;
        let old = self
            .connection
            .execute("delete from transitions where at < ?1", [micros])?;
        Ok(old
            + self
                .connection
                .execute("delete from latency where minute < ?1", [micros])?)
    }

    /// What the file holds, in bytes; pages that are free again do not count.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn size(&self) -> rusqlite::Result<u64> {
        let size = "select (page_count - freelist_count) * page_size from pragma_page_count, pragma_freelist_count, pragma_page_size";
        let size: i64 = self.connection.query_row(size, [], |row| row.get(0))?;
        Ok(u64::try_from(size).unwrap_or(0))
    }
}

/// A health by its word; what is no word is unknown.
pub fn word(text: &str) -> Health {
    let found = Health::ALL
        .into_iter()
        .find(|health| health.as_str() == text);
    found.unwrap_or(Health::Unknown)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comind_model::reason::Reason;

    use super::*;

    fn event(seq: u64, at: Timestamp, to: Health) -> Arc<Event> {
        Arc::new(Event {
            seq,
            at,
            target: "db".into(),
            from: Health::Unknown,
            to,
            reason: Reason::Refused,
            message: "m".repeat(1000),
            hint: None,
            detected_ms: 1.5,
        })
    }

    #[test]
    fn what_was_written_is_found_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_micros(1_000_000_000_000);
        let later = start + Duration::from_secs(60);
        let (mut file, _) = File::open(folder.path(), start).unwrap();
        let standing = Standing {
            health: Health::Down,
            reason: Reason::Refused,
            message: "no".into(),
            since: start,
        };
        let batch = Batch {
            events: vec![event(1, start, Health::Down), event(1, start, Health::Up)],
            standings: vec![("db".into(), standing.clone())],
            latencies: vec![("db".into(), start, Latency::of(&[3, 1, 2]).unwrap())],
        };
        file.write(&batch).unwrap();
        file.alive(later).unwrap();
        drop(file);
        let (file, aside) = File::open(folder.path(), later + Duration::from_secs(1)).unwrap();
        assert!(aside.is_none());
        let before = file.before(start).unwrap();
        assert_eq!(before.standings, [("db".into(), standing)]);
        assert_eq!(before.changes, [("db".into(), start, Health::Down)]);
        assert_eq!(before.ends, [later]);
    }

    #[test]
    fn age_and_size_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_micros(1_000_000_000_000);
        let (mut file, _) = File::open(folder.path(), start).unwrap();
        let events = (0..5_000u32).map(|n| {
            let at = start + n * Duration::from_secs(1);
            event(u64::from(n), at, Health::Up)
        });
        let batch = Batch {
            events: events.collect(),
            ..Batch::default()
        };
        file.write(&batch).unwrap();
        let now = start + Duration::from_secs(5_000);
        let limits = |keep, max_size| Limits {
            keep: Duration::from_secs(keep),
            max_size,
        };
        assert_eq!(file.prune(limits(4_000, u64::MAX), now).unwrap(), 1_000);
        let full = file.size().unwrap();
        assert!(file.prune(limits(4_000, full / 2), now).unwrap() > 1_000);
        assert!(file.size().unwrap() <= full / 2);
        let newest = file.before(start).unwrap().changes;
        assert_eq!(newest.last().unwrap().1, start + Duration::from_secs(4_999));
        assert!(newest.len() > 500, "{}", newest.len());
    }
}
