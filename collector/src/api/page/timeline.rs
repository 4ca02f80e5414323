//! What has happened: the last transitions, newest first, and how fast each was seen.
//! Must not know how targets are now.

use comind_model::event::Event;
use comind_model::reason::Reason;
use comind_model::snapshot::Snapshot;
use comind_model::timestamp::Timestamp;
use maud::{Markup, html};

use super::assets::anchor;
use super::{format, moment, name, shape, text};

/// How many transitions are shown; the others are in the history.
const SHOWN: usize = 50;
/// How many of them stand open.
const OPEN: usize = 12;
/// A message longer than this is cut; the API has it whole.
const MESSAGE: usize = 200;

/// The section with the last transitions.
pub(super) fn section(snapshot: &Snapshot, now: Timestamp) -> Markup {
    let mut newest = snapshot.timeline.iter().rev().take(SHOWN);
    let open: Vec<_> = newest.by_ref().take(OPEN).collect();
    let folded: Vec<_> = newest.collect();
    html! {
        section class="timeline" aria-labelledby="timeline" {
            h2 id="timeline" { "Timeline " span class="number" { "UTC" } }
            @if open.is_empty() { p class="small" { "No transition yet." } }
            ol { @for event in open { (entry(event, now)) } }
            @if !folded.is_empty() {
                details {
                    summary { (folded.len()) " earlier" }
                    ol { @for event in folded { (entry(event, now)) } }
                }
            }
        }
    }
}

fn entry(event: &Event, now: Timestamp) -> Markup {
    html! {
        li id=(format!("e{}", event.seq)) class=(event.to) {
            (shape(event.to))
            p class="happened" {
                (moment(event.at, &format::clock(event.at, now))) " "
                a href=(format!("#{}", anchor(&event.target))) { (name(&event.target, 80)) } " "
                span class="turn" { (event.from) " → " b { (event.to) } }
            }
            @if event.reason != Reason::Ok {
                p class="because" {
                    b { (text::words(event.reason.as_str())) }
                    @if !event.message.is_empty() { ": " bdi { (text::clip(&event.message, MESSAGE)) } }
                }
            }
            p class="detected" { (text::detected(event)) }
        }
    }
}
