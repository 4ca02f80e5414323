//! One server process with all its descendants: started in a process group of
//! its own, signalled as a whole, and gone with the test.
//!
//! Must not know which server it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::tree::{processes, tree};
use crate::user::User;
use crate::watchdog::Watchdog;

/// How long a killed tree may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// At most this much of a log's end is read for messages.
const LOG_TAIL: u64 = 16 * 1024;

/// How a server is started; kept to start it again in the same way.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables set beside ours.
    pub env: Vec<(String, String)>,
    /// Run as this user instead of us.
    pub user: Option<User>,
    /// Working directory.
    pub dir: PathBuf,
    /// Both output streams are appended here.
    pub log: PathBuf,
    /// Shell text which the watchdog runs after a kill for what outlives
    /// processes (network bridges, mounts). Empty for nearly all.
    pub cleanup: String,
}

impl Launch {
    /// A launch without arguments, run in `dir`, logging to `dir/server.log`.
    pub fn new(program: PathBuf, dir: &Path) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            dir: dir.to_owned(),
            log: dir.join("server.log"),
            cleanup: String::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The command, ready to be spawned by whoever wants the output.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

/// A running tree of processes. Dropping it kills the tree.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    watchdog: Option<Watchdog>,
    launch: Launch,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts the program and its watchdog.
    pub fn spawn(launch: &Launch) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .with_context(|| format!("could not open the log {}", launch.log.display()))?;
        let child = launch
            .command()
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("could not start {}", launch.program.display()))?;
        let pid = Pid::from_child(&child);
        let mut process = Self {
            child,
            pid,
            watchdog: None,
            launch: launch.clone(),
            exited: None,
        };
        process.watchdog = Some(Watchdog::spawn(pid, &launch.cleanup)?);
        Ok(process)
    }

    /// The process id of the program itself (its process group has the same).
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The exit status once the program has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.exited.is_none() {
            self.exited = self
                .child
                .try_wait()
                .context("could not wait for a child")?;
        }
        Ok(self.exited)
    }

    /// SIGKILL to the whole tree, then waits until it is gone. Returns the
    /// instant just before the first signal.
    pub fn kill(&mut self) -> Result<Instant> {
        let all = self.tree()?;
        let at = Instant::now();
        self.signal_all(&all, Signal::KILL);
        if self.exited.is_none() {
            self.exited = Some(self.child.wait().context("could not reap a killed child")?);
        }
        self.wait_gone(&all, at)?;
        self.clean();
        Ok(at)
    }

    /// Sends one signal to the program itself and waits until the tree is gone.
    pub fn end(&mut self, signal: Signal, deadline: Duration) -> Result<ExitStatus> {
        let all = self.tree()?;
        let at = Instant::now();
        if self.exited()?.is_none() {
            kill_process(self.pid, signal).context("could not signal a server")?;
        }
        loop {
            if let Some(status) = self.exited()? {
                self.wait_gone(&all, Instant::now())?;
                self.clean();
                return Ok(status);
            }
            if at.elapsed() > deadline {
                bail!("{} still runs {deadline:?} after {signal:?}", self.name());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGSTOP to the whole tree, again until no new process appears. Returns
    /// the instant just before the first signal.
    pub fn stop_signal(&self) -> Result<Instant> {
        let at = Instant::now();
        let mut stopped = BTreeMap::new();
        loop {
            let fresh: BTreeMap<i32, u64> = self
                .tree()?
                .into_iter()
                .filter(|(pid, _)| !stopped.contains_key(pid))
                .collect();
            if fresh.is_empty() {
                return Ok(at);
            }
            self.signal_all(&fresh, Signal::STOP);
            stopped.extend(fresh);
        }
    }

    /// SIGCONT to the whole tree. Returns the instant just before the first signal.
    pub fn continue_signal(&self) -> Result<Instant> {
        let all = self.tree()?;
        let at = Instant::now();
        self.signal_all(&all, Signal::CONT);
        Ok(at)
    }

    /// The processes of the tree which are alive, by process id.
    pub fn tree(&self) -> Result<BTreeMap<i32, u64>> {
        Ok(tree(&processes()?, self.pid.as_raw_nonzero().get()))
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.launch.log)
    }

    fn name(&self) -> String {
        let name = self.launch.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// A process that ended meanwhile is no error: it is what a kill wants.
    fn signal_all(&self, all: &BTreeMap<i32, u64>, signal: Signal) {
        if self.exited.is_none() {
            let _ = kill_process_group(self.pid, signal);
        }
        for pid in all.keys().filter_map(|&raw| Pid::from_raw(raw)) {
            if pid != self.pid {
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn wait_gone(&self, all: &BTreeMap<i32, u64>, since: Instant) -> Result<()> {
        loop {
            let alive = processes()?;
            let left: BTreeSet<i32> = all
                .iter()
                .filter(|(pid, start)| alive.get(pid).is_some_and(|p| p.start == **start))
                .map(|(pid, _)| *pid)
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if since.elapsed() > GONE {
                bail!(
                    "{}: processes {left:?} still live {GONE:?} after the kill",
                    self.name()
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn clean(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.stand_down();
            if !self.launch.cleanup.is_empty() {
                let _ = Command::new("sh")
                    .arg("-c")
                    .arg(&self.launch.cleanup)
                    .status();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.watchdog.is_some() || self.exited.is_none() {
            let _ = self.kill();
        }
    }
}

/// The last lines of a log file, at most 16 KiB; says so when there is none.
pub fn log_tail(path: &Path) -> String {
    read_tail(path).unwrap_or_else(|error| format!("(no log at {}: {error})", path.display()))
}

fn read_tail(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shell(script: &str) -> Result<(tempfile::TempDir, Process)> {
        let dir = tempfile::tempdir()?;
        let launch = Launch::new("/bin/sh".into(), dir.path()).args(["-c", script]);
        let process = Process::spawn(&launch)?;
        Ok((dir, process))
    }

    /// Waits for the `count` processes that a script starts.
    fn grown(process: &Process, count: usize) -> Result<BTreeMap<i32, u64>> {
        let begin = Instant::now();
        loop {
            let tree = process.tree()?;
            if tree.len() >= count {
                return Ok(tree);
            }
            anyhow::ensure!(begin.elapsed() < GONE, "only {tree:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn states(pids: &BTreeMap<i32, u64>) -> Vec<String> {
        pids.keys()
            .map(|p| fs::read_to_string(format!("/proc/{p}/stat")).unwrap_or_default())
            .map(|s| {
                s.rsplit(')')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .chars()
                    .take(1)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn kill_takes_a_child_with_a_session_of_its_own() -> Result<()> {
        let (_dir, mut process) = shell("setsid sleep 1000 & sleep 1000")?;
        let tree = grown(&process, 3)?;
        process.kill()?;
        let alive = processes()?;
        assert!(tree.keys().all(|pid| !alive.contains_key(pid)));
        Ok(())
    }

    #[test]
    fn stop_and_continue_reach_the_whole_tree() -> Result<()> {
        let (_dir, process) = shell("setsid sleep 1000 & sleep 1000")?;
        let tree = grown(&process, 3)?;
        let begin = Instant::now();
        // A shell that is stopped between fork and exec waits for its child, and never stops.
        while states(&tree).iter().any(|s| s != "S") {
            assert!(begin.elapsed() < GONE, "{:?}", states(&tree));
        }
        process.stop_signal()?;
        let begin = Instant::now();
        while states(&tree).iter().any(|s| s != "T") {
            assert!(begin.elapsed() < GONE, "{:?}", states(&tree));
        }
        process.continue_signal()?;
        while states(&tree).iter().any(|s| s == "T") {
            assert!(begin.elapsed() < GONE, "{:?}", states(&tree));
        }
        Ok(())
    }

    #[test]
    fn the_watchdog_kills_a_stopped_tree_when_the_pipe_closes() -> Result<()> {
        let (_dir, mut process) = shell("setsid sleep 1000 & sleep 1000")?;
        let tree = grown(&process, 3)?;
        process.stop_signal()?;
        let watchdog = process.watchdog.take();
        watchdog.context("there is no watchdog")?.abandon()?;
        process.wait_gone(&tree, Instant::now())
    }

    #[test]
    fn the_log_has_both_streams() -> Result<()> {
        let (_dir, mut process) = shell("echo out; echo err >&2; exit 3")?;
        let status = process.end(Signal::CONT, GONE)?;
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.log_tail(), "out\nerr\n");
        Ok(())
    }
}
