//! Starts the collector and waits until it sees every service up.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::event::{About, Level};
use crate::home::Home;
use crate::services::ports;
use crate::supervise::control::{self, Launcher};
use crate::supervise::crashes::Crashes;
use crate::supervise::logs;
use crate::supervise::server::carries_mark;
use crate::supervise::state::Phase;
use crate::supervise::unit::Unit;
use crate::wait::{Gave, Look, until};
use crate::watch::client::{Client, State, Target};

/// How long the collector may take to see all targets up.
const LIMIT: Duration = Duration::from_secs(60);
/// So many crashes while it is being started mean that it cannot.
const HOPELESS_CRASHES: u32 = 3;

/// Starts the collector, anew if its program changed; says what was done.
///
/// # Errors
/// When its port is taken or it does not come up.
pub async fn start(unit: &Unit, launcher: &Launcher, port: u16) -> Result<Option<String>> {
    if let Some(holder) = ports::holder(port)?
        && !holder
            .process
            .as_ref()
            .is_some_and(|process| carries_mark(process.pid, &unit.run_dir))
    {
        bail!(
            "port {port} is taken by {}; stop it, or choose another one: --api-port PORT",
            holder.describe()
        );
    }
    control::start(unit, launcher).await
}

/// Waits until the collector has looked at every target, and each but `excused` is up.
///
/// # Errors
/// When the collector fails, or a required target is not up in time. An optional one is told.
pub async fn wait(
    home: &Home,
    unit: &Unit,
    client: &Client,
    excused: &[&str],
    about: About<'_>,
) -> Result<State> {
    let crashes = Crashes::default();
    let gave = until(
        LIMIT,
        |why| about.say(Level::Waiting, format!("waiting: {why}")),
        || look(unit, client, excused, &crashes),
    )
    .await;
    match gave {
        Ok(state) => Ok(state),
        Err(Gave::Hopeless(why)) => {
            let last = logs::tail(&unit.log, 5)?.join("\n  ");
            bail!("the collector {why}\nits last lines:\n  {last}");
        }
        Err(Gave::TimedOut(why)) => settle(home, client, &why).await,
    }
}

async fn look(
    unit: &Unit,
    client: &Client,
    excused: &[&str],
    crashes: &Crashes,
) -> Look<State, String> {
    match control::look(&unit.run_dir) {
        Ok(Some(standing)) if standing.phase == Phase::Stopped => {
            let why = standing.reason.unwrap_or_default();
            return Look::Hopeless(format!("stopped: {why}"));
        }
        Ok(Some(standing)) => {
            let crashes = crashes.since_first_look(standing.restarts);
            if crashes >= HOPELESS_CRASHES {
                let why = standing.reason.unwrap_or_default();
                return Look::Hopeless(format!("crashed {crashes} times: {why}"));
            }
        }
        Ok(_) => {}
        Err(error) => return Look::Hopeless(format!("cannot be looked at: {error:#}")),
    }
    if let Err(error) = client.ready().await {
        return Look::NotYet(format!("{error:#}"));
    }
    match client.state().await {
        Ok(state) => match missing(&state, excused) {
            Some(why) => Look::NotYet(why),
            None => Look::Done(state),
        },
        Err(error) => Look::NotYet(format!("{error:#}")),
    }
}

/// What is not up and should be, in words.
fn missing(state: &State, excused: &[&str]) -> Option<String> {
    let down: Vec<String> = state
        .targets
        .iter()
        .filter(|target| !works(target) && !excused.contains(&target.name.as_str()))
        .map(|target| format!("{} is {}: {}", target.name, target.health, target.message))
        .collect();
    (!down.is_empty()).then(|| down.join("; "))
}

/// Up, or nearly so.
fn works(target: &Target) -> bool {
    matches!(target.health.as_str(), "up" | "degraded")
}

/// After the deadline: only a required target is a failure.
async fn settle(home: &Home, client: &Client, why: &str) -> Result<State> {
    let state = client.state().await;
    match state {
        Ok(state)
            if state
                .targets
                .iter()
                .all(|target| works(target) || !target.required) =>
        {
            Ok(state)
        }
        _ => bail!(
            "after {} s: {why} (the collector's log: {})",
            LIMIT.as_secs(),
            home.log(super::unit::NAME).display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::watch::client::{State, Target};
    use jiff::Timestamp;

    fn target(name: &str, health: &str) -> Target {
        Target {
            name: name.into(),
            kind: name.into(),
            required: true,
            health: health.into(),
            reason: "refused".into(),
            message: "it refuses".into(),
            advice: String::new(),
            since: Timestamp::UNIX_EPOCH,
            latency_ms: None,
            facts: Default::default(),
        }
    }

    #[test]
    fn what_is_down_is_named_unless_excused() {
        let state = State {
            health: "down".into(),
            targets: vec![
                target("a", "up"),
                target("b", "down"),
                target("c", "degraded"),
            ],
        };
        assert_eq!(
            missing(&state, &[]).as_deref(),
            Some("b is down: it refuses")
        );
        assert_eq!(missing(&state, &["b"]), None);
    }
}
