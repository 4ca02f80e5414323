//! How the whole platform is, readable from across a room: one word, one shape, one sentence.
//! Must not know how a single target is shown.

use std::sync::Arc;

use comind_model::health::Health;
use comind_model::snapshot::Snapshot;
use comind_model::state::State;
use comind_model::timestamp::Timestamp;
use maud::{Markup, html};

use super::assets::anchor;
use super::{format, moment, name, shape, text};

/// How many targets the banner names.
const NAMED: usize = 4;

/// The document's title: the worst first, since tabs are narrow.
pub(super) fn title(snapshot: &Snapshot) -> String {
    if snapshot.targets.is_empty() {
        let what = if snapshot.complete {
            "nothing watched"
        } else {
            "starting"
        };
        return format!("(?) {what} – comind-ops");
    }
    for (health, mark) in [
        (Health::Down, '!'),
        (Health::Degraded, '~'),
        (Health::Unknown, '?'),
    ] {
        let number = count(snapshot, health);
        if number > 0 {
            return format!("({mark}) {number} {health} – comind-ops");
        }
    }
    "All up – comind-ops".to_owned()
}

/// Those which are not up, worst first; the config's order among equals.
pub(super) fn unwell(snapshot: &Snapshot) -> Vec<&Arc<State>> {
    let mut unwell: Vec<_> = snapshot
        .targets
        .iter()
        .filter(|state| state.standing().health != Health::Up)
        .collect();
    unwell.sort_by_key(|state| (severity(state.standing().health), !state.target().required));
    unwell
}

const fn severity(health: Health) -> u8 {
    match health {
        Health::Down => 0,
        Health::Degraded => 1,
        Health::Unknown => 2,
        Health::Up => 3,
    }
}

fn count(snapshot: &Snapshot, health: Health) -> usize {
    snapshot
        .targets
        .iter()
        .filter(|state| state.standing().health == health)
        .count()
}

/// The banner.
pub(super) fn banner(snapshot: &Snapshot, now: Timestamp) -> Markup {
    let health = snapshot.health();
    let unwell = unwell(snapshot);
    html! {
        section class=(format!("overall {health}")) aria-labelledby="overall" {
            (shape(health))
            div class="says" {
                h1 id="overall" { span class="unseen" { "The platform is " } (text::capital(health)) }
                @if unwell.is_empty() { (calm(snapshot, now)) } @else { (causes(&unwell, now)) }
            }
            div class="figures" {
                ul class="tally" {
                    @for health in Health::ALL {
                        @let number = count(snapshot, health);
                        @if number > 0 {
                            li class=(health) { (shape(health)) b { (number) } " " (health) }
                        }
                    }
                }
                p class="clock" { (moment(now, &format::clock(now, now))) " UTC" }
            }
        }
    }
}

fn calm(snapshot: &Snapshot, now: Timestamp) -> Markup {
    let changed = snapshot
        .targets
        .iter()
        .map(|state| state.standing().since)
        .max();
    html! {
        @match (snapshot.targets.len(), changed) {
            (1, Some(since)) => p class="lede" {
                "The one target works, and has for " (moment(since, &format::span(now.since(since)))) "."
            },
            (number, Some(since)) => p class="lede" {
                "All " (format::count(number as f64)) " targets work. Nothing has changed for "
                (moment(since, &format::span(now.since(since)))) "."
            },
            _ => p class="lede" { "Nothing is watched." },
        }
    }
}

fn causes(unwell: &[&Arc<State>], now: Timestamp) -> Markup {
    let left_out = unwell.len().saturating_sub(NAMED);
    html! {
        ul class="causes" {
            @for state in unwell.iter().take(NAMED) {
                @let standing = state.standing();
                li {
                    (shape(standing.health))
                    span {
                        a href=(format!("#{}", anchor(&state.target().name))) { (name(&state.target().name, 80)) }
                        " " (standing.health) " for " (moment(standing.since, &format::span(now.since(standing.since))))
                        ": " (text::words(standing.reason.as_str()))
                    }
                }
            }
            @if left_out > 0 { li class="more" { "and " (format::plural(left_out, "other")) } }
        }
    }
}
