//! What the status of a node, a workload or a pod means. Pure.
//!
//! Down is what does no work at all: a node that is not ready, a workload none of whose replicas
//! is there, a pod that cannot run. Part of it missing asks for attention.
//!
//! Source of the words: the Kubernetes API reference (conditions of nodes and pods, reasons of
//! waiting and terminated containers).

use comind_model::fact::Facts;
use comind_model::observation::{Attention, Outcome};
use comind_model::reason::Reason;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, PodStatus};

/// How something is, and what is to be known of it.
type Judgement = (Outcome, Facts);

fn good() -> Outcome {
    Outcome::Good {
        attention: Vec::new(),
    }
}

fn attention(reason: Reason, message: impl Into<String>) -> Outcome {
    let message = message.into();
    Outcome::Good {
        attention: vec![Attention { reason, message }],
    }
}

fn bad(reason: Reason, message: impl Into<String>) -> Outcome {
    let message = message.into();
    Outcome::Bad { reason, message }
}

/// A node.
pub(super) fn node(node: &Node) -> Judgement {
    let mut facts = Facts::default();
    let status = node.status.as_ref();
    if let Some(info) = status.and_then(|status| status.node_info.as_ref()) {
        facts.set("kubelet_version", info.kubelet_version.as_str());
    }
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let conditions = || conditions.into_iter().flatten();
    let said = |message: &Option<String>| message.clone().unwrap_or_default();
    let ready = conditions().find(|condition| condition.type_ == "Ready");
    let outcome = match ready {
        None => attention(Reason::NotReady, "its kubelet has not reported yet"),
        Some(ready) if ready.status != "True" => bad(
            Reason::NotReady,
            format!("Ready is {}: {}", ready.status, said(&ready.message)),
        ),
        Some(_) => {
            let pressed = conditions().find(|c| c.type_ != "Ready" && c.status == "True");
            let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable);
            match (pressed, cordoned) {
                (Some(pressed), _) => attention(
                    Reason::NodePressure,
                    format!("{}: {}", pressed.type_, said(&pressed.message)),
                ),
                (None, Some(true)) => {
                    attention(Reason::Suspended, "it takes no new pods (cordoned)")
                }
                _ => good(),
            }
        }
    };
    (outcome, facts)
}

/// A deployment.
pub(super) fn deployment(deployment: &Deployment) -> Judgement {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.as_ref();
    let there = status
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let stuck = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Progressing" && condition.status == "False");
    let why = stuck
        .and_then(|condition| condition.message.clone())
        .unwrap_or_default();
    replicas(wanted, there, "available", &why)
}

/// A stateful set.
pub(super) fn stateful_set(set: &StatefulSet) -> Judgement {
    let wanted = set
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let there = set
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    replicas(wanted, there, "ready", "")
}

/// A daemon set.
pub(super) fn daemon_set(set: &DaemonSet) -> Judgement {
    let status = set.status.as_ref();
    let wanted = status.map_or(0, |status| status.desired_number_scheduled);
    let there = status.map_or(0, |status| status.number_ready);
    replicas(wanted, there, "ready", "")
}

fn replicas(wanted: i32, there: i32, word: &str, why: &str) -> Judgement {
    let mut facts = Facts::default();
    facts.set("replicas_wanted", f64::from(wanted));
    facts.set("replicas_there", f64::from(there));
    let mut told = format!("{there} of {wanted} {word}");
    if !why.is_empty() {
        told.push_str(": ");
        told.push_str(why);
    }
    let outcome = match (wanted, there) {
        (wanted, there) if there >= wanted && why.is_empty() => good(),
        (wanted, 0) if wanted > 0 => bad(Reason::ReplicasMissing, told),
        _ => attention(Reason::ReplicasMissing, told),
    };
    (outcome, facts)
}

/// A pod.
pub(super) fn pod(pod: &Pod) -> Judgement {
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let mut facts = Facts::default();
    let containers = || {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    };
    let restarts: i32 = containers().map(|container| container.restart_count).sum();
    facts.set("restarts", f64::from(restarts));
    if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
        facts.set("node", node);
    }
    let outcome = match status.phase.as_deref() {
        Some("Succeeded") => good(),
        Some("Failed") => failed(status, containers()),
        _ => containers()
            .find_map(stuck)
            .or_else(|| unscheduled(status))
            .unwrap_or_else(|| readiness(status, containers())),
    };
    (outcome, facts)
}

fn failed<'a>(
    status: &PodStatus,
    mut containers: impl Iterator<Item = &'a ContainerStatus>,
) -> Outcome {
    if let Some(killed) = containers.find(|container| out_of_memory(container)) {
        return bad(
            Reason::OomKilled,
            format!("container {} ran out of memory", killed.name),
        );
    }
    let why = status.message.as_deref().or(status.reason.as_deref());
    bad(
        Reason::Exited,
        format!(
            "it failed: {}",
            why.unwrap_or("its containers ended with an error")
        ),
    )
}

/// A container that waits for something that does not come by itself.
fn stuck(container: &ContainerStatus) -> Option<Outcome> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let word = waiting.reason.as_deref()?;
    let reason = match word {
        "CrashLoopBackOff" if out_of_memory(container) => Reason::OomKilled,
        "CrashLoopBackOff" => Reason::CrashLoop,
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
            Reason::ImagePull
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Reason::ContainerConfig
        }
        _ => return None,
    };
    let message = waiting.message.as_deref().unwrap_or(word);
    Some(bad(
        reason,
        format!("container {}: {message}", container.name),
    ))
}

fn out_of_memory(container: &ContainerStatus) -> bool {
    let states = [&container.state, &container.last_state];
    let mut ended = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref());
    ended.any(|ended| ended.reason.as_deref() == Some("OOMKilled"))
}

fn unscheduled(status: &PodStatus) -> Option<Outcome> {
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = condition.message.as_deref().unwrap_or("no node takes it");
    Some(bad(Reason::Unschedulable, message))
}

fn readiness<'a>(
    status: &PodStatus,
    mut containers: impl Iterator<Item = &'a ContainerStatus>,
) -> Outcome {
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    match ready {
        Some(ready) if ready.status == "True" => match containers.find(|c| out_of_memory(c)) {
            Some(killed) => attention(
                Reason::OomKilled,
                format!(
                    "container {} ran out of memory and was started again",
                    killed.name
                ),
            ),
            None => good(),
        },
        Some(ready) => {
            let why = ready
                .message
                .as_deref()
                .unwrap_or("a container is not ready");
            attention(Reason::NotReady, why)
        }
        None => attention(Reason::Progressing, "its node has not reported on it yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn word(judgement: &Judgement) -> String {
        match &judgement.0 {
            Outcome::Bad { reason, .. } => format!("down {reason}"),
            Outcome::Good { attention } => match attention.first() {
                Some(attention) => format!("degraded {}", attention.reason),
                None => "up".to_owned(),
            },
        }
    }

    fn pod_of(status: &Value) -> String {
        let object = json!({ "metadata": { "name": "p" }, "status": status });
        word(&pod(&serde_json::from_value(object).unwrap()))
    }

    fn waiting(reason: &str, last: Option<&str>) -> Value {
        let last =
            last.map(|reason| json!({ "terminated": { "exitCode": 137, "reason": reason } }));
        json!({ "phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
            "state": { "waiting": { "reason": reason } }, "lastState": last.unwrap_or(json!({})),
        }] })
    }

    #[test]
    fn pods_that_cannot_run_are_down_by_their_reason() {
        assert_eq!(
            pod_of(&waiting("CrashLoopBackOff", None)),
            "down crash_loop"
        );
        assert_eq!(
            pod_of(&waiting("CrashLoopBackOff", Some("OOMKilled"))),
            "down oom_killed"
        );
        assert_eq!(pod_of(&waiting("ErrImagePull", None)), "down image_pull");
        assert_eq!(
            pod_of(&waiting("CreateContainerConfigError", None)),
            "down container_config"
        );
        assert_eq!(
            pod_of(&waiting("ContainerCreating", None)),
            "degraded progressing"
        );
        let condition = |kind: &str, status: &str, reason: &str| json!({ "conditions": [{ "type": kind, "status": status, "reason": reason }] });
        assert_eq!(
            pod_of(&condition("PodScheduled", "False", "Unschedulable")),
            "down unschedulable"
        );
        assert_eq!(pod_of(&condition("Ready", "True", "")), "up");
        assert_eq!(
            pod_of(&condition("Ready", "False", "")),
            "degraded not_ready"
        );
        assert_eq!(pod_of(&json!({ "phase": "Succeeded" })), "up");
        assert_eq!(
            pod_of(&json!({ "phase": "Failed", "reason": "Evicted" })),
            "down exited"
        );
    }

    #[test]
    fn workloads_are_down_only_without_any_replica() {
        let of = |wanted: i32, there: i32, why: &str| word(&replicas(wanted, there, "ready", why));
        assert_eq!(of(3, 3, ""), "up");
        assert_eq!(of(3, 2, ""), "degraded replicas_missing");
        assert_eq!(of(3, 0, ""), "down replicas_missing");
        assert_eq!(of(0, 0, ""), "up");
        assert_eq!(of(3, 3, "deadline exceeded"), "degraded replicas_missing");
    }

    #[test]
    fn nodes_are_down_when_they_are_not_ready() {
        let of = |conditions: &Value| {
            let object = json!({ "metadata": {}, "status": { "conditions": conditions } });
            word(&node(&serde_json::from_value(object).unwrap()))
        };
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status });
        assert_eq!(of(&json!([condition("Ready", "True")])), "up");
        assert_eq!(
            of(&json!([condition("Ready", "Unknown")])),
            "down not_ready"
        );
        let pressed = json!([
            condition("Ready", "True"),
            condition("DiskPressure", "True")
        ]);
        assert_eq!(of(&pressed), "degraded node_pressure");
        assert_eq!(of(&json!([])), "degraded not_ready");
    }
}
