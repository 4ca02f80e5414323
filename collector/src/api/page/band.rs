//! The last hour of one target as a band: how it was, minute by minute, so that an outage
//! which is over is still seen.
//! Must not know tiles.

use std::time::Duration;

use comind_model::health::Health;
use comind_model::snapshot::Snapshot;
use comind_model::state::State;
use comind_model::timestamp::Timestamp;
use maud::{Markup, html};

use super::{format, moment};

/// How far back the band goes.
const LENGTH: Duration = Duration::from_secs(3600);

/// Unknown for less than this at the beginning is a first look on its way.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A stretch of time in which a target's health was the same.
#[derive(Debug, PartialEq)]
struct Stretch {
    health: Health,
    from: Timestamp,
    to: Timestamp,
}

impl Stretch {
    fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// The band of one target.
pub(super) fn picture(state: &State, snapshot: &Snapshot, now: Timestamp) -> Markup {
    let stretches = stretches(state, snapshot, now);
    html! {
        div class="hour" {
            svg class="band" viewBox="0 0 3600 8" preserveAspectRatio="none" aria-hidden="true" {
                @for stretch in &stretches {
                    @let width = width(stretch, now);
                    rect class=(stretch.health) x=(second(stretch.from, now).min(LENGTH.as_secs() - width)) width=(width)
                        y=(8 - height(stretch.health)) height=(height(stretch.health)) {}
                }
            }
            p { (words(&stretches)) }
            @if let Some(seen) = state.last_seen() {
                p class="looked" { "looked " (moment(seen, &format::age(now.since(seen)))) " ago" }
            }
        }
    }
}

/// Down stands tallest: the band tells without its colours.
const fn height(health: Health) -> u8 {
    match health {
        Health::Up => 2,
        Health::Unknown => 4,
        Health::Degraded => 5,
        Health::Down => 8,
    }
}

fn second(at: Timestamp, now: Timestamp) -> u64 {
    LENGTH.as_secs().saturating_sub(now.since(at).as_secs())
}

/// An outage of a second must be seen, so nothing is narrower than some pixels.
fn width(stretch: &Stretch, now: Timestamp) -> u64 {
    let width = second(stretch.to, now) - second(stretch.from, now);
    if stretch.health == Health::Up {
        width
    } else {
        width.max(24)
    }
}

/// Goes back from what is true now through what is remembered of the target, newest first.
fn stretches(state: &State, snapshot: &Snapshot, now: Timestamp) -> Vec<Stretch> {
    let start = known_since(snapshot, now);
    let events = snapshot
        .timeline
        .iter()
        .rev()
        .filter(|event| event.target == state.target().name);
    let mut stretches = Vec::new();
    let (mut health, mut to) = (state.standing().health, now);
    for event in events.take_while(|event| event.at > start) {
        stretches.push(Stretch {
            health,
            from: event.at.min(to),
            to,
        });
        (health, to) = (event.from, event.at.min(to));
    }
    stretches.push(Stretch {
        health,
        from: start.min(to),
        to,
    });
    stretches.reverse();
    // Between the start of the program and the first look there is nothing to tell.
    if let [first, _, ..] = &stretches[..]
        && first.health == Health::Unknown
        && first.length() < FIRST_LOOK
    {
        stretches.remove(0);
    }
    stretches
}

/// The timeline is bounded: before its oldest transition nothing is claimed.
fn known_since(snapshot: &Snapshot, now: Timestamp) -> Timestamp {
    let start = now - LENGTH;
    snapshot
        .timeline
        .first()
        .map_or(start, |oldest| oldest.at.max(start))
}

fn words(stretches: &[Stretch]) -> String {
    let told: Vec<String> = [Health::Down, Health::Degraded, Health::Unknown]
        .into_iter()
        .filter_map(|health| {
            let length: Duration = stretches
                .iter()
                .filter(|s| s.health == health)
                .map(Stretch::length)
                .sum();
            (!length.is_zero()).then(|| format!("{health} {}", format::lasted(length)))
        })
        .collect();
    let known: Duration = stretches.iter().map(Stretch::length).sum();
    let hour = if known < LENGTH - FIRST_LOOK {
        format::span(known)
    } else {
        "hour".to_owned()
    };
    if told.is_empty() {
        format!("last {hour}: up")
    } else {
        format!("last {hour}: {}", told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, FILLING, Fate, NOW, REFUSED};
    use super::*;

    fn of(name: &str, snapshot: &Snapshot) -> Vec<(Health, u64)> {
        let state = snapshot.target(name).unwrap();
        let stretches = stretches(state, snapshot, NOW);
        stretches
            .iter()
            .map(|s| (s.health, s.length().as_secs()))
            .collect()
    }

    #[test]
    fn the_band_ends_in_what_is_true_now() {
        let snapshot = samples::platform(REFUSED, Fate::Up, FILLING, Fate::NeverSeen);
        assert_eq!(
            of("postgresql", &snapshot),
            [(Health::Up, 3588), (Health::Down, 12)]
        );
        assert_eq!(of("minio", &snapshot), [(Health::Up, 3600)]);
        assert_eq!(
            of("redis", &snapshot),
            [(Health::Up, 3505), (Health::Degraded, 95)]
        );
        assert_eq!(of("elasticmq", &snapshot), [(Health::Unknown, 3600)]);
    }

    #[test]
    fn nothing_is_claimed_of_a_time_that_was_forgotten() {
        let mut snapshot = samples::platform(REFUSED, Fate::Up, FILLING, Fate::Up);
        snapshot.timeline = snapshot.timeline[snapshot.timeline.len() - 2..].into();
        assert_eq!(of("minio", &snapshot), [(Health::Up, 95)]);
        let minio = snapshot.target("minio").unwrap();
        assert_eq!(
            words(&stretches(minio, &snapshot, NOW)),
            "last 1\u{a0}min 35\u{a0}s: up"
        );
    }

    #[test]
    fn the_words_say_how_long() {
        let snapshot = samples::platform(REFUSED, Fate::Up, FILLING, Fate::Up);
        let words = |name| words(&stretches(snapshot.target(name).unwrap(), &snapshot, NOW));
        assert_eq!(words("postgresql"), "last hour: down 12\u{a0}s");
        assert_eq!(words("minio"), "last hour: up");
    }

    #[test]
    fn a_short_outage_is_wide_enough_to_be_seen() {
        let blip = Stretch {
            health: Health::Down,
            from: NOW - Duration::from_secs(60),
            to: NOW - Duration::from_secs(59),
        };
        assert_eq!(width(&blip, NOW), 24);
    }
}
