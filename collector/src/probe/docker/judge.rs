//! What the state of a container means. Pure.
//!
//! Source of the words: the Docker Engine API, `ContainerState`.

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, Health,
    HealthStatusEnum as Healthy, RestartPolicyNameEnum as Policy,
};
use comind_model::fact::Facts;
use comind_model::observation::{Attention, Outcome};
use comind_model::reason::Reason;

/// So much of what a health check said is repeated.
const SAID: usize = 200;

/// How a container is, and what is to be known of it.
pub(super) fn container(container: &ContainerInspectResponse) -> (Outcome, Facts) {
    let mut facts = Facts::default();
    let config = container.config.as_ref();
    if let Some(image) = config.and_then(|config| config.image.as_deref()) {
        facts.set("image", image);
    }
    if let Some(restarts) = container.restart_count {
        facts.set("restarts", restarts as f64);
    }
    let empty = ContainerState::default();
    let state = container.state.as_ref().unwrap_or(&empty);
    if let Some(status) = state.status {
        facts.set("status", status.to_string());
    }
    let policy = container.host_config.as_ref();
    let policy = policy.and_then(|config| config.restart_policy.as_ref()?.name);
    (outcome(state, policy), facts)
}

fn outcome(state: &ContainerState, policy: Option<Policy>) -> Outcome {
    let code = state.exit_code.unwrap_or(0);
    match state.status {
        Some(Status::RUNNING) => health(state.health.as_ref()),
        Some(Status::CREATED) => attention(Reason::Progressing, "it was created and not started"),
        Some(Status::PAUSED) => bad(Reason::Suspended, "it is paused"),
        Some(Status::RESTARTING) => bad(
            Reason::CrashLoop,
            format!("it ended with code {code} and is being started again"),
        ),
        Some(Status::REMOVING) => attention(Reason::Progressing, "it is being removed"),
        // A job that ran to its end did what it should.
        Some(Status::EXITED) if code == 0 && is_once(policy) => {
            attention(Reason::Exited, "it ran to its end")
        }
        _ if state.oom_killed == Some(true) => bad(
            Reason::OomKilled,
            format!("it ran out of memory and ended with code {code}"),
        ),
        _ => bad(
            Reason::Exited,
            format!("it ended with code {code}{}", why(state)),
        ),
    }
}

fn is_once(policy: Option<Policy>) -> bool {
    matches!(
        policy,
        None | Some(Policy::NO | Policy::EMPTY | Policy::ON_FAILURE)
    )
}

fn why(state: &ContainerState) -> String {
    match state.error.as_deref() {
        None | Some("") => String::new(),
        Some(error) => format!(": {error}"),
    }
}

fn health(health: Option<&Health>) -> Outcome {
    let Some(health) = health else {
        return good();
    };
    match health.status {
        Some(Healthy::UNHEALTHY) => {
            let log = health.log.as_ref().and_then(|log| log.last());
            let said = log
                .and_then(|result| result.output.as_deref())
                .unwrap_or_default();
            let said: String = said.trim().chars().take(SAID).collect();
            bad(Reason::Unhealthy, format!("its health check fails: {said}"))
        }
        Some(Healthy::STARTING) => attention(
            Reason::Progressing,
            "its health check has not succeeded yet",
        ),
        _ => good(),
    }
}

fn good() -> Outcome {
    Outcome::Good {
        attention: Vec::new(),
    }
}

fn attention(reason: Reason, message: &str) -> Outcome {
    let message = message.to_owned();
    Outcome::Good {
        attention: vec![Attention { reason, message }],
    }
}

fn bad(reason: Reason, message: impl Into<String>) -> Outcome {
    let message = message.into();
    Outcome::Bad { reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn word(state: &Value, policy: Option<Policy>) -> String {
        let state: ContainerState = serde_json::from_value(state.clone()).unwrap();
        match outcome(&state, policy) {
            Outcome::Bad { reason, .. } => format!("down {reason}"),
            Outcome::Good { attention } => match attention.first() {
                Some(attention) => format!("degraded {}", attention.reason),
                None => "up".to_owned(),
            },
        }
    }

    #[test]
    fn a_container_is_up_while_it_runs_and_is_healthy() {
        let running = |health: &str| json!({ "Status": "running", "Health": { "Status": health } });
        let always = Some(Policy::ALWAYS);
        assert_eq!(word(&json!({ "Status": "running" }), None), "up");
        assert_eq!(word(&running("healthy"), None), "up");
        assert_eq!(word(&running("starting"), None), "degraded progressing");
        assert_eq!(word(&running("unhealthy"), None), "down unhealthy");
        assert_eq!(word(&json!({ "Status": "paused" }), None), "down suspended");
        assert_eq!(
            word(&json!({ "Status": "restarting", "ExitCode": 1 }), always),
            "down crash_loop"
        );
        let exited = |code: i64| json!({ "Status": "exited", "ExitCode": code });
        assert_eq!(word(&exited(0), None), "degraded exited");
        assert_eq!(word(&exited(0), always), "down exited");
        assert_eq!(word(&exited(2), None), "down exited");
        let killed = json!({ "Status": "exited", "ExitCode": 137, "OOMKilled": true });
        assert_eq!(word(&killed, None), "down oom_killed");
    }
}
