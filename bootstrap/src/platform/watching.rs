//! The last step: the collector in the cluster sees everything, and sees it well.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::cluster::host::steps::Known;
use crate::cluster::{objects, why};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::wait::Look;
use crate::watch::client::{State, Target};

/// Where its replicas are.
const NAMESPACE: &str = "monitoring";
/// What they carry.
const LABEL: &str = "app=comind-ops";
/// What is optional may be down, but not because it still begins.
const SETTLED: SignedDuration = SignedDuration::from_secs(20);

/// The step.
pub struct Watching(pub Arc<Known>);

/// What each replica of the collector in the cluster says of its targets, asked through the API server:
/// each looks for itself, and one may have begun before another.
///
/// # Errors
/// When there is none, or one does not answer, or answers otherwise.
pub async fn states(kubeconfig: &Path) -> Result<Vec<State>> {
    let client = objects::client(kubeconfig).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let found = pods.list(&ListParams::default().labels(LABEL)).await;
    let found =
        found.map_err(|error| anyhow!("cannot look for the collector: {}", why::error(&error)))?;
    let mut all = Vec::new();
    for pod in found
        .items
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
    {
        all.push(of(&client, &pod.name_any()).await?);
    }
    ensure!(!all.is_empty(), "no collector runs in {NAMESPACE}");
    Ok(all)
}

async fn of(client: &Client, pod: &str) -> Result<State> {
    let at = format!("/api/v1/namespaces/{NAMESPACE}/pods/http:{pod}:9600/proxy/api/v1/state");
    let answer = client
        .request_text(http::Request::get(at).body(Vec::new())?)
        .await;
    let text = answer.map_err(|error| {
        anyhow!(
            "the collector {pod} does not answer: {}",
            why::error(&error)
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("{pod} did not answer as a collector does"))
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
        let looked = states(&self.0.place.kubeconfig()).await;
        let now = Timestamp::now();
        let mut all = match &looked {
            Ok(states) => states.iter().map(|state| judge(state, now)),
            Err(error) => return Look::NotYet(format!("{error:#}")),
        };
        all.find(|one| !matches!(one, Look::Done(())))
            .unwrap_or(Look::Done(()))
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
