//! A shell that outlives us and kills what we started when we die.
//!
//! It holds the reading end of a pipe from us. When this process dies in
//! whatever way, the pipe closes and the watchdog kills the tree. The kernel's
//! parent death signal is not used for that: it fires when the thread that
//! forked ends, not the process, and would need `unsafe` here.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::Pid;

/// What the watchdog runs: waits for a word (all is well) or the end of the
/// pipe (our process died), then kills the tree below $1 and cleans with $2.
const WATCHDOG: &str = r#"
tree() { for c in $(cat /proc/$1/task/*/children 2>/dev/null); do echo $c; tree $c; done; }
read -r word && exit 0
all=$(tree $1)
kill -s KILL -- -$1 $1 $all 2>/dev/null
eval "$2"
"#;

#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    pipe: ChildStdin,
}

impl Watchdog {
    /// Watches over the tree below `pid`.
    pub(crate) fn spawn(pid: Pid, cleanup: &str) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "comind-peers-watchdog"])
            .arg(pid.as_raw_nonzero().to_string())
            .arg(cleanup)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // out of reach of the terminal's Ctrl-C
            .spawn()
            .context("could not start the watchdog shell")?;
        let pipe = shell.stdin.take().context("the watchdog has no pipe")?;
        Ok(Self { shell, pipe })
    }

    /// Ends it; the tree has been seen to.
    pub(crate) fn stand_down(mut self) {
        let _ = self.pipe.write_all(b"well\n");
        drop(self.pipe);
        let _ = self.shell.wait();
    }

    /// What the kernel does when our process is killed: the pipe closes.
    /// Returns when the watchdog has done its work.
    #[cfg(test)]
    pub(crate) fn abandon(mut self) -> Result<()> {
        drop(self.pipe);
        self.shell.wait()?;
        Ok(())
    }
}
