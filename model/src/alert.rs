//! Who has to be told what: from the states of the targets to alerts that open, are muted, and
//! are resolved. Pure; must not know how anybody is told.
//!
//! An alert follows the level, not the edge: whatever was missed or restarted in between, the
//! next turn finds what should be open. Silence never resolves one. What was told is resolved,
//! whatever is muted by then; what was never told is not.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::health::Health;
use crate::reason::Reason;
use crate::state::State;
use crate::target::Target;
use crate::timestamp::Timestamp;

/// How urgent an alert is: the label `severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Wakes somebody: a required target.
    Page,
    /// Can wait until the morning: an optional one.
    Warning,
}

impl Severity {
    /// The word in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Warning => "warning",
        }
    }
}

/// What is wrong: the label `alertname`, the same as that of the Prometheus rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Name {
    /// A required target is down.
    RequiredServiceDown,
    /// An optional one is.
    OptionalServiceDown,
    /// Nothing has been known of a required one for too long.
    RequiredServiceUnknown,
}

impl Name {
    /// The word in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequiredServiceDown => "RequiredServiceDown",
            Self::OptionalServiceDown => "OptionalServiceDown",
            Self::RequiredServiceUnknown => "RequiredServiceUnknown",
        }
    }

    /// How urgent it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::RequiredServiceDown | Self::RequiredServiceUnknown => Severity::Page,
            Self::OptionalServiceDown => Severity::Warning,
        }
    }
}

/// One outage, as people are told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for all that is ever told of this outage, by whichever process.
    pub id: String,
    /// What is wrong.
    pub name: Name,
    /// Name of the target.
    pub target: Arc<str>,
    /// Its kind.
    pub kind: String,
    /// Whether the platform is down without it.
    pub required: bool,
    /// The cause.
    pub reason: Reason,
    /// What was seen.
    pub message: String,
    /// When the outage began.
    pub starts_at: Timestamp,
}

impl Alert {
    fn new(name: Name, state: &State) -> Self {
        let (target, standing) = (state.target(), state.standing());
        Self {
            id: format!("{}-{}", target.name, standing.since.as_micros()),
            name,
            target: target.name.clone(),
            kind: target.kind.to_owned(),
            required: target.required,
            reason: standing.reason,
            message: standing.message.clone(),
            starts_at: standing.since,
        }
    }
}

/// Why an open alert is not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why", content = "of")]
pub enum Muted {
    /// This target, which it cannot work without, is down itself.
    Dependency(Arc<str>),
    /// It is not known yet whether a target that it cannot work without is down too.
    Waiting(Arc<str>),
    /// This maintenance is on.
    Maintenance(Arc<str>),
}

impl Muted {
    /// The word in labels.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Dependency(_) => "dependency",
            Self::Waiting(_) => "waiting",
            Self::Maintenance(_) => "maintenance",
        }
    }
}

/// An alert that is open, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The alert.
    pub alert: Alert,
    /// Whether it was told. What was told will be resolved.
    pub told: bool,
    /// Why it is not told.
    pub muted: Option<Muted>,
    /// Whether its target changes so often that its end waits until that stops.
    pub flapping: bool,
}

/// What is to be told now.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// This is wrong.
    Firing(Alert),
    /// This is over, since then.
    Resolved(Alert, Timestamp),
}

/// When something counts, as data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// A required target of which nothing is known for this long is told of.
    pub unknown_after: Duration,
    /// How long a dependent waits to learn whether it is its dependency that is down.
    pub dependency_wait: Duration,
    /// Changes between working and not within `flap_window` that make a target flapping.
    pub flap_start: usize,
    /// So few changes within it end that.
    pub flap_stop: usize,
    /// How far back changes are counted.
    pub flap_window: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            unknown_after: Duration::from_secs(60),
            dependency_wait: Duration::from_secs(3),
            flap_start: 6,
            flap_stop: 2,
            flap_window: Duration::from_secs(300),
        }
    }
}

/// The changes of one target, newest last.
#[derive(Clone, Debug, Default)]
struct Flips {
    at: VecDeque<Timestamp>,
    flapping: bool,
}

/// Which alerts are open.
#[derive(Clone, Debug, Default)]
pub struct Book {
    policy: Policy,
    open: BTreeMap<Arc<str>, Open>,
    flips: HashMap<Arc<str>, Flips>,
}

/// Says which maintenance is on for a target.
pub type Maintained<'a> = &'a dyn Fn(&Target) -> Option<Arc<str>>;

impl Book {
    /// A book in which these alerts stand, from an earlier process.
    pub fn new(policy: Policy, open: impl IntoIterator<Item = Open>) -> Self {
        let open = open.into_iter();
        Self {
            policy,
            open: open.map(|open| (open.alert.target.clone(), open)).collect(),
            flips: HashMap::new(),
        }
    }

    /// From now on other thresholds hold.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What is open, by name of target.
    pub fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// The targets that change too often.
    pub fn flapping(&self) -> impl Iterator<Item = &Arc<str>> {
        let flapping = self.flips.iter().filter(|(_, flips)| flips.flapping);
        flapping.map(|(name, _)| name)
    }

    /// Takes note of a change, which decides whether the target flaps.
    pub fn note(&mut self, event: &Event) {
        let broke = event.from.works() && event.to == Health::Down;
        let mended = event.from == Health::Down && event.to.works();
        if broke || mended {
            let flips = self.flips.entry(event.target.clone()).or_default();
            flips.at.push_back(event.at);
            if flips.at.len() > 4 * self.policy.flap_start.max(1) {
                flips.at.pop_front();
            }
        }
    }

    /// Nobody has been told anything so far, as far as this process knows: another one did the
    /// telling, and has handed over.
    pub fn take_over(&mut self) {
        for open in self.open.values_mut() {
            open.told = false;
        }
    }

    /// These were told by the one before: they are open under the ids that it gave them, and
    /// their ends will be told even if they are over by now.
    pub fn adopt(&mut self, told: Vec<Alert>) {
        for alert in told {
            let open = Open {
                told: true,
                muted: None,
                flapping: false,
                alert,
            };
            self.open.insert(open.alert.target.clone(), open);
        }
    }

    /// Compares what is open with what should be, and says what is to be told.
    pub fn turn(
        &mut self,
        states: &[Arc<State>],
        maintained: Maintained<'_>,
        now: Timestamp,
    ) -> Vec<Notice> {
        self.age(now);
        let world = World::new(states, self.policy, maintained, now);
        let mut notices = Vec::new();
        self.close_removed(&world, now, &mut notices);
        for state in states {
            self.turn_one(state, &world, &mut notices);
        }
        notices
    }

    /// The next moment at which [`Book::turn`] may have something to say though nothing happened.
    pub fn next_turn(&self, states: &[Arc<State>], now: Timestamp) -> Timestamp {
        let latest = now + Duration::from_secs(10);
        let waiting = self
            .open
            .values()
            .any(|open| matches!(open.muted, Some(Muted::Waiting(_))));
        let unknown = states
            .iter()
            .filter(|state| state.standing().health == Health::Unknown)
            .map(|state| state.standing().since + self.policy.unknown_after)
            .filter(|at| *at > now);
        let soon = waiting.then(|| now + Duration::from_millis(100));
        soon.into_iter().chain(unknown).fold(latest, Timestamp::min)
    }

    fn age(&mut self, now: Timestamp) {
        let policy = self.policy;
        self.flips.retain(|_, flips| {
            while flips
                .at
                .front()
                .is_some_and(|at| now.since(*at) > policy.flap_window)
            {
                flips.at.pop_front();
            }
            flips.flapping = match flips.flapping {
                true => flips.at.len() > policy.flap_stop,
                false => flips.at.len() >= policy.flap_start,
            };
            flips.flapping || !flips.at.is_empty()
        });
    }

    /// What is no longer watched is over.
    fn close_removed(&mut self, world: &World<'_>, now: Timestamp, notices: &mut Vec<Notice>) {
        let known = &world.by_name;
        let removed: Vec<_> = self
            .open
            .keys()
            .filter(|name| !known.contains_key(&***name))
            .cloned()
            .collect();
        for name in removed {
            self.close(&name, now, notices);
        }
    }

    fn close(&mut self, name: &str, now: Timestamp, notices: &mut Vec<Notice>) {
        if let Some(open) = self.open.remove(name)
            && open.told
        {
            notices.push(Notice::Resolved(open.alert, now));
        }
    }

    fn turn_one(&mut self, state: &State, world: &World<'_>, notices: &mut Vec<Notice>) {
        let name = &state.target().name;
        let flapping = self.flips.get(name).is_some_and(|flips| flips.flapping);
        let standing = state.standing();
        if standing.health.works() {
            match self.open.get_mut(name) {
                Some(open) if flapping => open.flapping = true,
                Some(_) => self.close(name, world.now, notices),
                None => {}
            }
            return;
        }
        let wrong = world.wrong(state);
        // Silence resolves nothing: what is open stays as it is until more is known.
        let silent = standing.health == Health::Unknown;
        let told = self.open.get(name).is_some_and(|open| open.told);
        let Some(wrong) = wrong.filter(|_| !(silent && told)) else {
            return;
        };
        if let Some(open) = self.open.get(name)
            && open.alert.name != wrong
        {
            self.close(name, world.now, notices);
        }
        let open = self.open.entry(name.clone()).or_insert_with(|| Open {
            alert: Alert::new(wrong, state),
            told: false,
            muted: None,
            flapping,
        });
        open.alert.reason = standing.reason;
        open.alert.message.clone_from(&standing.message);
        open.flapping = flapping;
        open.muted = match open.told {
            true => None,
            false => world.muted(state),
        };
        if !open.told && open.muted.is_none() {
            open.told = true;
            notices.push(Notice::Firing(open.alert.clone()));
        }
    }
}

/// What a turn sees.
struct World<'a> {
    by_name: HashMap<&'a str, &'a State>,
    policy: Policy,
    maintained: Maintained<'a>,
    now: Timestamp,
}

impl<'a> World<'a> {
    fn new(
        states: &'a [Arc<State>],
        policy: Policy,
        maintained: Maintained<'a>,
        now: Timestamp,
    ) -> Self {
        let by_name = states.iter().map(|state| (&*state.target().name, &**state));
        Self {
            by_name: by_name.collect(),
            policy,
            maintained,
            now,
        }
    }

    /// What is wrong with a target that does not work, if anybody is to know.
    fn wrong(&self, state: &State) -> Option<Name> {
        let (required, standing) = (state.target().required, state.standing());
        match (standing.health, required) {
            (Health::Down, true) => Some(Name::RequiredServiceDown),
            (Health::Down, false) => Some(Name::OptionalServiceDown),
            (Health::Unknown, true)
                if self.now.since(standing.since) >= self.policy.unknown_after =>
            {
                Some(Name::RequiredServiceUnknown)
            }
            _ => None,
        }
    }

    fn muted(&self, state: &State) -> Option<Muted> {
        if let Some(name) = (self.maintained)(state.target()) {
            return Some(Muted::Maintenance(name));
        }
        let mut asked = HashSet::new();
        self.dependency(state, state.standing().since, &mut asked)
    }

    /// Whether something that the target cannot work without is out too, however far away.
    fn dependency(
        &self,
        state: &State,
        since: Timestamp,
        asked: &mut HashSet<&'a str>,
    ) -> Option<Muted> {
        let target = state.target();
        let mut waiting = None;
        for name in target.depends_on.iter().chain(&target.parent) {
            let Some((known, parent)) = self.by_name.get_key_value(&**name) else {
                continue;
            };
            if !asked.insert(known) {
                continue;
            }
            if !parent.standing().health.works() {
                return Some(Muted::Dependency(name.clone()));
            }
            match self.dependency(parent, since, asked) {
                Some(Muted::Dependency(name)) => return Some(Muted::Dependency(name)),
                other => waiting = waiting.or(other),
            }
            // It was up when it was last seen, but that was before this outage began.
            let seen = parent.last_seen().is_some_and(|at| at > since);
            if !seen && self.now.since(since) < self.policy.dependency_wait {
                waiting = Some(Muted::Waiting(name.clone()));
            }
        }
        waiting
    }
}

#[cfg(test)]
mod tests;
