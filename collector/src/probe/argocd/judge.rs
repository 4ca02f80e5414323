//! What the status of an application or of a set means. Pure.
//!
//! An application that Argo CD calls Degraded or Missing does not do its work: down. All else
//! (out of sync, a failed sync of something that still works, progressing, suspended) asks for
//! attention: degraded. Argo CD's own troubles with an application do too, because they say
//! nothing of what runs in the cluster.

use comind_model::fact::Facts;
use comind_model::observation::{Attention, Outcome};
use comind_model::reason::Reason;

use crate::probe::argocd::application::{Application, ApplicationSet, ApplicationStatus};

/// Messages of Argo CD can hold whole manifests.
const MESSAGE: usize = 300;

/// How an application is, and what is to be known of it.
pub(super) fn application(application: &Application) -> (Outcome, Facts) {
    let empty = ApplicationStatus::default();
    let status = application.status.as_ref().unwrap_or(&empty);
    (outcome(status), facts(application, status))
}

fn outcome(status: &ApplicationStatus) -> Outcome {
    let why = || first_words(&status.health.message, &troubles(status));
    match status.health.status.as_str() {
        "Degraded" => bad(Reason::Unhealthy, "Argo CD calls it Degraded", &why()),
        "Missing" => bad(
            Reason::Missing,
            "its resources are not in the cluster",
            &why(),
        ),
        _ => Outcome::Good {
            attention: attention(status),
        },
    }
}

fn attention(status: &ApplicationStatus) -> Vec<Attention> {
    let mut all = Vec::new();
    let mut say = |reason, message: String| all.push(Attention { reason, message });
    if let Some(operation) = &status.operation_state
        && matches!(operation.phase.as_str(), "Failed" | "Error")
    {
        let message = clipped(&operation.message);
        say(
            Reason::SyncFailed,
            format!("the last operation ended as {}: {message}", operation.phase),
        );
    }
    let troubles = troubles(status);
    if !troubles.is_empty() {
        say(Reason::ServerError, troubles);
    }
    if status.sync.status == "OutOfSync" {
        say(
            Reason::OutOfSync,
            "the cluster differs from the repository".to_owned(),
        );
    }
    match status.health.status.as_str() {
        "Progressing" => say(
            Reason::Progressing,
            "its resources are not ready yet".to_owned(),
        ),
        "Suspended" => say(Reason::Suspended, "it is suspended".to_owned()),
        "Healthy" => {}
        "" => say(
            Reason::Progressing,
            "Argo CD has not looked at it yet".to_owned(),
        ),
        other => say(
            Reason::Unhealthy,
            format!("Argo CD calls its health {}", clipped(other)),
        ),
    }
    all
}

/// The conditions that tell of errors, in one line.
fn troubles(status: &ApplicationStatus) -> String {
    let errors = status.conditions.iter();
    let errors = errors.filter(|condition| condition.kind.ends_with("Error"));
    let told: Vec<_> = errors
        .map(|condition| format!("{}: {}", condition.kind, clipped(&condition.message)))
        .collect();
    told.join("; ")
}

fn bad(reason: Reason, what: &str, why: &str) -> Outcome {
    let message = match why {
        "" => what.to_owned(),
        why => format!("{what}: {why}"),
    };
    Outcome::Bad { reason, message }
}

fn first_words(one: &str, other: &str) -> String {
    match one.is_empty() {
        true => other.to_owned(),
        false => clipped(one),
    }
}

/// One line of bounded length.
fn clipped(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn facts(application: &Application, status: &ApplicationStatus) -> Facts {
    let mut facts = Facts::default();
    let mut word = |name, value: &str| {
        if !value.is_empty() {
            facts.set(name, value);
        }
    };
    let destination = &application.spec.destination;
    word(
        "name",
        application.metadata.name.as_deref().unwrap_or_default(),
    );
    word(
        "namespace",
        application
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default(),
    );
    word("project", &application.spec.project);
    word("sync_status", &status.sync.status);
    word("health_status", &status.health.status);
    word("revision", &revision(status));
    word("repo", &without_login(application.repository()));
    word("dest_server", first(&destination.server, &destination.name));
    word("dest_namespace", &destination.namespace);
    if let Some(operation) = &status.operation_state {
        word("operation_phase", &operation.phase);
        if let (Some(start), Some(end)) = (operation.started_at, operation.finished_at) {
            let seconds = (end - start).total(k8s_openapi::jiff::Unit::Second);
            facts.set(
                "last_sync_duration_seconds",
                seconds.unwrap_or(0.0).max(0.0),
            );
            facts.set("last_sync_timestamp_seconds", end.as_second() as f64);
        }
    }
    facts.set("autosync", application.syncs_by_itself());
    facts
}

fn revision(status: &ApplicationStatus) -> String {
    match status.sync.revision.is_empty() {
        true => status.sync.revisions.join(" "),
        false => status.sync.revision.clone(),
    }
}

fn first<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.is_empty() { other } else { one }
}

/// A repository's URL may carry a user and a password, which are nobody's business here.
fn without_login(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            // Both fail only for URLs that can have no login.
            let _ = parsed.set_password(None);
            let _ = parsed.set_username("");
            parsed.into()
        }
        _ => url.to_owned(),
    }
}

/// How an application set is.
pub(super) fn set(set: &ApplicationSet) -> (Outcome, Facts) {
    let mut facts = Facts::default();
    facts.set("name", set.metadata.name.clone().unwrap_or_default());
    facts.set(
        "namespace",
        set.metadata.namespace.clone().unwrap_or_default(),
    );
    let conditions = set.status.iter().flat_map(|status| &status.conditions);
    let mut failing = conditions.filter(|c| c.kind == "ErrorOccurred" && c.status == "True");
    let outcome = match failing.next() {
        Some(condition) => bad(
            Reason::SyncFailed,
            "it cannot generate its applications",
            &clipped(&condition.message),
        ),
        None => Outcome::Good {
            attention: Vec::new(),
        },
    };
    (outcome, facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(status: &Value) -> (Outcome, Facts) {
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "shop", "namespace": "argocd" },
            "spec": {
                "project": "default",
                "source": { "repoURL": "https://me:sesame@git.example/shop.git", "path": "." },
                "destination": { "server": "https://kubernetes.default.svc", "namespace": "shop" },
                "syncPolicy": { "automated": {} },
            },
            "status": status,
        });
        application(&serde_json::from_value(object).unwrap())
    }

    fn reasons(status: &Value) -> Vec<Reason> {
        match of(status).0 {
            Outcome::Good { attention } => attention.iter().map(|a| a.reason).collect(),
            Outcome::Bad { reason, .. } => vec![reason],
        }
    }

    fn is_down(status: &Value) -> bool {
        matches!(of(status).0, Outcome::Bad { .. })
    }

    #[test]
    fn what_does_not_run_is_down_and_the_rest_asks_for_attention() {
        let both =
            |sync, health| json!({ "sync": { "status": sync }, "health": { "status": health } });
        assert_eq!(reasons(&both("Synced", "Healthy")), []);
        assert_eq!(reasons(&both("OutOfSync", "Healthy")), [Reason::OutOfSync]);
        assert_eq!(
            reasons(&both("Synced", "Progressing")),
            [Reason::Progressing]
        );
        assert_eq!(reasons(&both("Synced", "Suspended")), [Reason::Suspended]);
        assert_eq!(reasons(&both("OutOfSync", "Degraded")), [Reason::Unhealthy]);
        assert_eq!(reasons(&both("OutOfSync", "Missing")), [Reason::Missing]);
        assert!(is_down(&both("Synced", "Degraded")) && is_down(&both("OutOfSync", "Missing")));
        assert_eq!(reasons(&json!({})), [Reason::Progressing]);
        assert!(!is_down(&json!({})));
    }

    #[test]
    fn failed_operations_and_conditions_are_told() {
        let status = json!({
            "sync": { "status": "Unknown" }, "health": { "status": "Healthy" },
            "operationState": {
                "phase": "Failed", "message": "one or more\n objects failed",
                "startedAt": "2026-11-25T10:00:00Z", "finishedAt": "2026-11-25T10:00:07Z",
            },
            "conditions": [{ "type": "ComparisonError", "message": "repository not found" }],
        });
        assert_eq!(reasons(&status), [Reason::SyncFailed, Reason::ServerError]);
        let (outcome, facts) = of(&status);
        let Outcome::Good { attention } = outcome else {
            panic!("it still works")
        };
        assert!(attention[0].message.ends_with("one or more objects failed"));
        assert_eq!(facts.get("last_sync_duration_seconds"), Some(&7.0.into()));
    }

    #[test]
    fn no_fact_holds_a_password() {
        let (_, facts) = of(&json!({}));
        let shown = serde_json::to_string(&facts).unwrap();
        assert!(shown.contains("https://git.example/shop.git") && !shown.contains("sesame"));
    }

    #[test]
    fn a_set_that_cannot_generate_is_down() {
        let with = |status: &str| {
            let object = json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet",
                "metadata": { "name": "all", "namespace": "argocd" }, "spec": { "generators": [] },
                "status": { "conditions": [{ "type": "ErrorOccurred", "status": status, "message": "no such cluster" }] },
            });
            set(&serde_json::from_value(object).unwrap()).0
        };
        assert!(matches!(with("True"), Outcome::Bad { .. }));
        assert!(matches!(with("False"), Outcome::Good { .. }));
    }
}
