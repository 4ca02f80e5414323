//! How all services stand, as rows: for the table, for JSON, for programs.

use jiff::Timestamp;
use serde::Serialize;

use crate::services::catalog::{self, Service};
use crate::services::ports;
use crate::services::ready;
use crate::services::runtime::{Phase, Runtime, Seen};
use crate::services::settings::Settings;

/// How a service stands, for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It runs and answers.
    Ready,
    /// It runs and does not answer.
    Unready,
    /// It crashed and is about to be started again.
    Restarting,
    /// It does not run.
    Stopped,
    /// It was never set up.
    Absent,
    /// It is not wanted.
    Disabled,
    /// Something that is not ours is in its place.
    Blocked,
}

impl Condition {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Absent => "absent",
            Self::Disabled => "disabled",
            Self::Blocked => "blocked",
        }
    }
}

/// One service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub service: Service,
    /// Whether nothing works without it.
    pub required: bool,
    /// How it stands.
    pub condition: Condition,
    /// Where it runs.
    pub runtime: String,
    /// Its main process on this machine.
    pub pid: Option<i32>,
    /// Its container.
    pub container: Option<String>,
    /// Where people reach it.
    pub url: String,
    /// Its ports on loopback.
    pub ports: Vec<u16>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

/// Looks at every service, all at once.
///
/// # Errors
/// When the runtime itself cannot be asked.
pub async fn rows(runtime: &dyn Runtime, settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let looks = Service::ALL
        .into_iter()
        .map(|service| row(runtime, settings, service));
    futures_util::future::try_join_all(looks).await
}

async fn row(runtime: &dyn Runtime, settings: &Settings, service: Service) -> anyhow::Result<Row> {
    let seen = runtime.look(service).await?;
    let wanted = settings.wanted().contains(&service);
    let answer = match seen.phase {
        Phase::Running => ready::ask(service, settings)
            .await
            .map_err(|error| format!("{error:#}")),
        _ => Err(String::new()),
    };
    let (condition, mut reason) = judge(&seen, wanted, answer);
    if matches!(condition, Condition::Stopped | Condition::Absent) && reason.is_none() {
        reason = in_the_way(service, settings);
    }
    Ok(Row {
        service,
        required: service.required(),
        condition,
        runtime: runtime.kind().name().to_owned(),
        pid: seen.pid,
        container: seen.container,
        url: catalog::url(service, settings),
        ports: catalog::ports(service, settings)
            .iter()
            .map(|port| port.host)
            .collect(),
        since: seen.since,
        restarts: seen.restarts,
        reason,
    })
}

fn judge(seen: &Seen, wanted: bool, answer: Result<(), String>) -> (Condition, Option<String>) {
    let reason = seen.reason.clone();
    match (seen.phase, answer) {
        (Phase::Running, Ok(())) => (Condition::Ready, reason),
        (Phase::Running, Err(why)) => {
            let more = reason.map(|more| format!(" ({more})")).unwrap_or_default();
            (Condition::Unready, Some(why + &more))
        }
        (Phase::Restarting, _) => (Condition::Restarting, reason),
        (Phase::Blocked, _) => (Condition::Blocked, reason),
        (_, _) if !wanted => (Condition::Disabled, None),
        (Phase::Stopped, _) => (Condition::Stopped, reason),
        (Phase::Absent, _) => (Condition::Absent, reason),
    }
}

fn in_the_way(service: Service, settings: &Settings) -> Option<String> {
    catalog::ports(service, settings).iter().find_map(|port| {
        let holder = ports::holder(port.host).ok()??;
        Some(format!(
            "port {} is held by {}",
            port.host,
            holder.describe()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::{Condition, judge};
    use crate::services::runtime::{Phase, Seen};

    #[test]
    fn running_is_not_yet_ready() {
        let mut seen = Seen::absent();
        assert_eq!(judge(&seen, true, Ok(())).0, Condition::Absent);
        assert_eq!(judge(&seen, false, Ok(())).0, Condition::Disabled);
        seen.phase = Phase::Running;
        assert_eq!(judge(&seen, true, Ok(())).0, Condition::Ready);
        let unready = judge(&seen, true, Err("refused".into()));
        assert_eq!(unready, (Condition::Unready, Some("refused".into())));
        seen.phase = Phase::Restarting;
        assert_eq!(judge(&seen, true, Ok(())).0, Condition::Restarting);
    }
}
