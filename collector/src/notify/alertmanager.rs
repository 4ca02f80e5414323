//! Alertmanager's API: all open alerts whenever one of them changes, and again before it would
//! take silence for their end. Must not know why an alert is open.
//!
//! Source of the format: Alertmanager's OpenAPI document, `/api/v2/alerts`. The labels are those
//! that `dashboards/rules/comind.yaml` gives the same outage, so that Alertmanager takes both
//! for one alert.

use std::sync::Arc;
use std::time::Duration;

use comind_model::alert::Alert;
use comind_model::timestamp::Timestamp;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::notify::post::Poster;
use crate::notify::status::Meter;
use crate::source::backoff::Backoff;

/// The path of the API.
pub const PATH: &str = "/api/v2/alerts";

/// Alerts in one request.
const BATCH: usize = 500;
/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(10);

/// What every Alertmanager should know.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// What is wrong.
    pub firing: Vec<Alert>,
    /// What is over, and since when.
    pub resolved: Vec<(Alert, Timestamp)>,
}

/// One Alertmanager, kept up to date.
pub struct Alertmanager {
    /// The way there.
    pub poster: Poster,
    /// What it should know.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// How often it is told again.
    pub resend: Duration,
    /// How it fares.
    pub meter: Arc<Meter>,
    /// Gives the time.
    pub clock: Clock,
}

impl Alertmanager {
    /// Tells until it is dropped, or until nobody decides any more.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST.min(self.resend));
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let next = match self.tell(&desired).await {
                Ok(()) => {
                    backoff.reset();
                    Instant::now() + self.resend
                }
                Err(error) => {
                    self.meter.refused(&error);
                    let again = Instant::now() + backoff.next_wait();
                    tokio::time::sleep_until(again).await;
                    continue;
                }
            };
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    async fn tell(&mut self, desired: &Desired) -> Result<(), String> {
        let now = self.clock.now();
        // Long enough that one resend may fail.
        let ends = now + self.resend * 3;
        let firing = desired.firing.iter().map(|alert| message(alert, ends));
        let resolved = desired
            .resolved
            .iter()
            .map(|(alert, at)| message(alert, *at));
        let all: Vec<Value> = firing.chain(resolved).collect();
        for batch in all.chunks(BATCH) {
            let body = Value::from(batch).to_string().into();
            self.poster.post(body, &HeaderMap::new()).await?;
            self.meter.accepted(now);
        }
        Ok(())
    }
}

fn message(alert: &Alert, ends: Timestamp) -> Value {
    let required = if alert.required { "true" } else { "false" };
    json!({
        "labels": {
            "alertname": alert.name.as_str(),
            "target": alert.target,
            "kind": alert.kind,
            "required": required,
            "severity": alert.name.severity().as_str(),
        },
        "annotations": {
            "summary": format!("{} ({}): {}", alert.target, alert.kind, alert.reason),
            "description": alert.message,
            "advice": alert.reason.advice(),
            "reason": alert.reason,
            "id": alert.id,
        },
        "startsAt": alert.starts_at,
        "endsAt": ends,
    })
}
