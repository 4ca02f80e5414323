//! The live page: one HTML document, written on the server and nowhere else. A script fetches
//! the live part again when something happens; without it the page is a static picture.
//! Must not know HTTP, nor where snapshots come from.

mod assets;
mod band;
mod facts;
mod format;
mod notices;
mod overall;
pub mod sessions;
mod sparkline;
pub mod target;
mod text;
mod tile;
mod timeline;

pub use assets::{ASSETS, CSP};
pub use notices::Notices;
pub use sessions::Sessions;

use std::sync::Arc;

use comind_model::health::Health;
use comind_model::snapshot::Snapshot;
use comind_model::state::State;
use comind_model::timestamp::Timestamp;
use maud::{DOCTYPE, Markup, html};

use assets::{VERSION, address, icon};

/// With more targets than this, healthy ones get a small tile, and what needs attention is
/// told in full above them.
const FEW: usize = 60;
/// How many targets that need attention are told in full when there are many.
const TOLD: usize = 8;
/// How many more of them unfold.
const FOLDED: usize = 100;

/// What else the page says, beside how the platform is.
#[derive(Debug, Default)]
pub struct Beside {
    /// What people are not told.
    pub notices: Notices,
    /// Who is logged in; nothing where nobody can.
    pub sessions: Option<Sessions>,
}

/// The whole document. `build` is the version of the running program.
pub fn render(snapshot: &Snapshot, beside: &Beside, now: Timestamp, build: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(&overall::title(snapshot), snapshot.health(), ""))
                script src=(address("page.js")) defer {}
                script src=(address("sessions.js")) defer {}
                // Without a script, the picture is taken anew now and then.
                noscript { meta http-equiv="refresh" content="10"; }
            }
            body {
                a class="skip" href="#live" { "Skip to the state of the platform" }
                (shapes())
                (header(now))
                p id="lost" role="alert" {}
                main id="live" tabindex="-1" { (live(snapshot, beside, now)) }
                (sessions::question())
                (footer(build))
                div id="announce" class="unseen" role="log" aria-live="polite" aria-label="Changes" {}
            }
        }
    }
}

/// What the heads of all documents hold. `base` leads from the document to the root.
fn head(title: &str, health: Health, base: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        meta name="robots" content="noindex";
        title { (title) }
        link rel="icon" type="image/svg+xml" href=(format!("{base}{}", icon(health)));
        link rel="stylesheet" href=(format!("{base}{}", address("page.css")));
    }
}

/// The live part: what stands inside `<main id="live">`.
pub fn live(snapshot: &Snapshot, beside: &Beside, now: Timestamp) -> Markup {
    let Beside { notices, sessions } = beside;
    let rows = sessions::rows(sessions.as_ref());
    let count = snapshot.targets.len();
    let density = match count {
        0..=6 => "live few",
        7..=FEW => "live some",
        _ => "live many",
    };
    html! {
        div class=(density) data-health=(snapshot.health()) data-title=(overall::title(snapshot))
            data-icon=(icon(snapshot.health())) data-version=(format!("{VERSION:016x}"))
            data-at=(format::clock(now, now)) data-count=(count) data-refresh-ms=(refresh_ms(count + rows)) {
            (overall::banner(snapshot, now))
            (notices::section(notices))
            @if count == 0 { (nothing_to_watch(snapshot.complete)) } @else {
                div class="board" {
                    div class="groups" {
                        @if count > FEW { (attention(snapshot, now)) }
                        (group(snapshot, now, true))
                        (group(snapshot, now, false))
                    }
                    (timeline::section(snapshot, now))
                }
            }
            (sessions::section(sessions.as_ref(), now))
        }
    }
}

/// How often an open page asks for figures; transitions come by themselves.
const fn refresh_ms(items: usize) -> u32 {
    match items {
        0..=20 => 1_000,
        21..=200 => 2_000,
        _ => 5_000,
    }
}

/// One section of tiles. The order is the config's, so that no tile ever jumps.
fn group(snapshot: &Snapshot, now: Timestamp, required: bool) -> Markup {
    let states = || {
        snapshot
            .targets
            .iter()
            .filter(|state| state.target().required == required)
    };
    let (id, name) = if required {
        ("required", "Required")
    } else {
        ("optional", "Optional")
    };
    let small = snapshot.targets.len() > FEW;
    html! {
        @if states().next().is_some() {
            section class="group" aria-labelledby=(id) {
                h2 id=(id) { (name) " " span class="number" { (states().count()) } }
                ul class="tiles" {
                    @for state in states() {
                        @if small { (tile::small(state)) } @else { (tile::full(state, snapshot, now)) }
                    }
                }
            }
        }
    }
}

/// Among many small tiles: those that are not well, told in full, worst first.
fn attention(snapshot: &Snapshot, now: Timestamp) -> Markup {
    let unwell: Vec<&Arc<State>> = overall::unwell(snapshot);
    let (told, rest) = unwell.split_at(unwell.len().min(TOLD));
    let left_out = rest.len().saturating_sub(FOLDED);
    html! {
        @if !unwell.is_empty() {
            section class="group attention" aria-labelledby="attention" {
                h2 id="attention" { "Needs attention " span class="number" { (unwell.len()) } }
                ul class="tiles" { @for state in told { (tile::told(state, now)) } }
                @if !rest.is_empty() {
                    details {
                        summary { (format::plural(rest.len() - left_out, "other")) }
                        ul class="tiles" { @for state in rest.iter().take(FOLDED) { (tile::told(state, now)) } }
                    }
                }
                @if left_out > 0 {
                    p class="more" { "and " (format::plural(left_out, "other")) ", marked below" }
                }
            }
        }
    }
}

fn nothing_to_watch(complete: bool) -> Markup {
    if !complete {
        return html! {
            section class="empty" aria-labelledby="empty" {
                h2 id="empty" { "Starting" }
                p { "The config is being taken in; its targets appear here in a moment." }
            }
        };
    }
    html! {
        section class="empty" aria-labelledby="empty" {
            h2 id="empty" { "Nothing is watched yet" }
            p { "Name what this platform needs under " code { "targets:" } " in the config, for example:" }
            pre { code {
                "targets:\n"
                "  - name: postgresql\n"
                "    kind: postgresql\n"
                "    required: true\n"
                "    url: postgres://USER:PASSWORD@127.0.0.1:5432/dev\n"
            } }
            p {
                "The file is read again as soon as it changes; this page follows. "
                code { "comind-ops config check FILE" } " finds mistakes, and "
                code { "comind-ops config schema" } " lists what can be said."
            }
        }
    }
}

fn header(now: Timestamp) -> Markup {
    html! {
        header class="bar" {
            p class="brand" { "comind" span { "-ops" } }
            // Only the script can filter; it shows this when there is enough to filter.
            search id="filter" hidden {
                label class="unseen" for="find" { "Find targets by name or kind" }
                input id="find" type="search" placeholder="Find by name or kind" autocomplete="off" spellcheck="false";
                label class="unseen" for="only" { "Show targets that are" }
                select id="only" {
                    option value="" { "all" }
                    option value="unwell" { "not up" }
                    @for health in Health::ALL { option value=(health) { (health) } }
                }
                output id="found" for="find only" {}
            }
            p id="link" class="link" { "Picture of " (format::clock(now, now)) " UTC" }
        }
    }
}

fn footer(build: &str) -> Markup {
    html! {
        footer class="bar" {
            p { "comind-ops " bdi { (build) } }
            nav aria-label="For machines" {
                a href="api/v1/state" { "State" }
                a href="metrics" { "Metrics" }
                a href="api/v1/openapi.json" { "API" }
            }
            noscript {
                p { "Scripts are off: this is a picture, taken anew every 10 seconds." }
            }
        }
    }
}

/// The four shapes of health, drawn once and used by name. Each differs in outline, so that
/// nobody has to tell green from red.
fn shapes() -> Markup {
    html! {
        svg class="unseen" aria-hidden="true" width="0" height="0" {
            symbol id="up" viewBox="0 0 24 24" {
                circle cx="12" cy="12" r="10" {}
                path class="mark" d="M7 12.5l3.4 3.5L17 8.8" {}
            }
            symbol id="degraded" viewBox="0 0 24 24" {
                path d="M12 2.2 23 21.5H1z" {}
                path class="mark" d="M12 9v6M12 18v.4" {}
            }
            symbol id="down" viewBox="0 0 24 24" {
                path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z" {}
                path class="mark" d="M7.8 7.8l8.4 8.4M16.2 7.8l-8.4 8.4" {}
            }
            symbol id="unknown" viewBox="0 0 24 24" {
                path d="M12 .8 23.2 12 12 23.2.8 12z" {}
                path class="mark" d="M7 12h.01M12 12h.01M17 12h.01" {}
            }
        }
    }
}

/// The shape of one health; its word always stands beside it.
fn shape(health: Health) -> Markup {
    html! { svg class="shape" aria-hidden="true" { use href=(format!("#{health}")) {} } }
}

/// Where long names and values may wrap.
const MAY_WRAP_BEHIND: [char; 6] = ['.', '-', '_', '/', ':', '@'];

/// A name from the config: kept from turning the direction of what stands around it, and free
/// to wrap behind dots and the like.
fn name(name: &str, limit: usize) -> Markup {
    let shown = text::clip(name, limit);
    html! { bdi { @for part in shown.split_inclusive(MAY_WRAP_BEHIND) { (part) wbr; } } }
}

/// A moment as the page shows it: short words, the exact time behind them.
fn moment(at: Timestamp, shown: &str) -> Markup {
    html! { time datetime=(at) title=(format::exact(at)) { (shown) } }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
