//! `/api/v1/sessions`: who is logged in at the proxy beside us, and ending that. Must not know who
//! holds sessions: it asks what it was handed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use comind_model::session::{By, Listed, Sessions, Which};
use serde::Deserialize;
use serde_json::json;

use crate::access::right::{Asker, Right};
use crate::api::Api;
use crate::api::guard::may_not_change;
use crate::api::problem::Problem;

/// So many are listed where nothing is asked for, and at most.
const LISTED: usize = 200;
const MOST: usize = 10_000;

/// What of a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    by: Option<String>,
    limit: Option<usize>,
}

/// Whose sessions are to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    user: String,
}

/// Whether one session ends, or all of its user.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extent {
    all_of_user: bool,
}

/// Some of those that last.
pub async fn list(
    State(api): State<Api>,
    Extension(asker): Extension<Asker>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Response {
    if asker.right < Right::Look {
        let error = "without a login who is logged in is told on this machine only";
        let advice = "set `api.users` or `api.tokens`, or ask from the machine itself";
        return Problem::new(StatusCode::FORBIDDEN, error, advice).into_response();
    }
    let by = match &wanted {
        Ok(Query(wanted)) => match wanted.by.as_deref().map(By::of) {
            Some(None) => None,
            Some(by) => by,
            None => Some(By::default()),
        },
        Err(_) => None,
    };
    let (Some(by), Ok(Query(wanted))) = (by, wanted) else {
        let words: Vec<_> = By::ALL.iter().map(|by| by.as_str()).collect();
        let error = format!("the question is not `by` one of: {}", words.join(", "));
        let advice = "ask with `by` and `limit`, or with neither";
        return Problem::new(StatusCode::BAD_REQUEST, error, advice).into_response();
    };
    let most = wanted.limit.unwrap_or(LISTED).min(MOST);
    let sessions = api.sessions.clone();
    // A hundred thousand of them are milliseconds of work: not on a thread that probes run on.
    let asked = tokio::task::spawn_blocking(move || {
        let sessions = sessions?;
        let listed = sessions.list(by, most)?;
        Some((listed, sessions.place().to_owned()))
    });
    match asked.await {
        Ok(found) => {
            let logins = found.is_some();
            let (listed, place) = found.unzip();
            let Listed { open, first } = listed.unwrap_or_default();
            let told =
                json!({ "logins": logins, "held_by": place, "open": open, "sessions": first });
            Json(told).into_response()
        }
        Err(error) => Problem::fault(error.to_string()).into_response(),
    }
}

/// Ends one, or all of its user.
pub async fn end(
    State(api): State<Api>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    extent: Result<Query<Extent>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(extent)) = extent else {
        let error = "the question is not `all_of_user`, true or false";
        let advice = "DELETE with nothing more, or with `?all_of_user=true`";
        return Problem::new(StatusCode::BAD_REQUEST, error, advice).into_response();
    };
    let end = move |sessions: &dyn Sessions, who: &str| {
        let which = match extent.all_of_user {
            true => Which::UserOf(&id),
            false => Which::Id(&id),
        };
        sessions.end(which, who)
    };
    ended(&api, &asker, end).await
}

/// Ends all of one user.
pub async fn end_all(
    State(api): State<Api>,
    Extension(asker): Extension<Asker>,
    whose: Result<Query<Whose>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(whose)) = whose else {
        let error = "it is not said whose sessions are to end";
        let advice = "DELETE with `?user=NAME`, or name one session in the path";
        return Problem::new(StatusCode::BAD_REQUEST, error, advice).into_response();
    };
    let end = move |sessions: &dyn Sessions, who: &str| sessions.end(Which::User(&whose.user), who);
    ended(&api, &asker, end).await
}

async fn ended(
    api: &Api,
    asker: &Asker,
    end: impl FnOnce(&dyn Sessions, &str) -> usize + Send + 'static,
) -> Response {
    if let Some(refusal) = may_not_change(asker) {
        return refusal;
    }
    let Some(sessions): Option<Arc<dyn Sessions>> = api.sessions.clone() else {
        return nobody();
    };
    let who = format!("the API, {}", asker.who);
    match tokio::task::spawn_blocking(move || end(&*sessions, &who)).await {
        Ok(0) => Problem::not_found(
            "there is no such session; it may have ended already",
            "GET /api/v1/sessions lists them",
        )
        .into_response(),
        Ok(count) => {
            tracing::info!(who = asker.who, count, "sessions were ended by the API");
            Json(json!({ "ended": count })).into_response()
        }
        Err(error) => Problem::fault(error.to_string()).into_response(),
    }
}

fn nobody() -> Response {
    Problem::not_found(
        "nobody can log in here: this process has no `proxy.logins`",
        "ask the process that the proxy with the logins runs in",
    )
    .into_response()
}
