//! All targets at one moment, as readers get them. Must not know who reads.

use std::sync::Arc;

use crate::event::Event;
use crate::health::Health;
use crate::state::State;
use crate::timestamp::Timestamp;

/// All targets at one moment. Cheap to clone and to share.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The number of the last transition that it contains.
    pub seq: u64,
    /// When it was taken.
    pub at: Timestamp,
    /// The targets, in the order of the config.
    pub targets: Arc<[Arc<State>]>,
    /// The last transitions, oldest first, bounded.
    pub timeline: Arc<[Arc<Event>]>,
    /// Whether it lists what the config says; false only before the config is in force.
    pub complete: bool,
}

impl Snapshot {
    /// Before the first target is known.
    pub fn empty(now: Timestamp) -> Self {
        Self {
            seq: 0,
            at: now,
            targets: Arc::from([]),
            timeline: Arc::from([]),
            complete: false,
        }
    }

    /// How the platform is.
    pub fn health(&self) -> Health {
        overall(
            self.targets
                .iter()
                .map(|state| (state.target().required, state.standing().health)),
        )
    }

    /// One target by name.
    pub fn target(&self, name: &str) -> Option<&Arc<State>> {
        self.targets
            .iter()
            .find(|state| &*state.target().name == name)
    }
}

/// How the platform is, from `(required, health)` of each target: down when a required one
/// is down, unknown when a required one is (or there is none at all), degraded when
/// anything else is not up.
pub fn overall(targets: impl Iterator<Item = (bool, Health)>) -> Health {
    let mut targets = targets.peekable();
    if targets.peek().is_none() {
        return Health::Unknown;
    }
    let mut worst = Health::Up;
    for target in targets {
        let health = match target {
            (true, Health::Down) => return Health::Down,
            (true, Health::Unknown) => Health::Unknown,
            (_, Health::Up) => continue,
            // An optional target of which nothing is known is a lack, not an outage.
            _ => Health::Degraded,
        };
        if worst != Health::Unknown {
            worst = health;
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Degraded, Down, Unknown, Up};

    #[test]
    fn the_platform_is_as_its_required_targets_are() {
        let of = |targets: &[(bool, Health)]| overall(targets.iter().copied());
        assert_eq!(of(&[]), Unknown);
        assert_eq!(of(&[(true, Up), (false, Up)]), Up);
        assert_eq!(of(&[(true, Up), (false, Down)]), Degraded);
        assert_eq!(of(&[(true, Degraded), (false, Up)]), Degraded);
        assert_eq!(of(&[(true, Unknown), (false, Down)]), Unknown);
        assert_eq!(of(&[(true, Unknown), (true, Down)]), Down);
        assert_eq!(of(&[(true, Up), (false, Unknown)]), Degraded);
    }
}
