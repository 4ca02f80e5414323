//! Whether what was applied works, and if not, why: pod, container, newest warning, last log line.

use std::path::Path;

use anyhow::Result;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};

use crate::cluster::{objects, why};
use crate::wait::Look;

/// What runs pods: its namespace and its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload<'a> {
    /// A deployment.
    Deployment(&'a str, &'a str),
    /// A stateful set.
    StatefulSet(&'a str, &'a str),
    /// One pod on each node.
    DaemonSet(&'a str, &'a str),
}

/// Whether all of these have all their pods, of the newest kind and ready; a cluster that does not
/// answer may yet.
pub async fn all(kubeconfig: &Path, workloads: &[Workload<'_>]) -> Look<(), String> {
    if workloads.is_empty() {
        return Look::Done(());
    }
    let look = async { each(&objects::client(kubeconfig).await?, workloads).await };
    patient(look.await)
}

/// The same, with a client, and with what the cluster answers when it does not.
///
/// # Errors
/// When it does not answer, or one of them is not there.
pub async fn each(client: &Client, workloads: &[Workload<'_>]) -> Result<Look<(), String>> {
    for workload in workloads {
        match workload.look(client).await? {
            Look::Done(()) => {}
            other => return Ok(other),
        }
    }
    Ok(Look::Done(()))
}

/// What could not be looked at is not there yet.
pub fn patient(looked: Result<Look<(), String>>) -> Look<(), String> {
    looked.unwrap_or_else(|error| Look::NotYet(format!("{error:#}")))
}

/// How far a workload is.
struct Progress {
    /// What was asked for last has been seen.
    current: bool,
    wanted: i32,
    updated: i32,
    ready: i32,
    selector: LabelSelector,
}

impl Workload<'_> {
    async fn look(self, client: &Client) -> Result<Look<(), String>> {
        let (Self::Deployment(namespace, name)
        | Self::StatefulSet(namespace, name)
        | Self::DaemonSet(namespace, name)) = self;
        let Some(progress) = self.progress(client).await? else {
            return Ok(Look::Hopeless(format!("{namespace}/{name} is empty")));
        };
        if progress.current
            && progress.updated == progress.wanted
            && progress.ready == progress.wanted
        {
            return Ok(Look::Done(()));
        }
        explained(client, namespace, name, &progress.selector).await
    }

    async fn progress(self, client: &Client) -> Result<Option<Progress>> {
        Ok(match self {
            Self::Deployment(namespace, name) => {
                let found: Deployment =
                    Api::namespaced(client.clone(), namespace).get(name).await?;
                let status = found.status.unwrap_or_default();
                found.spec.map(|spec| Progress {
                    current: status.observed_generation == found.metadata.generation,
                    wanted: spec.replicas.unwrap_or(1),
                    updated: status.updated_replicas.unwrap_or(0),
                    ready: status.available_replicas.unwrap_or(0),
                    selector: spec.selector,
                })
            }
            Self::StatefulSet(namespace, name) => {
                let found: StatefulSet =
                    Api::namespaced(client.clone(), namespace).get(name).await?;
                let status = found.status.unwrap_or_default();
                found.spec.map(|spec| Progress {
                    current: status.observed_generation == found.metadata.generation,
                    wanted: spec.replicas.unwrap_or(1),
                    updated: status.updated_replicas.unwrap_or(0),
                    ready: status.ready_replicas.unwrap_or(0),
                    selector: spec.selector,
                })
            }
            Self::DaemonSet(namespace, name) => {
                let found: DaemonSet = Api::namespaced(client.clone(), namespace).get(name).await?;
                let status = found.status.unwrap_or_default();
                found.spec.map(|spec| Progress {
                    current: status.observed_generation == found.metadata.generation,
                    wanted: status.desired_number_scheduled,
                    updated: status.updated_number_scheduled.unwrap_or(0),
                    ready: status.number_available.unwrap_or(0),
                    selector: spec.selector,
                })
            }
        })
    }
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
        Some(warning) if !reason.contains(&warning) => format!("{reason} ({warning})"),
        _ => reason.to_owned(),
    }
}
