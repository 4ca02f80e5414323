//! How one target was over time, and what follows from it: shares of time, outages, budgets.
//! Pure; must not know where the changes are kept.
//!
//! Time of which nothing is known (not yet watched, silence, the prober was off) is neither good
//! nor bad: uptime is good / (good + bad). What lies in a maintenance counts for nothing.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::event::Event;
use crate::health::Health;
use crate::reason::Reason;
use crate::timestamp::Timestamp;

/// Changes that are remembered of one target; older ones become time of which nothing is known.
pub const MOST_CHANGES: usize = 4_096;

/// What a stretch of time counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// It worked: up, or degraded.
    Good,
    /// It was down.
    Bad,
    /// Nothing is known.
    Unknown,
}

impl From<Health> for Counts {
    fn from(health: Health) -> Self {
        match health {
            Health::Up | Health::Degraded => Self::Good,
            Health::Down => Self::Bad,
            Health::Unknown => Self::Unknown,
        }
    }
}

/// A stretch of time: from here, up to but without there.
pub type Stretch = (Timestamp, Timestamp);

/// How much of a stretch of time was good, bad and unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// It worked.
    pub good: Duration,
    /// It was down.
    pub bad: Duration,
    /// Nothing is known.
    pub unknown: Duration,
}

impl Share {
    /// good / (good + bad); `None` while nothing is known.
    pub fn uptime(&self) -> Option<f64> {
        let known = self.good + self.bad;
        (!known.is_zero()).then(|| self.good.as_secs_f64() / known.as_secs_f64())
    }

    fn add(&mut self, counts: Counts, time: Duration) {
        match counts {
            Counts::Good => self.good += time,
            Counts::Bad => self.bad += time,
            Counts::Unknown => self.unknown += time,
        }
    }
}

/// The changes of one target, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    changes: VecDeque<(Timestamp, Counts)>,
}

impl Ledger {
    /// From `at` on it is like this. Must not be earlier than what was told before; if it is,
    /// it counts from there.
    pub fn change(&mut self, at: Timestamp, counts: Counts) {
        let at = self.changes.back().map_or(at, |(last, _)| at.max(*last));
        if self
            .changes
            .back()
            .is_some_and(|(_, before)| *before == counts)
        {
            return;
        }
        if self.changes.len() == MOST_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back((at, counts));
    }

    /// Forgets what ended before `at`.
    pub fn forget_before(&mut self, at: Timestamp) {
        while self.changes.get(1).is_some_and(|(next, _)| *next <= at) {
            self.changes.pop_front();
        }
    }

    /// How `stretch` was, without what is `excluded` (in order, not overlapping).
    pub fn share(&self, stretch: Stretch, excluded: &[Stretch]) -> Share {
        let (from, to) = stretch;
        let mut share = Share::default();
        let first = self.changes.front().map_or(to, |(at, _)| *at);
        let mut piece = |start: Timestamp, end: Timestamp, counts| {
            let (start, end) = (start.max(from), end.min(to));
            if start < end {
                let left = end
                    .since(start)
                    .saturating_sub(overlap((start, end), excluded));
                share.add(counts, left);
            }
        };
        piece(from, first, Counts::Unknown);
        // Those that ended before the stretch are found by halving: there may be thousands.
        let begin = self
            .changes
            .partition_point(|(at, _)| *at <= from)
            .saturating_sub(1);
        for place in begin..self.changes.len() {
            let (start, counts) = self.changes[place];
            if start >= to {
                break;
            }
            let end = self.changes.get(place + 1).map_or(to, |(at, _)| *at);
            piece(start, end, counts);
        }
        share
    }
}

/// How much of a stretch lies in those that are excluded.
fn overlap((from, to): Stretch, excluded: &[Stretch]) -> Duration {
    let inside = |(start, end): &Stretch| {
        let (start, end) = ((*start).max(from), (*end).min(to));
        end.since(start)
    };
    excluded.iter().map(inside).sum()
}

/// In order and joined where they overlap, as [`Ledger::share`] wants them.
pub fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable();
    let mut all: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for (from, to) in stretches {
        match all.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            _ => all.push((from, to)),
        }
    }
    all
}

/// An objective: this share of the known time should be good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective(f64);

impl Objective {
    /// From a percentage between 0 and 100, both excluded.
    pub fn percent(percent: f64) -> Option<Self> {
        (percent > 0.0 && percent < 100.0).then_some(Self(percent / 100.0))
    }

    /// The share, 0 to 1.
    pub fn share(self) -> f64 {
        self.0
    }

    /// How many times faster than allowed the budget was used in this share of time: 1 uses it up
    /// exactly at the end of its window. `None` while nothing is known.
    pub fn burn_rate(self, share: &Share) -> Option<f64> {
        share.uptime().map(|uptime| (1.0 - uptime) / (1.0 - self.0))
    }

    /// What is left of the budget after this share of time: 1 all, 0 none, below 0 overdrawn.
    pub fn budget_left(self, share: &Share) -> Option<f64> {
        self.burn_rate(share).map(|burnt| 1.0 - burnt)
    }
}

/// One outage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// When it began.
    pub start: Timestamp,
    /// When the target worked again; `None` while it does not.
    pub end: Option<Timestamp>,
    /// The cause at its beginning.
    pub reason: Reason,
    /// What was seen then.
    pub message: String,
}

/// The outages in these transitions of one target, oldest first. Silence ends none: a target that
/// was down before and after it was one outage.
pub fn outages<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Outage> {
    let mut all: Vec<Outage> = Vec::new();
    for event in events {
        let open = all.last_mut().filter(|outage| outage.end.is_none());
        match (event.to, open) {
            (Health::Down, None) => all.push(Outage {
                start: event.at,
                end: None,
                reason: event.reason,
                message: event.message.clone(),
            }),
            (Health::Up | Health::Degraded, Some(open)) => open.end = Some(event.at),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000) + Duration::from_secs(second)
    }

    fn seconds(share: &Share) -> [u64; 3] {
        [share.good, share.bad, share.unknown].map(|time| time.as_secs())
    }

    #[test]
    fn unknown_time_is_neither_good_nor_bad() {
        let mut ledger = Ledger::default();
        ledger.change(at(10), Counts::Good);
        ledger.change(at(20), Counts::Bad);
        ledger.change(at(25), Counts::Unknown);
        let share = ledger.share((at(0), at(40)), &[]);
        assert_eq!(seconds(&share), [10, 5, 25]);
        assert_eq!(share.uptime(), Some(10.0 / 15.0));
        assert_eq!(ledger.share((at(0), at(9)), &[]).uptime(), None);
        assert_eq!(seconds(&ledger.share((at(12), at(22)), &[])), [8, 2, 0]);
        let excluded = joined(vec![(at(22), at(30)), (at(18), at(23))]);
        assert_eq!(excluded, [(at(18), at(30))]);
        assert_eq!(
            seconds(&ledger.share((at(0), at(40)), &excluded)),
            [8, 0, 20]
        );
    }

    #[test]
    fn budgets_and_burn_rates() {
        let objective = Objective::percent(99.0).unwrap();
        let share = Share {
            good: Duration::from_secs(98),
            bad: Duration::from_secs(2),
            unknown: Duration::from_secs(900),
        };
        assert!((objective.burn_rate(&share).unwrap() - 2.0).abs() < 1e-9);
        assert!((objective.budget_left(&share).unwrap() + 1.0).abs() < 1e-9);
        assert_eq!(Objective::percent(100.0), None);
    }

    #[test]
    fn an_outage_lasts_over_silence() {
        use Health::{Degraded, Down, Unknown, Up};
        let changes = [
            (1, Up),
            (5, Down),
            (8, Unknown),
            (9, Down),
            (12, Degraded),
            (20, Down),
        ];
        let events = changes.map(|(second, to)| Event {
            seq: second,
            at: at(second),
            target: "t".into(),
            from: Unknown,
            to,
            reason: Reason::Refused,
            message: "no".to_owned(),
            hint: None,
            detected_ms: 0.0,
        });
        let found: Vec<_> = outages(events.iter())
            .into_iter()
            .map(|o| (o.start, o.end))
            .collect();
        assert_eq!(found, [(at(5), Some(at(12))), (at(20), None)]);
    }

    /// 48 hours, second by second: the slow and plain way to the same figures.
    fn slowly(changes: &[(u64, Counts)], (from, to): (u64, u64), excluded: &[(u64, u64)]) -> Share {
        let mut share = Share::default();
        for second in from..to {
            if excluded
                .iter()
                .any(|(start, end)| (*start..*end).contains(&second))
            {
                continue;
            }
            let last = changes.iter().rev().find(|(at, _)| *at <= second);
            let counts = last.map_or(Counts::Unknown, |(_, counts)| *counts);
            share.add(counts, Duration::from_secs(1));
        }
        share
    }

    const HOURS: u64 = 48 * 3600;

    fn counts() -> impl Strategy<Value = Counts> {
        prop_oneof![4 => Just(Counts::Good), 3 => Just(Counts::Bad), 1 => Just(Counts::Unknown)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// 48 simulated hours of random faults: uptime, budget and burn rate over every window equal
        /// the slow reference.
        #[test]
        fn two_days_of_faults_are_counted_as_by_hand(
            faults in proptest::collection::vec((0..HOURS, counts()), 0..120),
            windows in proptest::collection::vec((0..HOURS, 1..HOURS), 1..4),
            works in proptest::collection::vec((0..HOURS, 1..7200u64), 0..4),
        ) {
            let mut faults = faults;
            faults.sort_by_key(|(second, _)| *second);
            let mut ledger = Ledger::default();
            for (second, counts) in &faults {
                ledger.change(at(*second), *counts);
            }
            let works: Vec<_> = works.iter().map(|(from, long)| (*from, from + long)).collect();
            let excluded = joined(works.iter().map(|(from, to)| (at(*from), at(*to))).collect());
            let objective = Objective::percent(99.5).unwrap();
            for (from, long) in windows {
                let to = (from + long).min(HOURS);
                let fast = ledger.share((at(from), at(to)), &excluded);
                let slow = slowly(&faults, (from, to), &works);
                prop_assert_eq!(fast, slow);
                prop_assert_eq!(objective.burn_rate(&fast), objective.burn_rate(&slow));
                prop_assert_eq!(objective.budget_left(&fast), objective.budget_left(&slow));
            }
        }
    }
}
