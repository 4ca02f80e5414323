//! The one writer of what is known. Takes observations, applies the model's rules, hands out
//! snapshots and events. Must not know kinds, HTTP or where observations come from.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use comind_model::event::Event;
use comind_model::health::Health;
use comind_model::observation::{Observation, Outcome};
use comind_model::reason::Reason;
use comind_model::snapshot::Snapshot;
use comind_model::state::{Standing, State};
use comind_model::target::Target;
use comind_model::timestamp::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::targets::TargetMeters;
use crate::vitals::Vitals;

/// Observations that may wait for the store: sources wait when it is full.
pub const INBOX: usize = 4096;
/// Events that a slow reader may lag behind before it gets a snapshot instead.
pub const EVENTS: usize = 1024;
/// Transitions that a snapshot remembers, for resuming readers and for the page.
pub const TIMELINE: usize = 256;

/// How long changes without a transition (latencies, facts) may wait for readers.
const SETTLE: Duration = Duration::from_millis(100);
/// How often silence is looked for.
const EXPIRE: Duration = Duration::from_millis(250);
/// It turns several times a second; silence for this long means that it is wedged.
const WEDGED: Duration = Duration::from_secs(10);

/// What the store is told.
#[derive(Debug)]
pub enum Input {
    /// A look has ended.
    Observed {
        /// What it saw.
        observation: Observation,
        /// How long connecting took, if it had to.
        connect: Option<Duration>,
    },
    /// From now on these are watched, in this order. Parts of targets that stay, stay.
    Watch(Vec<Watched>),
    /// A watch saw this part of its target: new, or changed, or as it was.
    Part {
        /// The part; what is known of one with this name stays.
        target: Arc<Target>,
        /// How it is.
        observation: Observation,
    },
    /// A watch saw that these parts of `parent` are gone for good.
    Gone {
        /// The target that they were parts of.
        parent: Arc<str>,
        /// Their names.
        parts: Vec<Arc<str>>,
    },
}

/// A target to be watched from now on.
#[derive(Debug)]
pub struct Watched {
    /// The target.
    pub target: Arc<Target>,
    /// Whether what is known of the target with this name still holds.
    pub keep: bool,
}

/// What readers hold: the newest snapshot, and the events as they come.
#[derive(Clone, Debug)]
pub struct Readers {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: broadcast::Sender<Arc<Event>>,
}

impl Readers {
    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Follows the newest snapshot.
    pub fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The events from now on, and a snapshot that contains all before them (and perhaps
    /// some of them: compare `seq`).
    pub fn subscribe(&self) -> (broadcast::Receiver<Arc<Event>>, Arc<Snapshot>) {
        // In this order, so that no event falls between the two.
        let events = self.events.subscribe();
        (events, self.snapshot())
    }
}

/// The one writer.
pub struct Store {
    clock: Clock,
    inbox: mpsc::Receiver<Input>,
    states: Vec<Arc<State>>,
    index: HashMap<Arc<str>, usize>,
    restored: HashMap<Arc<str>, Standing>,
    timeline: VecDeque<Arc<Event>>,
    seq: u64,
    complete: bool,
    dirty: bool,
    meters: Arc<TargetMeters>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    events: broadcast::Sender<Arc<Event>>,
}

impl Store {
    /// A store that knows nothing yet, the way to tell it, and its readers.
    ///
    /// `restored` is how targets were when the process before ended.
    pub fn new(
        clock: Clock,
        meters: Arc<TargetMeters>,
        restored: HashMap<Arc<str>, Standing>,
    ) -> (Self, mpsc::Sender<Input>, Readers) {
        let now = clock.now();
        // Starting at the calendar keeps numbers growing over a restart, so that a reader who
        // resumes with a number of the process before is never taken for an up-to-date one.
        let seq = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
        let before = Snapshot {
            seq,
            ..Snapshot::empty(now)
        };
        let (inbox_tx, inbox) = mpsc::channel(INBOX);
        let (snapshots, snapshot_rx) = watch::channel(Arc::new(before));
        let (events, _) = broadcast::channel(EVENTS);
        let readers = Readers {
            snapshots: snapshot_rx,
            events: events.clone(),
        };
        let store = Self {
            clock,
            inbox,
            states: Vec::new(),
            index: HashMap::new(),
            restored,
            timeline: VecDeque::with_capacity(TIMELINE),
            seq,
            complete: false,
            dirty: false,
            meters,
            snapshots,
            events,
        };
        (store, inbox_tx, readers)
    }

    /// Works until `stop`, or until nobody can tell it anything any more.
    pub async fn run(mut self, vitals: Vitals, stop: CancellationToken) {
        let pulse = vitals.task("store", WEDGED);
        let mut settle = ticker(SETTLE);
        let mut expire = ticker(EXPIRE);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                input = self.inbox.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                _ = settle.tick(), if self.dirty => self.publish(self.clock.now()),
                _ = expire.tick() => {
                    pulse.beat();
                    self.expire();
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Observed {
                observation,
                connect,
            } => self.observe(&observation, connect),
            Input::Watch(targets) => self.watch(targets),
            Input::Part {
                target,
                observation,
            } => self.part(target, &observation),
            Input::Gone { parent, parts } => self.gone(&parent, &parts),
        }
    }

    fn observe(&mut self, observation: &Observation, connect: Option<Duration>) {
        // A look of a target that was removed while it ran.
        let Some(&place) = self.index.get(&observation.target) else {
            return;
        };
        let now = self.clock.now();
        self.meters.observed(observation, connect);
        let state = Arc::make_mut(&mut self.states[place]);
        let event = state.apply(observation, self.seq + 1, now);
        self.dirty = true;
        let out = !state.standing().health.works();
        let health = state.standing().health;
        let mut events: Vec<Event> = event.into_iter().collect();
        // Also when it was out before: its watch may have told of parts since, between two
        // looks that failed.
        if out && matches!(observation.outcome, Outcome::Bad { .. }) {
            self.lose_parts_of(&observation.target, health, &mut events, now);
        }
        if !events.is_empty() {
            self.announce(events, now);
        }
    }

    fn part(&mut self, target: Arc<Target>, observation: &Observation) {
        // Of a target that was removed while its watch still spoke.
        let known = |name| self.index.contains_key(name);
        if !target.parent.as_ref().is_some_and(known) {
            return;
        }
        match self.index.get(&target.name) {
            // A part never takes the name of something else.
            Some(&place) if self.states[place].target().parent != target.parent => return,
            Some(&place) => {
                if *self.states[place].target() != target {
                    self.meters.add(&target);
                    Arc::make_mut(&mut self.states[place]).retarget(target);
                }
            }
            None => {
                self.meters.add(&target);
                self.index.insert(target.name.clone(), self.states.len());
                let state = self.begin(target, self.clock.now());
                self.states.push(state);
            }
        }
        self.observe(observation, None);
    }

    /// A state of which this process knows nothing yet.
    fn begin(&mut self, target: Arc<Target>, now: Timestamp) -> Arc<State> {
        let before = self.restored.remove(&target.name);
        let mut state = State::new(target, now);
        if let Some(standing) = before {
            state.remember_before(standing);
        }
        Arc::new(state)
    }

    fn gone(&mut self, parent: &Arc<str>, parts: &[Arc<str>]) {
        let parts: HashSet<_> = parts.iter().collect();
        self.retain(|target| {
            target.parent.as_ref() != Some(parent) || !parts.contains(&target.name)
        });
        self.dirty = true;
    }

    /// Keeps the states that `keep` wants, in their order, and their series.
    fn retain(&mut self, keep: impl Fn(&Target) -> bool) {
        let meters = &self.meters;
        self.states.retain(|state| {
            let kept = keep(state.target());
            if !kept {
                meters.remove(&state.target().name);
            }
            kept
        });
        self.index();
    }

    fn index(&mut self) {
        let names = self.states.iter().map(|state| state.target().name.clone());
        self.index = names
            .enumerate()
            .map(|(place, name)| (name, place))
            .collect();
    }

    /// Adds to `events` what becomes of the parts of those targets that no longer work.
    fn lose_parts(&mut self, events: &mut Vec<Event>, now: Timestamp) {
        let out: Vec<_> = events
            .iter()
            .filter(|event| !event.to.works())
            .map(|event| (event.target.clone(), event.to))
            .collect();
        for (parent, health) in out {
            self.lose_parts_of(&parent, health, events, now);
        }
    }

    fn lose_parts_of(
        &mut self,
        parent: &Arc<str>,
        health: Health,
        events: &mut Vec<Event>,
        now: Timestamp,
    ) {
        let known = |state: &State| {
            state.target().parent.as_ref() == Some(parent)
                && state.standing().reason != Reason::ParentOut
        };
        let why = format!("{parent}, which watches it, is {health}");
        for state in self.states.iter_mut().filter(|state| known(state)) {
            let seq = self.seq + 1 + events.len() as u64;
            events.extend(Arc::make_mut(state).lose(&why, seq, now));
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        let mut events = Vec::new();
        for state in &mut self.states {
            if state.is_stale(now) {
                let seq = self.seq + 1 + events.len() as u64;
                events.extend(Arc::make_mut(state).expire(seq, now));
            }
        }
        if !events.is_empty() {
            self.lose_parts(&mut events, now);
            self.announce(events, now);
        }
    }

    fn watch(&mut self, targets: Vec<Watched>) {
        let now = self.clock.now();
        let mut before = std::mem::take(&mut self.states);
        self.meters.watch(
            targets
                .iter()
                .map(|watched| (&watched.target, watched.keep)),
        );
        let kept: HashSet<_> = targets
            .iter()
            .filter(|watched| watched.keep)
            .map(|watched| watched.target.name.clone())
            .collect();
        for Watched { target, keep } in targets {
            let known = before
                .iter()
                .position(|state| state.target().name == target.name);
            let state = match known.map(|place| before.swap_remove(place)) {
                Some(mut state) if keep => {
                    Arc::make_mut(&mut state).retarget(target);
                    state
                }
                _ => self.begin(target, now),
            };
            self.states.push(state);
        }
        // `swap_remove` has shuffled what is left; parts have no order of their own.
        before.retain(|state| {
            let parent = state.target().parent.as_ref();
            parent.is_some_and(|parent| kept.contains(parent))
        });
        for state in &before {
            self.meters.add(state.target());
        }
        self.states.append(&mut before);
        self.index();
        self.complete = true;
        self.publish(now);
    }

    /// Snapshot first, events second: a reader who sees an event finds it in the snapshot.
    fn announce(&mut self, events: Vec<Event>, now: Timestamp) {
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        for event in &events {
            self.seq = event.seq;
            self.meters.transition(event);
            if self.timeline.len() == TIMELINE {
                self.timeline.pop_front();
            }
            self.timeline.push_back(event.clone());
            tracing::info!(
                target = %event.target, from = %event.from, to = %event.to, reason = %event.reason,
                detected_ms = event.detected_ms, hint = event.hint.as_deref(), "{}", event.message
            );
        }
        self.publish(now);
        for event in events {
            // No reader is no error.
            let _ = self.events.send(event);
        }
    }

    fn publish(&mut self, now: Timestamp) {
        self.dirty = false;
        self.snapshots.send_replace(Arc::new(Snapshot {
            seq: self.seq,
            at: now,
            targets: self.states.iter().cloned().collect(),
            timeline: self.timeline.iter().cloned().collect(),
            complete: self.complete,
        }));
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(every);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticker
}

#[cfg(test)]
mod tests;
