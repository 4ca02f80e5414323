//! `/livez` and `/readyz`: how the prober itself is. Neither is a constant.

use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::Instant;

use crate::api::Api;

/// 200 while every task of ours gives its signs of life, the store above all.
pub async fn livez(State(api): State<Api>) -> (StatusCode, String) {
    let tasks = api.vitals.all(Instant::now()).into_iter();
    let problems: Vec<String> = tasks.filter_map(|vital| vital.problem).collect();
    if problems.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let text = problems.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

/// 200 once every target has been looked at once.
pub async fn readyz(State(api): State<Api>) -> (StatusCode, String) {
    let snapshot = api.readers.snapshot();
    if !snapshot.complete {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the config is not in force yet\n".to_owned(),
        );
    }
    let waiting: Vec<&str> = snapshot
        .targets
        .iter()
        .filter(|state| !state.looked_at())
        .map(|state| &*state.target().name)
        .collect();
    if waiting.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let some = waiting
        .iter()
        .take(10)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let text = format!(
        "{} targets have not been looked at yet: {some}\n",
        waiting.len()
    );
    (StatusCode::SERVICE_UNAVAILABLE, text)
}
