//! The HTTP API, the metrics and the page, on `api.listen`.
//! Must not know probes or the config file: it reads snapshots and events.

pub mod alerts;
pub mod badge;
pub mod events;
pub mod feed;
pub mod guard;
pub mod health;
pub mod history;
pub mod maintenance;
pub mod openapi;
pub mod page;
pub mod pages;
pub mod probe;
pub mod problem;
pub mod resume;
pub mod server;
pub mod sessions;
pub mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use comind_model::session::Sessions;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::access::gate::Gate;
use crate::access::meter::AccessMeter;
use crate::api::problem::Problem;
use crate::clock::Clock;
use crate::config::probe_policy::ProbePolicy;
use crate::history::Terms;
use crate::history::keeper::History;
use crate::maintenance::Desk;
use crate::metrics::encode::Format;
use crate::metrics::{Build, Metrics};
use crate::notify::status::Telling;
use crate::store::Readers;
use crate::vitals::Vitals;

/// Event streams that may be open at once; one more is told to come back later.
pub const STREAMS: usize = 512;

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    /// What is known.
    pub readers: Readers,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Gives the time.
    pub clock: Clock,
    /// What runs.
    pub build: Build,
    /// What `/probe` may look at; follows the config.
    pub policy: watch::Receiver<Arc<ProbePolicy>>,
    /// What has been.
    pub history: History,
    /// When nobody is told, which does not count.
    pub maintenance: watch::Receiver<Arc<Terms>>,
    /// Lets requests in; follows the config.
    pub gate: watch::Receiver<Arc<Gate>>,
    /// Counts requests and refusals.
    pub access: AccessMeter,
    /// What people are told.
    pub telling: Telling,
    /// Maintenance that people begin.
    pub desk: Desk,
    /// Sessions of people at the proxy beside us, where there is one.
    pub sessions: Option<Arc<dyn Sessions>>,
    /// How our own tasks are.
    pub vitals: Vitals,
    /// Bounds the event streams.
    pub streams: Arc<Semaphore>,
    /// Ends the event streams, so that the rest can drain.
    pub stop: CancellationToken,
}

/// Every path that is served, as OpenAPI writes them.
pub const PATHS: &[&str] = &[
    "/",
    "/page/live",
    "/livez",
    "/readyz",
    "/metrics",
    "/probe",
    "/api/v1/state",
    "/api/v1/alerts",
    "/api/v1/maintenance",
    "/api/v1/sessions",
    "/api/v1/events",
    "/api/v1/history",
    "/api/v1/uptime",
    "/badge/{badge}",
    "/feed.atom",
    "/target/{target}",
    "/api/v1/openapi.json",
];

/// All routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(pages::whole))
        .route("/page/live", get(pages::live))
        .route("/assets/{*path}", get(pages::asset))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .route("/probe", get(probe::probe))
        .route("/api/v1/state", get(state::state))
        .route("/api/v1/alerts", get(alerts::alerts))
        .route(
            "/api/v1/maintenance",
            get(maintenance::list).post(maintenance::begin),
        )
        .route("/api/v1/maintenance/{id}", delete(maintenance::end))
        .route(
            "/api/v1/sessions",
            get(sessions::list).delete(sessions::end_all),
        )
        .route("/api/v1/sessions/{id}", delete(sessions::end))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/uptime", get(history::uptime))
        .route("/badge/{*badge}", get(badge::badge))
        .route("/feed.atom", get(feed::feed))
        .route("/target/{*target}", get(pages::target))
        .route("/api/v1/openapi.json", get(document))
        .fallback(nothing_here)
        .layer(axum::extract::DefaultBodyLimit::max(guard::BODY_LIMIT))
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        .layer(middleware::from_fn(harden))
        .with_state(api)
}

async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Format::negotiate(accept.unwrap_or_default());
    let metrics = api.metrics.clone();
    // Thousands of targets make this milliseconds of work: not on a thread that probes run on.
    let encoded = tokio::task::spawn_blocking(move || format.encode(metrics.registry())).await;
    match encoded {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, format.content_type())], body).into_response(),
        Ok(Err(error)) => Problem::fault(error).into_response(),
        Err(error) => {
            Problem::fault(format!("failed to encode the metrics: {error}")).into_response()
        }
    }
}

async fn document(State(api): State<Api>) -> Response {
    axum::Json(openapi::document(api.build.version)).into_response()
}

async fn nothing_here() -> Problem {
    Problem::not_found(
        "there is nothing at this path",
        "GET /api/v1/openapi.json lists what there is",
    )
}

/// Headers that every answer bears: nothing is sniffed, framed or told to other sites.
async fn harden(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, page::CSP),
    ];
    for (name, value) in fixed {
        // A web config file may have set another.
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
