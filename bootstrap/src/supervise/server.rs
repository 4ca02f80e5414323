//! The supervised process itself: started by us, or taken over from a supervisor that died.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::identity::{self, Identity};
use crate::supervise::logs;
use crate::supervise::unit::Unit;

/// Set in the process's environment to its run directory: a process whose pid was not noted
/// because the supervisor died at that very moment is found by it.
pub const MARK: &str = "COMIND_SUPERVISED";

/// How often an adopted process is looked at.
const ADOPTED_LOOK: Duration = Duration::from_millis(50);

/// How a process ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Without an error, or by a polite signal: somebody wanted it.
    Stopped(String),
    /// In any other way.
    Crashed(String),
}

/// A process that runs.
pub enum Server {
    /// Our child.
    Child(Identity, Child),
    /// Somebody else's child.
    Adopted(Identity),
}

impl Server {
    /// Starts the unit's program.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn launch(unit: &Unit) -> Result<Self> {
        let log = logs::open(&unit.log)?;
        let mut command = Command::new(&unit.program);
        command
            .args(&unit.args)
            .env_clear()
            .envs(&unit.env)
            .env(MARK, &unit.run_dir)
            .current_dir(&unit.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            .process_group(0);
        if let Some(user) = &unit.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", unit.program.display()))?;
        let pid = child.id().context("the process ended at once")?;
        let identity = identity::of(i32::try_from(pid)?)?;
        Ok(Self::Child(identity, child))
    }

    /// Takes over a process that runs already; `None` when it has ended.
    pub fn adopt(noted: &Identity) -> Option<Self> {
        identity::alive(noted).then(|| Self::Adopted(noted.clone()))
    }

    /// Which process it is.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Child(identity, _) | Self::Adopted(identity) => identity,
        }
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> Ended {
        match self {
            Self::Child(_, child) => match child.wait().await {
                Ok(status) => judge(status),
                Err(error) => Ended::Crashed(format!("cannot wait for it: {error}")),
            },
            // Only a parent is told of its child's end, and how it came.
            Self::Adopted(identity) => {
                let mut look = tokio::time::interval(ADOPTED_LOOK);
                while identity::alive(identity) {
                    look.tick().await;
                }
                Ended::Crashed("ended; how is not known".to_owned())
            }
        }
    }

    /// Asks it to end, and kills it after `grace`.
    ///
    /// # Errors
    /// When a signal cannot be sent.
    pub async fn stop(&mut self, how: Signal, grace: Duration) -> Result<()> {
        identity::signal(self.identity(), how)?;
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            identity::signal(self.identity(), Signal::KILL)?;
            self.ended().await;
        }
        Ok(())
    }
}

/// A clean exit and a polite signal mean that somebody wanted the end; Java says the latter as
/// 128 + signal.
fn judge(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    let polite = [Signal::TERM.as_raw(), Signal::INT.as_raw()];
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Stopped("exited by itself without an error".to_owned()),
        (Some(code), _) if polite.contains(&(code - 128)) => {
            Ended::Stopped(format!("ended by signal {} from outside", code - 128))
        }
        (Some(code), _) => Ended::Crashed(format!("exited with code {code}")),
        (None, Some(signal)) if polite.contains(&signal) => {
            Ended::Stopped(format!("ended by signal {signal} from outside"))
        }
        (None, Some(signal)) => Ended::Crashed(format!("killed by signal {signal}")),
        (None, None) => Ended::Crashed(status.to_string()),
    }
}

/// A process that carries our mark though nobody noted its pid. Children of such do not count, nor
/// do other programs that it has started and that outlive it, such as containers.
pub fn find_unnoted(unit: &Unit) -> Option<Identity> {
    let marked: Vec<_> = procfs::process::all_processes()
        .ok()?
        .flatten()
        .filter(|process| carries_mark(process.pid, &unit.run_dir) && runs(process, &unit.program))
        .filter_map(|process| process.stat().ok())
        .filter(|stat| stat.state != 'Z')
        .collect();
    let own = marked
        .iter()
        .find(|stat| !marked.iter().any(|other| other.pid == stat.ppid))?;
    identity::of(own.pid).ok()
}

/// By the file's name alone: a program may be a link, and may have been replaced meanwhile.
fn runs(process: &procfs::process::Process, program: &Path) -> bool {
    let name = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    process.exe().is_ok_and(|exe| name(&exe) == name(program))
}

/// Whether a process was started for the unit in `run_dir`.
pub fn carries_mark(pid: i32, run_dir: &Path) -> bool {
    procfs::process::Process::new(pid)
        .and_then(|process| process.environ())
        .is_ok_and(|env| {
            env.get(OsStr::new(MARK))
                .is_some_and(|dir| dir == run_dir.as_os_str())
        })
}

#[cfg(test)]
mod tests {
    use super::{Ended, judge};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    #[test]
    fn only_what_nobody_wanted_is_a_crash() {
        let stopped = |raw| matches!(judge(ExitStatus::from_raw(raw)), Ended::Stopped(_));
        assert!(stopped(0), "exit 0");
        assert!(stopped(15), "SIGTERM");
        assert!(stopped(2), "SIGINT");
        assert!(stopped(143 << 8), "Java's exit after SIGTERM");
        assert!(!stopped(9), "SIGKILL");
        assert!(!stopped(11), "SIGSEGV");
        assert!(!stopped(1 << 8), "exit 1");
    }
}
