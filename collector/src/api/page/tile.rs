//! One target: name, health in word and shape and colour, why and what to do, delay, facts.
//! Must not decide by other targets.

use std::fmt::Write as _;

use comind_model::health::Health;
use comind_model::reason::Reason;
use comind_model::snapshot::Snapshot;
use comind_model::state::State;
use comind_model::timestamp::Timestamp;
use maud::{Markup, html};

use super::assets::anchor;
use super::{band, facts, format, moment, shape, sparkline, text};

/// A name longer than this is cut; configs hold whatever people put there.
const NAME: usize = 120;
/// A message longer than this is cut; the API has it whole.
const MESSAGE: usize = 400;

/// A target with all that is known of it.
pub(super) fn full(state: &State, snapshot: &Snapshot, now: Timestamp) -> Markup {
    let anchor = anchor(&state.target().name);
    html! {
        li class=(format!("tile {}", state.standing().health)) id=(anchor) data-name=(name(state))
            data-kind=(state.target().kind) data-health=(state.standing().health) {
            (head(state, now))
            (why(state))
            (delay(state))
            (band::picture(state, snapshot, now))
            (facts::list(&state.facts(), now))
        }
    }
}

/// A target that is not well, told above many small tiles.
pub(super) fn told(state: &State, now: Timestamp) -> Markup {
    html! {
        li class=(format!("tile {}", state.standing().health)) id=(format!("a{}", anchor(&state.target().name)))
            data-name=(name(state)) data-kind=(state.target().kind) data-health=(state.standing().health) {
            (head(state, now))
            (why(state))
        }
    }
}

/// A target among very many: shape, name, word, delay.
pub(super) fn small(state: &State) -> Markup {
    let standing = state.standing();
    html! {
        li class=(format!("tile small {}", standing.health)) id=(anchor(&state.target().name))
            data-name=(name(state)) data-kind=(state.target().kind) data-health=(standing.health) {
            (shape(standing.health))
            h3 { a href=(page_of(state)) { bdi { (name(state)) } } }
            p {
                @match (standing.health, state.latency()) {
                    (Health::Up, Some(latency)) => { span class="unseen" { "up, " } (format::delay(latency)) },
                    (health, _) => (health),
                }
            }
        }
    }
}

/// Where its own page is.
fn page_of(state: &State) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
    let mut path = "target/".to_owned();
    for byte in state.target().name.bytes() {
        match plain(byte) {
            true => path.push(char::from(byte)),
            // Writing to a String cannot fail.
            false => drop(write!(path, "%{byte:02X}")),
        }
    }
    path
}

fn name(state: &State) -> String {
    text::clip(&state.target().name, NAME)
}

fn head(state: &State, now: Timestamp) -> Markup {
    let target = state.target();
    let standing = state.standing();
    let same = target.kind == &*target.name;
    html! {
        div class="head" {
            (shape(standing.health))
            h3 { a href=(page_of(state)) { (super::name(&state.target().name, NAME)) } }
            p class="word" { (text::capital(standing.health)) }
            p class="what" {
                @if !same { (target.kind) " · " }
                @if target.required { "required" } @else { "optional" }
            }
            p class="since" { "for " (moment(standing.since, &format::span(now.since(standing.since)))) }
        }
    }
}

fn why(state: &State) -> Markup {
    let standing = state.standing();
    html! {
        @if standing.reason != Reason::Ok {
            div class="why" {
                p class="reason" { (text::words(standing.reason.as_str())) }
                @if !standing.message.is_empty() {
                    p class="message" { bdi { (text::clip(&standing.message, MESSAGE)) } }
                }
                @if !standing.reason.advice().is_empty() { p class="advice" { (advice(standing.reason.advice())) } }
            }
        }
    }
}

/// Advice marks words of the config with backticks, as the log and the terminal show them.
fn advice(words: &str) -> Markup {
    html! {
        @for (index, part) in words.split('`').enumerate() {
            @if index % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

fn delay(state: &State) -> Markup {
    html! {
        div class="delay" {
            p class="now" {
                @match (state.standing().health, state.latency()) {
                    (Health::Up | Health::Degraded, Some(latency)) => {
                        span class="unseen" { "latency " } (format::delay(latency))
                    },
                    // Somebody else tells of it: nothing was asked that could take time.
                    (Health::Up | Health::Degraded, None) => "watched",
                    (Health::Unknown, _) if state.last_seen().is_none() => "not looked at yet",
                    (_, Some(latency)) => { "last answer in " (format::delay(latency)) },
                    (_, None) => "no answer",
                }
            }
            (sparkline::picture(state.latencies()))
        }
    }
}
