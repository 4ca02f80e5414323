//! From outside: start a unit under a supervisor, stop it, and see how it stands.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use rustix::process::Signal;

use crate::identity::{self, Identity};
use crate::supervise::logs;
use crate::supervise::server::find_unnoted;
use crate::supervise::state::{Files, Phase, Running, State};
use crate::supervise::unit::Unit;
use crate::wait::{Gave, Look, until};

/// How a supervisor is started: this program with these arguments and a run directory after them.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before the run directory.
    pub args: Vec<String>,
}

/// What is known of a unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Where it stands.
    pub phase: Phase,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// The unit's fingerprint when its process was started.
    pub fingerprint: Option<String>,
    /// A supervisor looks after it.
    pub supervised: bool,
}

/// How the unit in `run_dir` stands; `None` when there never was one.
///
/// # Errors
/// When its files cannot be read.
pub fn look(run_dir: &Path) -> Result<Option<Standing>> {
    let files = Files::new(run_dir);
    let supervisor = files.read_supervisor()?.filter(identity::alive);
    let server = files
        .read_server()?
        .filter(|running| identity::alive(&running.process));
    let state = files.read_state()?;
    if Unit::load(run_dir)?.is_none() && server.is_none() {
        return Ok(None);
    }
    Ok(Some(stand(supervisor.as_ref(), server, state)))
}

/// Joins the three notes into one answer: processes are facts, the written state is hearsay.
fn stand(supervisor: Option<&Identity>, server: Option<Running>, state: Option<State>) -> Standing {
    let supervised = supervisor.is_some();
    let noted = state.as_ref().map(|state| state.phase);
    let (phase, mut reason) = match (&server, supervised, noted) {
        (Some(_), true, _) => (
            Phase::Running,
            state
                .as_ref()
                .and_then(|state| Some(format!("last crash: {}", state.reason.as_ref()?))),
        ),
        (Some(_), false, _) => (
            Phase::Running,
            Some("its supervisor died; `services start` gives it a new one".to_owned()),
        ),
        (None, true, Some(Phase::Stopped)) => (Phase::Stopped, None),
        (None, true, _) => (Phase::Waiting, None),
        (None, false, Some(Phase::Running | Phase::Waiting)) => (
            Phase::Stopped,
            Some("it and its supervisor died, or the machine restarted".to_owned()),
        ),
        (None, false, _) => (Phase::Stopped, None),
    };
    reason = reason.or_else(|| state.as_ref().and_then(|state| state.reason.clone()));
    Standing {
        phase,
        pid: server.as_ref().map(|running| running.process.pid),
        since: state.as_ref().map(|state| state.since),
        restarts: state.map_or(0, |state| state.restarts),
        reason,
        fingerprint: server.map(|running| running.fingerprint),
        supervised,
    }
}

/// It writes a few small files before it says that it is there, which a disk that is busy with much else puts
/// off for long.
const COMES_UP: Duration = Duration::from_secs(60);

/// Starts the unit if it does not run, and anew if it runs otherwise than wanted.
/// Says what was done; `None` when nothing had to be.
///
/// # Errors
/// When the supervisor does not come up.
pub async fn start(unit: &Unit, launcher: &Launcher) -> Result<Option<String>> {
    let standing = look(&unit.run_dir)?;
    let wanted = unit.fingerprint();
    let mut done = "started";
    if let Some(standing) = &standing {
        let as_wanted = standing.fingerprint.as_ref() == Some(&wanted);
        if standing.pid.is_some() && standing.supervised && as_wanted {
            return Ok(None);
        }
        if standing.pid.is_some() && as_wanted {
            done = "taken over from a supervisor that died";
        } else if standing.pid.is_some() || standing.supervised {
            stop(&unit.run_dir).await?;
            done = "restarted with changed settings";
        }
    }
    unit.save()?;
    let mut child = spawn(launcher, &unit.run_dir)?;
    let gave = until(
        COMES_UP,
        |_| {},
        || std::future::ready(supervisor_up(&unit.run_dir, &mut child)),
    )
    .await;
    match gave {
        Ok(()) => Ok(Some(done.to_owned())),
        Err(Gave::Hopeless(error)) => Err(error),
        Err(Gave::TimedOut(_)) => bail!(
            "the supervisor of {} did not come up in {} s; see {}",
            unit.name,
            COMES_UP.as_secs(),
            Files::new(&unit.run_dir).supervisor_log().display()
        ),
    }
}

fn supervisor_up(run_dir: &Path, child: &mut std::process::Child) -> Look<(), anyhow::Error> {
    let files = Files::new(run_dir);
    match files.read_supervisor() {
        Ok(Some(noted)) if identity::alive(&noted) => return Look::Done(()),
        Ok(_) => {}
        Err(error) => return Look::Hopeless(error),
    }
    match child.try_wait() {
        Ok(Some(status)) => {
            let log = files.supervisor_log();
            let last = logs::tail(&log, 3).unwrap_or_default().join(" / ");
            Look::Hopeless(anyhow!("the supervisor ended ({status}): {last}"))
        }
        _ => Look::NotYet("the supervisor starts".to_owned()),
    }
}

fn spawn(launcher: &Launcher, run_dir: &Path) -> Result<std::process::Child> {
    let log = logs::open(&Files::new(run_dir).supervisor_log())?;
    Command::new(&launcher.program)
        .args(&launcher.args)
        .arg(run_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", launcher.program.display()))
}

/// Stops the unit's process and its supervisor; says whether anything ran.
///
/// # Errors
/// When they do not end.
pub async fn stop(run_dir: &Path) -> Result<bool> {
    let Some(unit) = Unit::load(run_dir)? else {
        return Ok(false);
    };
    let files = Files::new(run_dir);
    let grace = Duration::from_millis(unit.stop_grace_ms);
    let mut ran = false;
    if let Some(supervisor) = files.read_supervisor()?
        && identity::signal(&supervisor, Signal::TERM)?
    {
        ran = true;
        if !gone(&supervisor, grace + Duration::from_secs(5)).await {
            identity::signal(&supervisor, Signal::KILL)?;
        }
    }
    // Normally the supervisor took it along. If it had died, or hangs, the process is still ours.
    let noted = files.read_server()?.map(|running| running.process);
    for server in noted.into_iter().chain(find_unnoted(&unit)) {
        if identity::signal(&server, unit.stop_signal.signal())? {
            ran = true;
            if !gone(&server, grace).await {
                identity::signal(&server, Signal::KILL)?;
                if !gone(&server, Duration::from_secs(5)).await {
                    bail!(
                        "{} (pid {}) does not end, not even when killed",
                        unit.name,
                        server.pid
                    );
                }
            }
        }
    }
    files.clear_server()?;
    files.clear_supervisor()?;
    if ran {
        let restarts = files.read_state()?.map_or(0, |state| state.restarts);
        files.write_state(&State {
            phase: Phase::Stopped,
            since: Timestamp::now(),
            restarts,
            reason: None,
        })?;
    }
    Ok(ran)
}

async fn gone(process: &Identity, limit: Duration) -> bool {
    let look = || {
        std::future::ready(if identity::alive(process) {
            Look::<(), ()>::NotYet(String::from("it still runs"))
        } else {
            Look::Done(())
        })
    };
    until(limit, |_| {}, look).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::stand;
    use crate::identity::Identity;
    use crate::supervise::state::{Phase, Running, State};
    use jiff::Timestamp;

    fn process() -> Identity {
        Identity {
            pid: 9,
            start_ticks: 1,
            boot_id: "b".into(),
        }
    }

    fn state(phase: Phase) -> Option<State> {
        Some(State {
            phase,
            since: Timestamp::UNIX_EPOCH,
            restarts: 2,
            reason: None,
        })
    }

    fn running() -> Option<Running> {
        Some(Running {
            process: process(),
            fingerprint: "f".into(),
        })
    }

    #[test]
    fn processes_are_believed_before_notes() {
        let seen = stand(Some(&process()), running(), state(Phase::Waiting));
        assert_eq!((seen.phase, seen.pid), (Phase::Running, Some(9)));
        let orphan = stand(None, running(), state(Phase::Running));
        assert_eq!(orphan.phase, Phase::Running);
        assert!(orphan.reason.is_some_and(|why| why.contains("supervisor")));
        let after_reboot = stand(None, None, state(Phase::Running));
        assert_eq!(after_reboot.phase, Phase::Stopped);
        assert!(after_reboot.reason.is_some());
        let crashed = stand(Some(&process()), None, state(Phase::Waiting));
        assert_eq!((crashed.phase, crashed.restarts), (Phase::Waiting, 2));
        let stopped = stand(None, None, state(Phase::Stopped));
        assert_eq!((stopped.phase, stopped.reason), (Phase::Stopped, None));
    }
}
