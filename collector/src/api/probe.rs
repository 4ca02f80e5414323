//! `/probe?target=URL&kind=`: one look at a target that the config allows.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::api::Api;
use crate::api::problem::Problem;
use crate::once;

const TIMEOUT: Duration = Duration::from_secs(5);

/// What to look at.
#[derive(Debug, Deserialize)]
pub struct Asked {
    target: String,
    #[serde(default = "http")]
    kind: String,
}

fn http() -> String {
    "http".to_owned()
}

/// The handler.
pub async fn probe(State(api): State<Api>, Query(asked): Query<Asked>) -> Response {
    let policy = api.policy.borrow().clone();
    if !policy.allows(&asked.target) {
        // The target is not repeated: it may carry a password.
        let error = "the config does not allow this target";
        let advice = "add it to `probe.allow` in the config";
        return Problem::new(StatusCode::FORBIDDEN, error, advice).into_response();
    }
    match once::look(&asked.kind, &asked.target, TIMEOUT).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => {
            let advice =
                "give target=URL and kind=, one of those that `comind-ops config schema` lists";
            Problem::new(StatusCode::BAD_REQUEST, error, advice).into_response()
        }
    }
}
