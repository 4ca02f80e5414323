//! The last step: the collector in the cluster sees everything, and sees it well.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use jiff::{SignedDuration, Timestamp};

use crate::cluster::host::steps::Known;
use crate::cluster::{objects, ready, why};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::wait::Look;
use crate::watch::client::{State, Target};

/// The collector's page through the API server, for whoever has its credentials.
const AT: &str = "/api/v1/namespaces/monitoring/services/http:comind-ops:9600/proxy/api/v1/state";
/// What is optional may be down, but not because it still begins.
const SETTLED: SignedDuration = SignedDuration::from_secs(20);

/// The step.
pub struct Watching(pub Arc<Known>);

/// What the collector in the cluster says of its targets.
///
/// # Errors
/// When it does not answer, or answers otherwise.
pub async fn state(kubeconfig: &Path) -> Result<State> {
    let client = objects::client(kubeconfig).await?;
    let request = http::Request::get(AT).body(Vec::new())?;
    let answer = client.request_text(request).await;
    let text =
        answer.map_err(|error| anyhow!("the collector does not answer: {}", why::error(&error)))?;
    serde_json::from_str(&text).context("the collector did not answer as one does")
}

/// Whether that is all that is wanted. Pure.
fn judge(state: &State, now: Timestamp) -> Look<(), String> {
    let missing = |one: &&Target| {
        let settled = now.duration_since(one.since) > SETTLED;
        match one.health.as_str() {
            "up" | "degraded" => false,
            "down" => one.required || !settled,
            _ => true,
        }
    };
    match state.targets.iter().find(missing) {
        None if state.targets.is_empty() => Look::NotYet("the collector has no target".to_owned()),
        None => Look::Done(()),
        Some(one) => Look::NotYet(format!(
            "the collector sees {} {}: {}",
            one.name, one.health, one.message
        )),
    }
}

impl Step for Watching {
    type Seen = ();

    fn id(&self) -> Id {
        "watching"
    }

    fn needs(&self) -> &'static [Id] {
        &["gitops", "wires", "postgresql", "minio"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(120)
    }

    async fn observe(&self) -> Result<()> {
        Ok(())
    }

    fn diff(&self, (): &()) -> Vec<Change> {
        Vec::new()
    }

    async fn apply(&self, (): (), _: About<'_>) -> Result<()> {
        Ok(())
    }

    async fn ready(&self) -> Look<(), String> {
        let looked = state(&self.0.place.kubeconfig()).await;
        ready::patient(looked.map(|state| judge(&state, Timestamp::now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(health: &str, required: bool, seconds_ago: i64) -> Look<(), String> {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000);
        let since = now - SignedDuration::from_secs(seconds_ago);
        let state = serde_json::json!({ "health": health, "targets": [{
            "name": "redis", "kind": "redis", "required": required, "health": health, "reason": "refused",
            "message": "nobody listens", "since": since, "latency_ms": null,
        }] });
        judge(&serde_json::from_value(state).expect("a state"), now)
    }

    #[test]
    fn the_required_are_up_and_nothing_is_unknown() {
        assert!(matches!(seen("up", true, 0), Look::Done(())));
        assert!(matches!(seen("degraded", false, 0), Look::Done(())));
        assert!(matches!(seen("unknown", false, 90), Look::NotYet(_)));
        assert!(matches!(seen("down", true, 90), Look::NotYet(_)));
    }

    #[test]
    fn the_optional_may_be_down_once_that_is_sure() {
        assert!(matches!(seen("down", false, 3), Look::NotYet(_)));
        assert!(matches!(seen("down", false, 30), Look::Done(())));
    }
}
