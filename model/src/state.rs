//! From observations to health: the rules of one target, pure.
//! Must not know time's source, sockets, or other targets.
//!
//! A target has up to three lanes: the look, the deep look and the watch. Each lane is judged
//! by its own history; the target is down while any is. So a server which answers but cannot
//! work does not flicker up at every cheap look.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::fact::Facts;
use crate::health::Health;
use crate::observation::{Attention, Depth, Hint, Observation, Outcome};
use crate::reason::{Certainty, Reason};
use crate::target::Target;
use crate::thresholds::Thresholds;
use crate::timestamp::Timestamp;

/// How many latencies are kept for the sparkline.
pub const LATENCIES: usize = 60;

/// The last outcomes of one lane, newest in bit 0.
#[derive(Clone, Debug, Default, PartialEq)]
struct Lane {
    /// 1 is a bad look of any cause.
    bad: u32,
    /// How many looks the history holds, at most 32.
    seen: u8,
    down: Option<Cause>,
    attention: Vec<Attention>,
}

#[derive(Clone, Debug, PartialEq)]
struct Cause {
    reason: Reason,
    message: String,
}

impl Lane {
    fn push(&mut self, bad: bool, times: u8) {
        for _ in 0..times.max(1) {
            self.bad = self.bad << 1 | u32::from(bad);
            self.seen = self.seen.saturating_add(1).min(32);
        }
    }

    fn bad_in(&self, window: u8) -> u32 {
        let mask = u32::MAX >> (32 - u32::from(window.clamp(1, 32)));
        (self.bad & mask).count_ones()
    }

    fn good_run(&self) -> u32 {
        self.bad.trailing_zeros().min(u32::from(self.seen))
    }

    fn apply(&mut self, observation: &Observation, thresholds: &Thresholds) {
        match &observation.outcome {
            Outcome::Good { attention } => {
                self.push(false, 1);
                self.attention.clone_from(attention);
                if self.good_run() >= u32::from(thresholds.recover) {
                    self.down = None;
                }
            }
            Outcome::Bad { reason, message } => {
                self.push(true, observation.looks);
                let needed = match reason.certainty() {
                    Certainty::Hard => thresholds.hard,
                    Certainty::Soft => thresholds.soft,
                };
                if self.down.is_some() || self.bad_in(thresholds.window) >= u32::from(needed) {
                    self.attention.clear();
                    self.down = Some(Cause {
                        reason: *reason,
                        message: message.clone(),
                    });
                }
            }
        }
    }

    fn judged(&self) -> bool {
        self.seen > 0
    }
}

/// How one target is, why, and since when: what the API shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The verdict.
    pub health: Health,
    /// Its cause.
    pub reason: Reason,
    /// What was seen, for people.
    pub message: String,
    /// Since when the health is what it is.
    pub since: Timestamp,
}

/// Everything that is remembered of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    target: Arc<Target>,
    standing: Standing,
    look: Lane,
    deep: Lane,
    watch: Lane,
    look_facts: Facts,
    deep_facts: Facts,
    watch_facts: Facts,
    last_seen: Option<Timestamp>,
    last_good: Option<Timestamp>,
    first_bad: Option<Timestamp>,
    started: Timestamp,
    latency: Option<Duration>,
    latencies: Vec<u32>,
    good_looks: u64,
    /// How it was when the process before ended, until the first verdict of this one.
    before: Option<Standing>,
}

impl State {
    /// A target that nobody has looked at yet.
    pub fn new(target: Arc<Target>, now: Timestamp) -> Self {
        Self {
            target,
            standing: Standing {
                health: Health::Unknown,
                reason: Reason::NotLookedAt,
                message: "no look has ended yet".to_owned(),
                since: now,
            },
            look: Lane::default(),
            deep: Lane::default(),
            watch: Lane::default(),
            look_facts: Facts::default(),
            deep_facts: Facts::default(),
            watch_facts: Facts::default(),
            last_seen: None,
            last_good: None,
            first_bad: None,
            started: now,
            latency: None,
            latencies: Vec::new(),
            good_looks: 0,
            before: None,
        }
    }

    /// What is watched.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Takes over changed rules (thresholds, required) and keeps what was seen.
    pub fn retarget(&mut self, target: Arc<Target>) {
        self.target = target;
    }

    /// How it was when the process before ended. It stays unknown until it is looked at; but if
    /// the first verdict is the same, it has been so since then.
    pub fn remember_before(&mut self, standing: Standing) {
        self.before = Some(standing);
    }

    /// How it is now.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// When the last look ended, good or bad.
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen
    }

    /// When the last good look ended.
    pub fn last_good(&self) -> Option<Timestamp> {
        self.last_good
    }

    /// How long the last good look took.
    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// How long the last good looks took, oldest first, in microseconds; at most [`LATENCIES`].
    pub fn latencies(&self) -> &[u32] {
        &self.latencies
    }

    /// How many good looks there were.
    pub fn good_looks(&self) -> u64 {
        self.good_looks
    }

    /// What the last good look, deep look and watch learned.
    pub fn facts(&self) -> Facts {
        let mut facts = self.look_facts.clone();
        facts.merge(self.deep_facts.clone());
        facts.merge(self.watch_facts.clone());
        facts
    }

    /// Whether every question that the target has was answered once, well or badly.
    pub fn looked_at(&self) -> bool {
        if self.target.parent.is_some() {
            return self.watch.judged();
        }
        let rest = (self.deep.judged() || !self.target.deep)
            && (self.watch.judged() || !self.target.watched);
        self.look.judged() && (rest || self.look.down.is_some())
    }

    /// Takes in what one look saw. Returns the transition it makes, numbered `seq`.
    pub fn apply(&mut self, observation: &Observation, seq: u64, now: Timestamp) -> Option<Event> {
        self.last_seen = Some(now);
        let since = self.reference(observation.hint, now);
        self.remember(observation, now);
        let thresholds = self.target.thresholds;
        match observation.depth {
            Depth::Look => self.look.apply(observation, &thresholds),
            Depth::Deep => self.deep.apply(observation, &thresholds),
            Depth::Watch => self.watch.apply(observation, &thresholds),
        }
        let (health, reason, message) = self.verdict();
        let event = self.settle(health, reason, message, seq, observation.hint, since, now);
        if health.works() {
            self.first_bad = None;
        }
        event
    }

    /// Whether the last look is so long ago that [`State::expire`] has something to say.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let seen = self.last_seen.unwrap_or(self.started);
        self.standing.health != Health::Unknown && now.since(seen) >= self.target.stale_after
    }

    /// Turns silence into unknown. Returns the transition it makes, numbered `seq`.
    pub fn expire(&mut self, seq: u64, now: Timestamp) -> Option<Event> {
        if !self.is_stale(now) {
            return None;
        }
        let seen = self.last_seen.unwrap_or(self.started);
        self.forget();
        let message = format!(
            "no look has ended for {:.1} s (at most {:.1} s is normal)",
            now.since(seen).as_secs_f64(),
            self.target.stale_after.as_secs_f64()
        );
        self.settle(
            Health::Unknown,
            Reason::Silence,
            message,
            seq,
            None,
            seen,
            now,
        )
    }

    /// A part whose parent is out: nothing is known of it until it is seen again. Returns the
    /// transition it makes, numbered `seq`.
    pub fn lose(&mut self, why: &str, seq: u64, now: Timestamp) -> Option<Event> {
        self.forget();
        let seen = self.last_seen.unwrap_or(self.started);
        self.settle(
            Health::Unknown,
            Reason::ParentOut,
            why.to_owned(),
            seq,
            None,
            seen,
            now,
        )
    }

    /// What was true before a silence says nothing about now: start afresh.
    fn forget(&mut self) {
        self.look = Lane::default();
        self.deep = Lane::default();
        self.watch = Lane::default();
    }

    fn remember(&mut self, observation: &Observation, now: Timestamp) {
        match &observation.outcome {
            Outcome::Good { .. } => {
                self.last_good = Some(now);
                match observation.depth {
                    Depth::Look => {
                        self.push_latency(observation.latency);
                        self.look_facts = observation.facts.clone();
                    }
                    Depth::Deep => self.deep_facts = observation.facts.clone(),
                    Depth::Watch => self.watch_facts = observation.facts.clone(),
                }
            }
            Outcome::Bad { .. } => {
                self.first_bad.get_or_insert(now);
                match observation.depth {
                    Depth::Look => {
                        // Figures of a server that does not answer would be read as current.
                        self.look_facts = observation.facts.clone();
                        self.latency = None;
                    }
                    Depth::Deep => {}
                    Depth::Watch => self.watch_facts = observation.facts.clone(),
                }
            }
        }
    }

    fn push_latency(&mut self, latency: Duration) {
        self.latency = Some(latency);
        self.good_looks += 1;
        if self.latencies.len() == LATENCIES {
            self.latencies.remove(0);
        }
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.latencies.push(micros);
    }

    /// From when on the delay of a transition counts.
    fn reference(&self, hint: Option<Hint>, now: Timestamp) -> Timestamp {
        let recovering = self.standing.health == Health::Down;
        match (hint, recovering) {
            (Some(hint), false) => hint.at,
            (_, true) => self.first_bad.unwrap_or(self.standing.since),
            (None, false) => self.last_good.unwrap_or(self.started).min(now),
        }
    }

    fn verdict(&self) -> (Health, Reason, String) {
        let causes = self.lanes().map(|lane| lane.down.as_ref());
        // What we could not ask says nothing of the target; a cause of its own comes first.
        let first = causes
            .into_iter()
            .flatten()
            .min_by_key(|cause| cause.reason.is_ours());
        if let Some(cause) = first {
            let health = match cause.reason.is_ours() {
                true => Health::Unknown,
                false => Health::Down,
            };
            return (health, cause.reason, cause.message.clone());
        }
        if !self.looked_at() || (self.standing.health == Health::Unknown && !self.answered()) {
            let standing = &self.standing;
            return (standing.health, standing.reason, standing.message.clone());
        }
        let attention = self.lanes().into_iter().flat_map(|lane| &lane.attention);
        match attention.into_iter().next() {
            Some(attention) => (
                Health::Degraded,
                attention.reason,
                attention.message.clone(),
            ),
            None => (Health::Up, Reason::Ok, String::new()),
        }
    }

    /// Whether each lane's newest look was good: a single timeout is no verdict, but no proof either.
    fn answered(&self) -> bool {
        if self.target.parent.is_some() {
            return self.watch.good_run() > 0;
        }
        self.look.good_run() > 0
            && (!self.target.deep || self.deep.good_run() > 0)
            && (!self.target.watched || self.watch.good_run() > 0)
    }

    fn lanes(&self) -> [&Lane; 3] {
        [&self.look, &self.deep, &self.watch]
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place writes all that a transition has"
    )]
    fn settle(
        &mut self,
        health: Health,
        reason: Reason,
        message: String,
        seq: u64,
        hint: Option<Hint>,
        reference: Timestamp,
        now: Timestamp,
    ) -> Option<Event> {
        let from = self.standing.health;
        self.standing.reason = reason;
        self.standing.message = message;
        if from == health {
            return None;
        }
        let before = self.before.take();
        let same = before.filter(|before| before.health == health && before.since < now);
        self.standing.health = health;
        self.standing.since = same.map_or(now, |before| before.since);
        Some(Event {
            seq,
            at: now,
            target: self.target.name.clone(),
            from,
            to: health,
            reason,
            message: self.standing.message.clone(),
            hint: hint.map(|hint| hint.what.to_owned()),
            detected_ms: now.since(reference).as_micros() as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests;
