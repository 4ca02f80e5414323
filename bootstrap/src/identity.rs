//! Which process is meant: a pid alone may have been given to a stranger since.
//!
//! A process is the one we started only if pid, start time (field 22 of `/proc/PID/stat`, in clock
//! ticks since boot) and the boot itself agree. Signals go through a pidfd that is opened before
//! the check, so nothing can slip in between.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, for as long as the machine has run since.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

/// What the system says about a pid right now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// When the process with that pid began, in clock ticks since boot.
    pub start_ticks: u64,
    /// It has ended and only waits for its parent to notice.
    pub zombie: bool,
}

/// Whether the noted process is the one that is seen, and alive.
pub fn same(noted: &Identity, boot_id: &str, seen: Option<&Seen>) -> bool {
    seen.is_some_and(|seen| {
        noted.boot_id == boot_id && noted.start_ticks == seen.start_ticks && !seen.zombie
    })
}

/// The identity of a running process.
///
/// # Errors
/// When it has gone, or `/proc` cannot be read.
pub fn of(pid: i32) -> Result<Identity> {
    let seen = see(pid).with_context(|| format!("process {pid} has gone already"))?;
    Ok(Identity {
        pid,
        start_ticks: seen.start_ticks,
        boot_id: boot_id()?,
    })
}

/// Whether the noted process still runs.
pub fn alive(noted: &Identity) -> bool {
    boot_id().is_ok_and(|boot| same(noted, &boot, see(noted.pid).as_ref()))
}

/// A handle on the noted process, or `None` when it has ended.
///
/// # Errors
/// When the kernel gives no handle although the process is there.
pub fn hold(noted: &Identity) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(noted.pid) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        // Checked after opening: the handle is of the process that is seen here, or of a dead one.
        Ok(handle) => Ok(alive(noted).then_some(handle)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot hold process {}", noted.pid)),
    }
}

/// Sends a signal to the noted process; says whether it was still there.
///
/// # Errors
/// When the kernel refuses.
pub fn signal(noted: &Identity, signal: Signal) -> Result<bool> {
    let Some(handle) = hold(noted)? else {
        return Ok(false);
    };
    match pidfd_send_signal(&handle, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot signal process {}", noted.pid)),
    }
}

fn see(pid: i32) -> Option<Seen> {
    let stat = Process::new(pid).and_then(|process| process.stat()).ok()?;
    Some(Seen {
        start_ticks: stat.starttime,
        zombie: matches!(stat.state, 'Z' | 'X'),
    })
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Identity, Seen, alive, of, same, signal};
    use rustix::process::Signal;

    fn noted() -> Identity {
        Identity {
            pid: 7,
            start_ticks: 100,
            boot_id: "a".into(),
        }
    }

    #[test]
    fn the_same_process_needs_pid_start_and_boot() {
        let seen = Seen {
            start_ticks: 100,
            zombie: false,
        };
        assert!(same(&noted(), "a", Some(&seen)));
        assert!(!same(&noted(), "b", Some(&seen)), "after a reboot");
        assert!(!same(&noted(), "a", None), "it has gone");
        let stranger = Seen {
            start_ticks: 101,
            zombie: false,
        };
        assert!(
            !same(&noted(), "a", Some(&stranger)),
            "pid given to another"
        );
        let dead = Seen {
            start_ticks: 100,
            zombie: true,
        };
        assert!(!same(&noted(), "a", Some(&dead)), "dead, not yet reaped");
    }

    #[test]
    fn a_stranger_gets_no_signal() -> anyhow::Result<()> {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()?;
        let pid = i32::try_from(child.id())?;
        let mut identity = of(pid)?;
        assert!(alive(&identity));
        identity.start_ticks += 1;
        assert!(!signal(&identity, Signal::KILL)?);
        assert!(child.try_wait()?.is_none(), "the stranger lives on");
        identity.start_ticks -= 1;
        assert!(signal(&identity, Signal::KILL)?);
        child.wait()?;
        assert!(!alive(&identity));
        Ok(())
    }
}
