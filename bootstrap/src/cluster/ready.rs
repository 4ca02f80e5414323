//! Whether what was applied works, and if not, why: pod, container, newest warning, last log line.

use anyhow::Result;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};

use crate::cluster::why;
use crate::wait::Look;

/// Whether a deployment has all its pods, of the newest kind and available.
///
/// # Errors
/// When the cluster does not answer.
pub async fn deployment(client: &Client, namespace: &str, name: &str) -> Result<Look<(), String>> {
    let deployment: Deployment = Api::namespaced(client.clone(), namespace).get(name).await?;
    let status = deployment.status.unwrap_or_default();
    let Some(spec) = deployment.spec else {
        return Ok(Look::Hopeless(format!("the deployment {name} is empty")));
    };
    let wanted = spec.replicas.unwrap_or(1);
    let current = status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == wanted;
    if current && status.available_replicas.unwrap_or(0) == wanted {
        return Ok(Look::Done(()));
    }
    explained(client, namespace, name, &spec.selector).await
}

/// Whether a stateful set has all its pods, of the newest kind and ready.
///
/// # Errors
/// When the cluster does not answer.
pub async fn stateful_set(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Look<(), String>> {
    let set: StatefulSet = Api::namespaced(client.clone(), namespace).get(name).await?;
    let status = set.status.unwrap_or_default();
    let Some(spec) = set.spec else {
        return Ok(Look::Hopeless(format!("the stateful set {name} is empty")));
    };
    let wanted = spec.replicas.unwrap_or(1);
    let current = status.observed_generation == set.metadata.generation
        && status.updated_replicas.unwrap_or(0) == wanted;
    if current && status.ready_replicas.unwrap_or(0) == wanted {
        return Ok(Look::Done(()));
    }
    explained(client, namespace, name, &spec.selector).await
}

/// Why the pods of a workload do not do.
async fn explained(
    client: &Client,
    namespace: &str,
    name: &str,
    of: &LabelSelector,
) -> Result<Look<(), String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_it = ListParams::default().labels(&selector(of));
    let mut found = pods.list(&of_it).await?.items;
    // Those of before are on their way out; the newest say why the new ones do not come.
    found.sort_by_key(|pod| {
        std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|at| at.0))
    });
    let Some((pod, reason)) = found.iter().find_map(|pod| Some((pod, why::pod(pod)?))) else {
        return Ok(Look::NotYet(format!("no pod of {name} is there yet")));
    };
    let told = told(&pods, pod, &reason, client, namespace).await;
    Ok(match why::hopeless(&reason) {
        true => Look::Hopeless(told),
        false => Look::NotYet(told),
    })
}

fn selector(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let all: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    all.join(",")
}

/// The reason with what else is known: a crash by its last line, everything else by its warning.
async fn told(
    pods: &Api<Pod>,
    pod: &Pod,
    reason: &str,
    client: &Client,
    namespace: &str,
) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if reason.contains("CrashLoopBackOff") || reason.contains("ended with") {
        let params = |previous| LogParams {
            previous,
            tail_lines: Some(1),
            ..LogParams::default()
        };
        for previous in [false, true] {
            if let Ok(line) = pods.logs(name, &params(previous)).await
                && !line.trim().is_empty()
            {
                return format!("{reason}; its last line: {}", line.trim());
            }
        }
        return reason.to_owned();
    }
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let events = Api::<Event>::namespaced(client.clone(), namespace)
        .list(&about)
        .await;
    match events
        .ok()
        .and_then(|events| why::newest_warning(&events.items))
    {
        Some(warning) => format!("{reason} ({warning})"),
        None => reason.to_owned(),
    }
}
