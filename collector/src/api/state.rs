//! `/api/v1/state`: how everything is, as JSON.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use comind_model::fact::Facts;
use comind_model::health::Health;
use comind_model::reason::Reason;
use comind_model::snapshot::Snapshot;
use comind_model::timestamp::Timestamp;
use serde::Serialize;

use crate::api::Api;

/// The document.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    health: Health,
    seq: u64,
    at: Timestamp,
    targets: Vec<Target<'a>>,
}

#[derive(Debug, Serialize)]
struct Target<'a> {
    name: &'a str,
    kind: &'static str,
    required: bool,
    /// The target that this one is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    health: Health,
    reason: Reason,
    message: &'a str,
    advice: &'static str,
    since: Timestamp,
    last_seen: Option<Timestamp>,
    latency_ms: Option<f64>,
    facts: Facts,
}

impl<'a> Document<'a> {
    /// The document of a snapshot.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            health: snapshot.health(),
            seq: snapshot.seq,
            at: snapshot.at,
            targets: snapshot
                .targets
                .iter()
                .map(|state| Target::of(state))
                .collect(),
        }
    }
}

impl<'a> Target<'a> {
    fn of(state: &'a comind_model::state::State) -> Self {
        let standing = state.standing();
        Self {
            name: &state.target().name,
            kind: state.target().kind,
            required: state.target().required,
            parent: state.target().parent.as_deref(),
            health: standing.health,
            reason: standing.reason,
            message: &standing.message,
            advice: standing.reason.advice(),
            since: standing.since,
            last_seen: state.last_seen(),
            latency_ms: state.latency().map(|latency| latency.as_secs_f64() * 1e3),
            facts: state.facts(),
        }
    }
}

/// The handler.
pub async fn state(State(api): State<Api>) -> Response {
    Json(Document::of(&api.readers.snapshot())).into_response()
}
