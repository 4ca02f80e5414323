//! `/api/v1/history` and `/api/v1/uptime`: what has been, from the file and from the report.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use comind_model::event::Event;
use comind_model::ledger::Stretch;
use comind_model::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::api::problem::Problem;
use crate::config::duration::Span;
use crate::history::query::{self, Told};
use crate::history::report::Record;

/// Transitions in one answer, unless asked for fewer.
const LIMIT: u32 = 1_000;
/// The most that may be asked for.
const MOST: u32 = 10_000;

/// What is asked.
#[derive(Debug, Deserialize)]
pub struct Asked {
    target: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Document {
    from: Timestamp,
    to: Timestamp,
    /// Newest first.
    transitions: Vec<Event>,
    outages: Vec<Told>,
    uptime: Option<Record>,
    /// Whether there are older transitions than those; ask again with `to` at the last one.
    more: bool,
}

/// The handler of `/api/v1/history`.
pub async fn history(State(api): State<Api>, Query(asked): Query<Asked>) -> Response {
    let now = api.clock.now();
    let stretch = match stretch(&asked, now) {
        Ok(stretch) => stretch,
        Err(error) => {
            let advice = "write RFC 3339 such as 2026-11-25T10:00:00Z, or a time ago such as -24h";
            return Problem::new(StatusCode::BAD_REQUEST, error, advice).into_response();
        }
    };
    let limit = asked.limit.unwrap_or(LIMIT).clamp(1, MOST);
    let target = asked.target.clone();
    let found = query::ask(&api.history, move |connection| {
        query::transitions(connection, target.as_deref(), stretch, limit + 1)
    })
    .await;
    let mut transitions = match found {
        Ok(transitions) => transitions,
        Err(error) => return not_kept(error),
    };
    let more = transitions.len() > limit as usize;
    transitions.truncate(limit as usize);
    let report = api.history.report.borrow().clone();
    let record = asked
        .target
        .and_then(|target| report.records.get(&*target).cloned());
    Json(Document {
        from: stretch.0,
        to: stretch.1,
        outages: query::outages_in(&transitions, now),
        transitions,
        uptime: record,
        more,
    })
    .into_response()
}

/// 503 with what is wrong.
pub fn not_kept(error: String) -> Response {
    let advice = "see the log and comind_history_kept; the state of now is at /api/v1/state";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error, advice).into_response()
}

fn stretch(asked: &Asked, now: Timestamp) -> Result<Stretch, String> {
    let from = match &asked.from {
        Some(text) => moment(text, now)?,
        None => now - Duration::from_secs(24 * 3_600),
    };
    let to = match &asked.to {
        Some(text) => moment(text, now)?,
        None => now + Duration::from_secs(1),
    };
    match from < to {
        true => Ok((from, to)),
        false => Err("`from` is not before `to`".to_owned()),
    }
}

/// A time, or how long ago.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago: Span = ago.parse()?;
        return Ok(now - ago.0);
    }
    // A plus in a query is a space to those who do not escape it.
    let text = text.replace(' ', "+");
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| Timestamp::from_micros(at.as_microsecond()))
        .map_err(|_| "that is no time".to_owned())
}

/// The handler of `/api/v1/uptime`: every target's record.
pub async fn uptime(State(api): State<Api>) -> Response {
    let report = api.history.report.borrow().clone();
    let records: BTreeMap<_, _> = report.records.iter().collect();
    Json(serde_json::json!({
        "targets": records,
        "trouble": report.trouble,
    }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_nonsense_is_refused() {
        let now = Timestamp::from_micros(1_795_400_000_000_000);
        let ok = |text: &str| moment(text, now).unwrap();
        assert_eq!(ok("-1h"), now - Duration::from_secs(3600));
        assert_eq!(ok("2026-11-23T02:13:20Z"), now);
        assert_eq!(ok("2026-11-23T03:13:20 01:00"), now);
        for bad in ["", "-", "-1", "tomorrow", "2026-13-01T00:00:00Z", "--1h"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
