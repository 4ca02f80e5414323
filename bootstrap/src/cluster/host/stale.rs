//! Whether what the API says of the node is true by now. After a stop or a crash it goes on saying
//! what it was told last: that the node is ready, and that containers run which nobody has started
//! again yet.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cluster::host::command::run;
use crate::cluster::host::place::Place;
use crate::cluster::why;

/// Whether the node is ready, and all that is said to run on it does.
pub(super) async fn node(place: &Place, client: &Client) -> Result<(), String> {
    let node: Option<Node> = Api::all(client.clone())
        .get_opt(&place.name())
        .await
        .map_err(|error| why::error(&error))?;
    let Some(node) = node else {
        return Err("the node has not registered yet".to_owned());
    };
    if let Some(reason) = why::node(&node) {
        return Err(reason);
    }
    let here = ListParams::default().fields(&format!("spec.nodeName={}", place.name()));
    let pods = Api::<Pod>::all(client.clone()).list(&here).await;
    let pods = pods.map_err(|error| why::error(&error))?;
    let socket = place.runtime_socket().display().to_string();
    let tasks = run("ctr", ["-a", &socket, "-n", "k8s.io", "tasks", "ls"]).await;
    let tasks = tasks.map_err(|error| format!("{error:#}"))?;
    match outdated(&pods.items, &running(&tasks)) {
        None => Ok(()),
        Some(pod) => Err(format!(
            "what is said of pod {pod} is from before: its container does not run"
        )),
    }
}

/// The ids of containers that run, out of `ctr tasks ls`.
fn running(tasks: &str) -> BTreeSet<&str> {
    tasks
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (id, _, status) = (words.next()?, words.next()?, words.next()?);
            (status == "RUNNING").then_some(id)
        })
        .collect()
}

/// The first pod one of whose containers is said to run and does not.
fn outdated<'a>(pods: &'a [Pod], running: &BTreeSet<&str>) -> Option<&'a str> {
    pods.iter().find_map(|pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let outdated = statuses.iter().any(|one| {
            let said = one
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some());
            let id = one
                .container_id
                .as_deref()
                .and_then(|id| id.split_once("://"));
            said && id.is_none_or(|(_, id)| !running.contains(id))
        });
        outdated.then(|| pod.metadata.name.as_deref().unwrap_or("?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_runs_counts() {
        let tasks = "TASK    PID    STATUS\nabc    12    RUNNING\ndef    13    STOPPED\n";
        let running = running(tasks);
        assert_eq!(running, BTreeSet::from(["abc"]));
        let pod = |id: &str| -> Pod {
            serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": { "containerStatuses": [
                { "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "containerID": format!("containerd://{id}"), "state": { "running": {} } }
            ] } })).expect("a pod")
        };
        assert_eq!(outdated(&[pod("abc")], &running), None);
        assert_eq!(outdated(&[pod("abc"), pod("def")], &running), Some("p"));
    }
}
