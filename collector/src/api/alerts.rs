//! `/api/v1/alerts`: what is open, what of it is not told and why, and how the receivers fare.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use comind_model::alert::Open;
use comind_model::timestamp::Timestamp;
use serde::Serialize;

use crate::api::Api;
use crate::notify::status::{Alerts, Meter};

#[derive(Serialize)]
struct Document<'a> {
    alerts: &'a [Open],
    flapping: &'a [std::sync::Arc<str>],
    leads: bool,
    not_kept: Option<&'a str>,
    receivers: Vec<Receiver<'a>>,
}

#[derive(Serialize)]
struct Receiver<'a> {
    name: &'a str,
    delivered: u64,
    failed: u64,
    dropped: u64,
    waiting: u64,
    last_success: Option<Timestamp>,
    error: Option<String>,
}

impl<'a> Receiver<'a> {
    fn of(meter: &'a Meter) -> Self {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            name: &meter.receiver,
            delivered: count(&meter.delivered),
            failed: count(&meter.failed),
            dropped: count(&meter.dropped),
            waiting: count(&meter.waiting),
            last_success: meter.last_success(),
            error: meter.error(),
        }
    }
}

/// The handler.
pub async fn alerts(State(api): State<Api>) -> Response {
    let alerts: &Alerts = &api.telling.alerts();
    let meters = api.telling.receivers();
    Json(Document {
        alerts: &alerts.open,
        flapping: &alerts.flapping,
        leads: alerts.leads,
        not_kept: alerts.not_kept.as_deref(),
        receivers: meters.iter().map(|meter| Receiver::of(meter)).collect(),
    })
    .into_response()
}
