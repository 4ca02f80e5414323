//! `/feed.atom`: the last outages, for whoever reads news. Must not know how outages are found.
//!
//! Source of the format: RFC 4287.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use comind_model::timestamp::Timestamp;
use maud::{Markup, PreEscaped, html};

use crate::api::Api;
use crate::api::history::not_kept;
use crate::history::query::{self, Told};

/// Outages in the feed.
const ENTRIES: usize = 50;
/// Transitions in which they are looked for.
const LOOKED_AT: u32 = 2_000;

/// The handler.
pub async fn feed(State(api): State<Api>, headers: HeaderMap) -> Response {
    let now = api.clock.now();
    let all = (
        Timestamp::default(),
        now + std::time::Duration::from_secs(1),
    );
    let found = query::ask(&api.history, move |connection| {
        query::transitions(connection, None, all, LOOKED_AT)
    });
    let transitions = match found.await {
        Ok(transitions) => transitions,
        Err(error) => return not_kept(error),
    };
    let mut outages = query::outages_in(&transitions, now);
    outages.truncate(ENTRIES);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let updated = outages
        .iter()
        .map(|told| told.outage.end.unwrap_or(told.outage.start))
        .max();
    let text = document(
        &outages,
        host.unwrap_or("comind-ops"),
        updated.unwrap_or(now),
    );
    let headers = [
        (header::CONTENT_TYPE, "application/atom+xml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text.into_string()).into_response()
}

fn document(outages: &[Told], host: &str, updated: Timestamp) -> Markup {
    html! {
        (PreEscaped("<?xml version=\"1.0\" encoding=\"utf-8\"?>"))
        feed xmlns="http://www.w3.org/2005/Atom" {
            id { "tag:" (host) ",2026:comind-ops/outages" }
            title { "Outages" }
            updated { (updated) }
            author { name { "comind-ops" } }
            @for told in outages { (entry(told, host)) }
        }
    }
}

fn entry(told: &Told, host: &str) -> Markup {
    let Told {
        target,
        outage,
        duration_seconds,
    } = told;
    html! {
        entry {
            id { "tag:" (host) ",2026:comind-ops/outages/" (target) "/" (outage.start.as_micros()) }
            title {
                (target) " "
                @match outage.end {
                    Some(_) => { "was down for " (format!("{duration_seconds:.0}")) " s" }
                    None => { "is down" }
                }
                ": " (outage.reason)
            }
            published { (outage.start) }
            updated { (outage.end.unwrap_or(outage.start)) }
            content type="text" { (outage.message) " " (outage.reason.advice()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comind_model::ledger::Outage;
    use comind_model::reason::Reason;

    #[test]
    fn an_entry_keeps_its_id_when_the_outage_ends() {
        let mut told = Told {
            target: "a<b".into(),
            outage: Outage {
                start: Timestamp::from_micros(1_795_400_000_000_000),
                end: None,
                reason: Reason::Refused,
                message: "no & no".into(),
            },
            duration_seconds: 7.0,
        };
        let id = |text: &str| {
            text.split("<id>")
                .nth(2)
                .map(|rest| rest.split('<').next().map(str::to_owned))
        };
        let open = document(&[told.clone()], "h", told.outage.start).into_string();
        told.outage.end = Some(Timestamp::from_micros(1_795_400_007_000_000));
        let ended = document(&[told.clone()], "h", told.outage.start).into_string();
        assert_eq!(id(&open), id(&ended));
        assert!(open.contains("a&lt;b is down") && ended.contains("was down for 7 s"));
        assert!(ended.contains("no &amp; no"));
    }
}
