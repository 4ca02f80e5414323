//! What happens in which order: start, stop and clean, side by side, telling what is waited for.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use futures_util::future::join_all;
use serde::Serialize;

use crate::event::{About, Level, Report};
use crate::services::catalog::Service;
use crate::services::create;
use crate::services::ready;
use crate::services::runtime::{Phase, Runtime};
use crate::services::settings::Settings;
use crate::wait::{Gave, Look, until};

/// So many crashes while it is being started mean that it cannot.
const HOPELESS_CRASHES: u32 = 3;

/// How a start went.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// What was changed, by service.
    pub changed: BTreeMap<&'static str, Vec<String>>,
    /// Required services that failed, with the reason.
    pub failed: BTreeMap<&'static str, String>,
    /// Optional services that failed, with the reason.
    pub warned: BTreeMap<&'static str, String>,
}

/// Brings the services up, side by side, until each answers and holds what must exist in it.
pub async fn start(
    runtime: &dyn Runtime,
    settings: &Settings,
    services: &[Service],
    report: &dyn Report,
) -> Outcome {
    let all = services.iter().map(|service| async move {
        let about = About::new(service.name(), report);
        (*service, bring_up(runtime, settings, *service, about).await)
    });
    let mut outcome = Outcome::default();
    for (service, result) in join_all(all).await {
        match result {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                outcome.changed.insert(service.name(), changes);
            }
            Err(error) if service.required() => {
                outcome.failed.insert(service.name(), format!("{error:#}"));
            }
            Err(error) => {
                outcome.warned.insert(service.name(), format!("{error:#}"));
            }
        }
    }
    outcome
}

async fn bring_up(
    runtime: &dyn Runtime,
    settings: &Settings,
    service: Service,
    about: About<'_>,
) -> Result<Vec<String>> {
    let brought = try_bring_up(runtime, settings, service, about).await;
    match &brought {
        Ok(changes) if changes.is_empty() => about.say(Level::Unchanged, "runs and answers"),
        Ok(changes) => about.say(Level::Changed, changes.join(", ")),
        Err(error) if service.required() => about.say(Level::Failed, format!("{error:#}")),
        Err(error) => about.say(
            Level::Warning,
            format!("failed, but is optional, so the rest goes on: {error:#}"),
        ),
    }
    brought
}

/// Makes ready, starts, waits until it answers, and makes what must exist in it; says what it changed.
///
/// # Errors
/// With the reason and the last lines of its log.
pub async fn try_bring_up(
    runtime: &dyn Runtime,
    settings: &Settings,
    service: Service,
    about: About<'_>,
) -> Result<Vec<String>> {
    let mut changes = runtime.prepare(service, about).await?;
    let before = runtime.look(service).await?;
    if before.phase != Phase::Running {
        about.say(Level::Doing, "starting");
    }
    let started = runtime.start(service).await?;
    if let Err(error) = answer(runtime, settings, service, about).await {
        // What cannot start is not left behind crashing; what ran before is left as it was.
        if started.is_some() {
            runtime.stop(service).await?;
        }
        return Err(error);
    }
    changes.extend(started);
    let made = create::missing(service, settings).await?;
    changes.extend(made.into_iter().map(|what| format!("made {what}")));
    Ok(changes)
}

/// Waits until the service answers.
async fn answer(
    runtime: &dyn Runtime,
    settings: &Settings,
    service: Service,
    about: About<'_>,
) -> Result<()> {
    let limit = service.start_limit();
    let before = runtime.look(service).await?.restarts;
    let gave = until(
        limit,
        |why| about.say(Level::Waiting, format!("waiting: {why}")),
        || look(runtime, settings, service, before),
    )
    .await;
    let why = match gave {
        Ok(()) => return Ok(()),
        Err(Gave::Hopeless(error)) => error,
        Err(Gave::TimedOut(why)) => format!("no answer within {} s: {why}", limit.as_secs()),
    };
    let last = runtime.tail(service, 5).await.unwrap_or_default();
    if last.is_empty() {
        bail!("{why}");
    }
    bail!("{why}\nits last lines:\n  {}", last.join("\n  "));
}

async fn look(
    runtime: &dyn Runtime,
    settings: &Settings,
    service: Service,
    restarts_before: u32,
) -> Look<(), String> {
    let seen = match runtime.look(service).await {
        Ok(seen) => seen,
        Err(error) => return Look::Hopeless(format!("{error:#}")),
    };
    let reason = seen.reason.clone().unwrap_or_default();
    match seen.phase {
        Phase::Stopped | Phase::Absent | Phase::Blocked => {
            Look::Hopeless(format!("it stopped: {reason}"))
        }
        _ if seen.restarts >= restarts_before + HOPELESS_CRASHES => {
            Look::Hopeless(format!("it crashed {} times: {reason}", seen.restarts))
        }
        Phase::Restarting if reason.is_empty() => Look::NotYet("its process begins".to_owned()),
        Phase::Restarting => Look::NotYet(format!("it crashed and is started again: {reason}")),
        Phase::Running => match ready::ask(service, settings).await {
            Ok(()) => Look::Done(()),
            Err(error) => Look::NotYet(brief(&format!("{error:#}"))),
        },
    }
}

/// While a server starts, the beginning of its refusal is enough.
fn brief(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Stops the services, side by side; says which ones ran.
///
/// # Errors
/// With all that did not stop.
pub async fn stop(
    runtime: &dyn Runtime,
    services: &[Service],
    report: &dyn Report,
) -> Result<Vec<Service>> {
    let all = services.iter().map(|service| async move {
        let about = About::new(service.name(), report);
        let stopped = runtime.stop(*service).await;
        match &stopped {
            Ok(true) => about.say(Level::Changed, "stopped; its data is kept"),
            Ok(false) => about.say(Level::Unchanged, "did not run"),
            Err(error) => about.say(Level::Failed, format!("{error:#}")),
        }
        (*service, stopped)
    });
    let mut ran = Vec::new();
    let mut failed = Vec::new();
    for (service, stopped) in join_all(all).await {
        match stopped {
            Ok(true) => ran.push(service),
            Ok(false) => {}
            Err(_) => failed.push(service.name()),
        }
    }
    if !failed.is_empty() {
        bail!("did not stop: {}", failed.join(", "));
    }
    Ok(ran)
}

/// What `clean` would remove, by service.
///
/// # Errors
/// When the runtime cannot be asked.
pub async fn belongings(runtime: &dyn Runtime) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for service in Service::ALL {
        all.extend(runtime.belongings(service).await?);
    }
    Ok(all)
}

/// Stops and removes every service with its data; only what is ours.
///
/// # Errors
/// With the first that could not be removed.
pub async fn clean(runtime: &dyn Runtime, report: &dyn Report) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for service in Service::ALL {
        let about = About::new(service.name(), report);
        let removed = runtime.clean(service).await?;
        if removed.is_empty() {
            about.say(Level::Unchanged, "nothing to remove");
        } else {
            about.say(Level::Changed, format!("removed {}", removed.join(", ")));
        }
        all.extend(removed);
    }
    all.extend(runtime.clean_shared().await?);
    Ok(all)
}
