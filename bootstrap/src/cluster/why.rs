//! Why something in a cluster is not ready, in words for people. Pure: objects in, sentence out.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, Pod};

use crate::cause;

/// Why a pod is not ready; nothing when it is.
pub fn pod(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    if conditions
        .clone()
        .any(|one| one.type_ == "Ready" && one.status == "True")
    {
        return None;
    }
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    if let Some(why) = containers.filter_map(container).next() {
        return Some(format!("pod {name}: {why}"));
    }
    let unmet = conditions
        .filter(|one| one.status != "True")
        .find_map(|one| {
            let words = one.message.as_deref().or(one.reason.as_deref())?;
            Some(words.to_owned())
        });
    let phase = status.phase.as_deref().unwrap_or("unknown");
    Some(match unmet {
        Some(words) => format!("pod {name} is {phase}: {words}"),
        None => format!("pod {name} is {phase}"),
    })
}

fn container(status: &ContainerStatus) -> Option<String> {
    let state = status.state.as_ref()?;
    let name = &status.name;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        if let ("ErrImagePull" | "ImagePullBackOff", Some(words)) = (reason, &waiting.message) {
            return Some(format!("container {name}: {}", pull(&status.image, words)));
        }
        return Some(match (&waiting.message, last_end(status)) {
            (Some(words), _) => format!("container {name}: {reason}: {words}"),
            (None, Some(end)) => format!("container {name}: {reason}, {end}"),
            (None, None) => format!("container {name}: {reason}"),
        });
    }
    if let Some(ended) = state
        .terminated
        .as_ref()
        .filter(|ended| ended.exit_code != 0)
    {
        return Some(format!("container {name} ended with {}", ended.exit_code));
    }
    (state.running.is_some() && !status.ready)
        .then(|| format!("container {name} runs and is not ready yet"))
}

/// A pull that failed: a runtime repeats the image's name at each of its layers, and tells the cause last.
fn pull(image: &str, words: &str) -> String {
    let cause = words.rsplit_once("\": ").map_or(words, |(_, cause)| cause);
    let cause = cause.trim_start_matches(image).trim_start_matches(": ");
    format!("cannot pull {image}: {cause}")
}

fn last_end(status: &ContainerStatus) -> Option<String> {
    let ended = status.last_state.as_ref()?.terminated.as_ref()?;
    let reason = ended.reason.as_deref().unwrap_or("ended");
    Some(format!("last time {reason} with {}", ended.exit_code))
}

/// Why a node is not ready; nothing when it is.
pub fn node(node: &Node) -> Option<String> {
    let name = node.metadata.name.as_deref().unwrap_or("?");
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    match conditions.clone().find(|one| one.type_ == "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!(
            "node {name} is not ready: {}",
            ready.message.as_deref().unwrap_or("no reason given")
        )),
        None => Some(format!("node {name} has not said anything yet")),
    }
}

/// An error with its causes; of the API server's list of checks only those that fail.
pub fn error(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        let failed = status.message.lines().filter_map(|line| {
            let check = line.strip_prefix("[-]")?;
            Some(check.split(' ').next().unwrap_or(check))
        });
        let failed: Vec<&str> = failed.collect();
        return match failed.split_first() {
            None => status.message.lines().next().unwrap_or_default().to_owned(),
            Some((first, [])) => format!("it is not ready: {first}"),
            Some((first, rest)) => format!("it is not ready: {first} and {} more", rest.len()),
        };
    }
    cause::root(error)
}

/// What the newest warning says.
pub fn newest_warning(events: &[Event]) -> Option<String> {
    // The kubelet warns of a container's state once more, in a word.
    let repeats = |event: &Event| {
        let words = event.message.as_deref().unwrap_or_default();
        event.reason.as_deref() == Some("Failed") && words.starts_with("Error: ")
    };
    let warnings = events
        .iter()
        .filter(|event| event.type_.as_deref() == Some("Warning") && !repeats(event));
    let newest = warnings.max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0))?;
    let (reason, words) = (newest.reason.as_deref(), newest.message.as_deref()?);
    let image = words.strip_prefix("Failed to pull image \"");
    if let Some((image, _)) = image.and_then(|rest| rest.split_once('"')) {
        return Some(pull(image, words));
    }
    Some(format!("{}: {words}", reason.unwrap_or("warning")))
}

/// Whether waiting makes no sense: what a pod wants is nowhere.
pub fn hopeless(why: &str) -> bool {
    ["ErrImageNeverPull", "InvalidImageName"]
        .iter()
        .any(|word| why.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn why(value: serde_json::Value) -> Option<String> {
        pod(&serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn pods_say_what_they_lack() {
        let ready = json!({ "metadata": { "name": "a" }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        assert_eq!(why(ready), None);
        let image = json!({ "metadata": { "name": "a" }, "status": { "phase": "Pending", "containerStatuses": [
            { "name": "c", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
              "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "it is not there" } } } ] } });
        let image = why(image);
        assert_eq!(
            image.as_deref(),
            Some("pod a: container c: ErrImageNeverPull: it is not there")
        );
        assert!(hopeless(&image.unwrap_or_default()));
        let crash = json!({ "metadata": { "name": "a" }, "status": { "containerStatuses": [
            { "name": "c", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
              "state": { "waiting": { "reason": "CrashLoopBackOff" } },
              "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } } ] } });
        assert_eq!(
            why(crash).as_deref(),
            Some("pod a: container c: CrashLoopBackOff, last time OOMKilled with 137")
        );
        let unscheduled = json!({ "metadata": { "name": "a" }, "status": { "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available" } ] } });
        assert_eq!(
            why(unscheduled).as_deref(),
            Some("pod a is Pending: 0/1 nodes are available")
        );
    }

    #[test]
    fn a_failed_pull_says_its_cause_once() {
        let words = |cause: &str| {
            format!(
                "Back-off pulling image \"h:1/t/git:1\": ErrImagePull: failed to pull and unpack image \"h:1/t/git:1\": \
                 failed to resolve reference \"h:1/t/git:1\": {cause}"
            )
        };
        let no_tls = words(
            "failed to do request: Head \"https://h:1/v2/\": http: server gave HTTP response to HTTPS client",
        );
        let waiting = |words: &str| {
            json!({ "metadata": { "name": "a" }, "status": { "phase": "Pending", "containerStatuses": [
                { "name": "c", "image": "h:1/t/git:1", "imageID": "", "ready": false, "restartCount": 0,
                  "state": { "waiting": { "reason": "ImagePullBackOff", "message": words } } } ] } })
        };
        for (given, said) in [
            (
                no_tls.as_str(),
                "http: server gave HTTP response to HTTPS client",
            ),
            (&words("h:1/t/git:1: not found"), "not found"),
            ("slow", "slow"),
        ] {
            assert_eq!(
                why(waiting(given)),
                Some(format!(
                    "pod a: container c: cannot pull h:1/t/git:1: {said}"
                ))
            );
        }
        let event = |reason: &str, message: &str| -> Event {
            let event = json!({ "metadata": {}, "involvedObject": {}, "type": "Warning", "reason": reason, "message": message });
            serde_json::from_value(event).expect("an event")
        };
        let failed = format!(
            "Failed to pull image \"h:1/t/git:1\": {}",
            words("h:1/t/git:1: not found")
        );
        assert_eq!(
            newest_warning(&[event("Failed", &failed)]).as_deref(),
            Some("cannot pull h:1/t/git:1: not found")
        );
        assert_eq!(
            newest_warning(&[event("Failed", "Error: ErrImagePull")]),
            None
        );
        assert_eq!(
            newest_warning(&[event("FailedMount", "no such volume")]).as_deref(),
            Some("FailedMount: no such volume")
        );
    }
}
