//! What a failed request is answered: an error and an advice, as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error answer.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    error: String,
    advice: &'static str,
}

impl Problem {
    /// With any status.
    pub fn new(status: StatusCode, error: impl Into<String>, advice: &'static str) -> Self {
        Self {
            status,
            error: error.into(),
            advice,
        }
    }

    /// 404.
    pub fn not_found(error: impl Into<String>, advice: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, advice)
    }

    /// 500: our own fault.
    pub fn fault(error: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error,
            "this is a defect of comind-ops: please report it",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
