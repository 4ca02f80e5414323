//! Whether this process leads, from what was seen of the lease. Pure.
//!
//! Clocks of different machines are never compared: another's lease has run out when *we* have seen
//! no change of it for its whole duration. Our own is given up by our own clock, earlier than
//! anybody could take it, so that two never lead at once.

use std::time::Duration;

/// How long a lease lasts, and when it is renewed and given up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Nobody may take it for so long after its last change.
    pub duration: Duration,
    /// The holder renews it this often; others look at it this often.
    pub renew: Duration,
    /// A holder that could not renew it for so long leads no more.
    pub give_up: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(6),
            renew: Duration::from_secs(2),
            give_up: Duration::from_secs(4),
        }
    }
}

/// What was seen of a lease. Times are of our own clock, from any fixed moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// Changes with every renewal.
    pub version: String,
    /// How long it lasts by the holder's word.
    pub duration: Duration,
    /// When we first saw this version.
    pub since: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Write it as ours.
    Take,
    /// Write it as still ours.
    Renew,
    /// Another one leads.
    Wait,
}

/// Decides by what was seen; `None`: there is no lease yet.
pub fn decide(seen: Option<&Seen>, me: &str, now: Duration) -> Do {
    let Some(seen) = seen else { return Do::Take };
    if seen.holder == me {
        return Do::Renew;
    }
    let silent = now.saturating_sub(seen.since);
    match seen.holder.is_empty() || silent > seen.duration {
        true => Do::Take,
        false => Do::Wait,
    }
}

/// Whether we lead, when our last renewal was *begun* at `renewed`: another may count from then.
pub fn leads(renewed: Option<Duration>, terms: Terms, now: Duration) -> bool {
    renewed.is_some_and(|renewed| now.saturating_sub(renewed) < terms.give_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(holder: &str, since: u64) -> Seen {
        Seen {
            holder: holder.into(),
            version: "1".into(),
            duration: Duration::from_secs(6),
            since: Duration::from_secs(since),
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_has_run_out() {
        let at = Duration::from_secs;
        assert_eq!(decide(None, "me", at(0)), Do::Take);
        assert_eq!(decide(Some(&seen("", 0)), "me", at(0)), Do::Take);
        assert_eq!(decide(Some(&seen("you", 0)), "me", at(6)), Do::Wait);
        assert_eq!(decide(Some(&seen("you", 0)), "me", at(7)), Do::Take);
        assert_eq!(decide(Some(&seen("me", 0)), "me", at(99)), Do::Renew);
    }

    /// One lease, two replicas, each with its own clock offset, stalls and failing writes.
    #[derive(Clone, Debug)]
    struct Replica {
        seen: Option<Seen>,
        renewed: Option<Duration>,
    }

    proptest! {
        /// However they stall and whichever writes fail: two replicas never lead at once.
        #[test]
        fn two_never_lead_at_once(steps in proptest::collection::vec((0usize..2, 0u64..5000, any::<bool>()), 1..300)) {
            let terms = Terms::default();
            let names = ["a", "b"];
            let mut replicas = vec![Replica { seen: None, renewed: None }; 2];
            let mut lease: Option<(String, u64)> = None;
            let mut now = Duration::ZERO;
            for (who, pause, reached) in steps {
                now += Duration::from_millis(pause);
                let me = &mut replicas[who];
                if reached {
                    // A look: a new version is dated when it is first seen.
                    if let Some((holder, version)) = &lease {
                        let version = version.to_string();
                        if me.seen.as_ref().is_none_or(|seen| seen.version != version) {
                            me.seen = Some(Seen { holder: holder.clone(), version, duration: terms.duration, since: now });
                        }
                    }
                    // The write follows at once: the API server refuses it if it changed meanwhile.
                    if decide(me.seen.as_ref(), names[who], now) != Do::Wait {
                        let version = lease.as_ref().map_or(0, |(_, version)| *version) + 1;
                        lease = Some((names[who].to_owned(), version));
                        me.seen = Some(Seen { holder: names[who].into(), version: version.to_string(), duration: terms.duration, since: now });
                        me.renewed = Some(now);
                    } else {
                        me.renewed = None;
                    }
                }
                let leading = replicas.iter().filter(|replica| leads(replica.renewed, terms, now)).count();
                prop_assert!(leading <= 1, "{replicas:?} at {now:?}");
            }
        }
    }
}
