//! `/api/v1/maintenance`: what is planned or on, beginning one, ending one.
//! Must not know how it is kept.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::access::right::Asker;
use crate::api::Api;
use crate::api::guard::{Client, may_not_change};
use crate::api::problem::Problem;
use crate::maintenance::{Refusal, Wanted};

/// Those that somebody began and that are not over.
pub async fn list(State(api): State<Api>) -> Response {
    Json(json!({ "maintenance": api.desk.list(api.clock.now()) })).into_response()
}

/// Begins one. A JSON body is what browsers of other sites cannot send without asking.
pub async fn begin(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Extension(asker): Extension<Asker>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Response {
    if let Some(refusal) = may_not_change(&asker) {
        return refusal;
    }
    let Json(wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(rejection) => {
            let advice = r#"send {"name": "disks", "targets": ["db*"], "duration": "1h"} as application/json"#;
            return Problem::new(rejection.status(), rejection.body_text(), advice).into_response();
        }
    };
    let (desk, now) = (api.desk.clone(), api.clock.now());
    match tokio::task::spawn_blocking(move || desk.begin(wanted, now)).await {
        Ok(Ok(begun)) => {
            let (name, client) = (&begun.name, client.0);
            tracing::info!(%client, until = %begun.until, "maintenance `{name}` was begun by the API");
            (StatusCode::CREATED, Json(begun)).into_response()
        }
        Ok(Err(refusal)) => refuse(refusal),
        Err(error) => Problem::fault(error.to_string()).into_response(),
    }
}

/// Ends one now.
pub async fn end(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Response {
    if let Some(refusal) = may_not_change(&asker) {
        return refusal;
    }
    let (desk, now) = (api.desk.clone(), api.clock.now());
    match tokio::task::spawn_blocking(move || desk.end(&id, now)).await {
        Ok(Ok(())) => {
            tracing::info!(client = %client.0, "a maintenance was ended by the API");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(Err(refusal)) => refuse(refusal),
        Err(error) => Problem::fault(error.to_string()).into_response(),
    }
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Wrong(why) => {
            let advice =
                "send `name`, `targets`, `duration` and, if it is not to begin now, `from`";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why, advice).into_response()
        }
        Refusal::Unknown => Problem::not_found(
            "there is no such maintenance, or it is over",
            "GET this path without the id lists them",
        )
        .into_response(),
        Refusal::NotKept(why) => {
            let advice =
                "nothing was changed; make room in `data_dir` or mend its rights, and try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why, advice).into_response()
        }
    }
}
