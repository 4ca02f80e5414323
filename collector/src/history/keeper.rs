//! The task that keeps history: hears events, writes them at once, and works out the report.
//! Must not know SQL, nor who reads.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comind_model::event::Event;
use comind_model::health::Health;
use comind_model::ledger::{Counts, Ledger};
use comind_model::snapshot::Snapshot;
use comind_model::state::Standing;
use comind_model::timestamp::Timestamp;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::history::file::{Batch, File, Latency};
use crate::history::report::{Record, Report};
use crate::history::{Terms, Windows};
use crate::store::Readers;
use crate::vitals::{self, Vitals};

/// How often the report is worked out, and the file told that we live.
const TURN: Duration = Duration::from_secs(5);
/// How often looks are summed up.
const MINUTE: Duration = Duration::from_secs(60);
/// How often the file is pruned, in turns.
const PRUNE: u32 = 120;
/// Events that may wait while the disk does not take them; the oldest go first.
const WAITING: usize = 20_000;
/// How far back the ledgers go.
const LEDGER: Duration = Duration::from_secs(90 * 86_400);

/// What an earlier process left, for the store.
pub type Restored = HashMap<Arc<str>, Standing>;

/// The keeper.
pub struct Keeper {
    clock: Clock,
    file: Option<File>,
    ledgers: HashMap<Arc<str>, Ledger>,
    batch: Batch,
    report: watch::Sender<Arc<Report>>,
    terms: watch::Receiver<Arc<Terms>>,
    /// Good looks of each target when they were last summed up.
    looks: HashMap<Arc<str>, u64>,
    known: HashSet<Arc<str>>,
    trouble: Option<String>,
    lost: u64,
    set_aside: u64,
}

/// What readers hold.
#[derive(Clone, Debug)]
pub struct History {
    /// The newest report.
    pub report: watch::Receiver<Arc<Report>>,
    /// The file, unless nothing is kept.
    pub file: Option<Arc<PathBuf>>,
}

impl Keeper {
    /// Opens the file in a folder. Where that cannot be, goes on without it and says so.
    pub fn open(
        folder: &Path,
        clock: Clock,
        terms: watch::Receiver<Arc<Terms>>,
    ) -> (Self, History, Restored) {
        let now = clock.now();
        let mut set_aside = 0;
        let (file, trouble) = match File::open(folder, now) {
            Ok((file, aside)) => {
                if let Some(aside) = aside {
                    set_aside = 1;
                    tracing::error!(
                        "{}: {aside}; what it held is not shown",
                        file.path().display()
                    );
                }
                (Some(file), None)
            }
            Err(error) => {
                tracing::error!("{error}; history is not kept");
                (None, Some(error))
            }
        };
        let before = file.as_ref().map(|file| file.before(now - LEDGER));
        let before = before.transpose().unwrap_or_else(|error| {
            tracing::error!("failed to read the history: {error}");
            None
        });
        let before = before.unwrap_or_default();
        let (report, reader) = watch::channel(Arc::default());
        let history = History {
            report: reader,
            file: file.as_ref().map(|file| Arc::new(file.path().to_owned())),
        };
        let keeper = Self {
            clock,
            file,
            ledgers: ledgers(&before.changes, &before.ends),
            batch: Batch::default(),
            report,
            terms,
            looks: HashMap::new(),
            known: HashSet::new(),
            trouble,
            lost: 0,
            set_aside,
        };
        (keeper, history, before.standings.into_iter().collect())
    }

    /// Keeps until `stop`.
    pub async fn run(mut self, readers: Readers, vitals: Vitals, stop: CancellationToken) {
        let (mut events, _) = readers.subscribe();
        let mut turn = tokio::time::interval(TURN);
        let mut minute = tokio::time::interval(MINUTE);
        for ticker in [&mut turn, &mut minute] {
            ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut turns = 0u32;
        let pulse = vitals.task("history", vitals::PATIENCE);
        loop {
            pulse.beat();
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => {
                    self.heard(event, &mut events, &readers);
                    self.flush(|_| Ok(())).await;
                }
                _ = turn.tick() => {
                    turns += 1;
                    self.turn(&readers.snapshot(), turns % PRUNE == 1).await;
                }
                _ = minute.tick() => self.sum_up(&readers.snapshot()),
            }
        }
        let now = self.clock.now();
        self.flush(move |file| file.alive(now)).await;
    }

    fn heard(
        &mut self,
        first: Result<Arc<Event>, broadcast::error::RecvError>,
        events: &mut broadcast::Receiver<Arc<Event>>,
        readers: &Readers,
    ) {
        let snapshot = readers.snapshot();
        let mut next = Some(first.map_err(|_| ()));
        while let Some(event) = next {
            match event {
                Ok(event) => self.note(event, &snapshot),
                // Some were missed: what became of them is in the snapshot.
                Err(()) => self.catch_up(&snapshot),
            }
            next = match events.try_recv() {
                Ok(event) => Some(Ok(event)),
                Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Err(())),
                Err(_) => None,
            };
        }
    }

    fn note(&mut self, event: Arc<Event>, snapshot: &Snapshot) {
        let ledger = self.ledgers.entry(event.target.clone()).or_default();
        ledger.change(event.at, event.to.into());
        let standing = snapshot.target(&event.target).map(|state| state.standing());
        // Unknown is how we are, not how the target is: a restart must find what was before.
        if let Some(standing) = standing.filter(|standing| standing.health != Health::Unknown) {
            self.batch
                .standings
                .push((event.target.clone(), standing.clone()));
        }
        self.batch.events.push(event);
        if self.batch.events.len() > WAITING {
            self.batch.events.remove(0);
            self.lost += 1;
        }
    }

    fn catch_up(&mut self, snapshot: &Snapshot) {
        let kept: HashSet<u64> = self.batch.events.iter().map(|event| event.seq).collect();
        let missed: Vec<_> = snapshot
            .timeline
            .iter()
            .filter(|event| !kept.contains(&event.seq))
            .cloned()
            .collect();
        // Those that were written already are known by their number.
        for event in missed {
            self.note(event, snapshot);
        }
        for state in snapshot.targets.iter() {
            let (name, standing) = (&state.target().name, state.standing());
            let ledger = self.ledgers.entry(name.clone()).or_default();
            ledger.change(standing.since, standing.health.into());
        }
    }

    /// How long looks took since the last time.
    fn sum_up(&mut self, snapshot: &Snapshot) {
        let minute = MINUTE.as_micros() as i64;
        let now = self.clock.now().as_micros();
        let at = Timestamp::from_micros(now.div_euclid(minute) * minute);
        for state in snapshot.targets.iter() {
            let name = &state.target().name;
            let before = self.looks.insert(name.clone(), state.good_looks());
            let new = state.good_looks().saturating_sub(before.unwrap_or(0));
            let all = state.latencies();
            let new = usize::try_from(new).unwrap_or(usize::MAX).min(all.len());
            if let Some(latency) = Latency::of(&all[all.len() - new..]) {
                self.batch.latencies.push((name.clone(), at, latency));
            }
        }
        let excess = self.batch.latencies.len().saturating_sub(WAITING);
        self.batch.latencies.drain(..excess);
    }

    async fn turn(&mut self, snapshot: &Snapshot, prune: bool) {
        let now = self.clock.now();
        let terms = self.terms.borrow().clone();
        let gone = self.leave(snapshot, now);
        let limits = terms.limits;
        self.flush(move |file| {
            file.alive(now)?;
            file.forget(&gone)?;
            if prune {
                file.prune(limits, now)?;
            }
            Ok(())
        })
        .await;
        let longest = (now - Duration::from_secs(31 * 86_400), now);
        // Worked out once for all targets: a schedule may have thousands of windows.
        let windows = Windows::of(&terms.maintenance, longest);
        let records = snapshot.targets.iter().filter_map(|state| {
            let target = state.target();
            let excluded = windows.excluded(&target.name);
            let ledger = self.ledgers.get(&target.name)?;
            let record = Record::of(ledger, target.objective, &excluded, now);
            Some((target.name.clone(), record))
        });
        let records = records.collect();
        self.report.send_replace(Arc::new(Report {
            records,
            trouble: self.trouble.clone(),
            size: self
                .file
                .as_ref()
                .and_then(|file| file.size().ok())
                .unwrap_or(0),
            lost: self.lost,
            set_aside: self.set_aside,
        }));
    }

    /// Targets that are no longer watched, and how that counts.
    fn leave(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<Arc<str>> {
        if !snapshot.complete {
            return Vec::new();
        }
        let there: HashSet<_> = snapshot
            .targets
            .iter()
            .map(|state| state.target().name.clone())
            .collect();
        let gone: Vec<_> = self.known.difference(&there).cloned().collect();
        for name in &gone {
            self.looks.remove(name);
            if let Some(ledger) = self.ledgers.get_mut(name) {
                ledger.change(now, Counts::Unknown);
            }
        }
        self.known = there;
        for ledger in self.ledgers.values_mut() {
            ledger.forget_before(now - LEDGER);
        }
        gone
    }

    /// Writes what waits, and what `also` wants. What cannot be written waits on.
    async fn flush(
        &mut self,
        also: impl FnOnce(&mut File) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let Some(mut file) = self.file.take() else {
            self.batch = Batch::default();
            return;
        };
        let batch = std::mem::take(&mut self.batch);
        let written = tokio::task::spawn_blocking(move || {
            let result = file.write(&batch).and_then(|()| also(&mut file));
            (file, batch, result)
        });
        let Ok((file, batch, result)) = written.await else {
            self.trouble = Some("writing the history ended badly; it is no longer kept".to_owned());
            tracing::error!("writing the history ended badly; it is no longer kept");
            return;
        };
        self.file = Some(file);
        match result {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the history is kept again");
                }
            }
            Err(error) => {
                // Written twice is written once: events have numbers.
                self.batch = batch;
                if self.trouble.replace(error.to_string()).is_none() {
                    tracing::error!("failed to write the history, and will try again: {error}");
                }
            }
        }
    }
}

/// The ledgers of earlier changes. Between two processes nothing is known.
pub(super) fn ledgers(
    changes: &[(Arc<str>, Timestamp, Health)],
    ends: &[Timestamp],
) -> HashMap<Arc<str>, Ledger> {
    let mut all: HashMap<Arc<str>, Ledger> = HashMap::new();
    let mut ends = ends.iter().copied().peekable();
    let ended = |all: &mut HashMap<Arc<str>, Ledger>, at| {
        for ledger in all.values_mut() {
            ledger.change(at, Counts::Unknown);
        }
    };
    for (target, at, health) in changes {
        while let Some(end) = ends.next_if(|end| end < at) {
            ended(&mut all, end);
        }
        let ledger = all.entry(target.clone()).or_default();
        ledger.change(*at, (*health).into());
    }
    for end in ends {
        ended(&mut all, end);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_processes_nothing_is_known() {
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let changes = [
            ("a".into(), at(10), Health::Up),
            ("b".into(), at(12), Health::Down),
            ("a".into(), at(50), Health::Down),
        ];
        let all = ledgers(&changes, &[at(30), at(60)]);
        let share = |name: &str| {
            let share = all[name].share((at(10), at(100)), &[]);
            [share.good, share.bad, share.unknown].map(|time| time.as_secs())
        };
        assert_eq!(share("a"), [20, 10, 60]);
        assert_eq!(share("b"), [0, 18, 72]);
    }
}
