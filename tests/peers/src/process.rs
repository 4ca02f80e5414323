//! One server process with all its descendants: started in a process group of
//! its own, signalled as a whole, and gone with the test.
//!
//! A watchdog shell holds the reading end of a pipe from us. When this process
//! dies in whatever way, the pipe closes and the watchdog kills the tree. The
//! kernel's parent death signal is not used for that: it fires when the thread
//! that forked ends, not the process, and would need `unsafe` here.
//!
//! Must not know which server it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a killed tree may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// At most this much of a log's end is read for messages.
const LOG_TAIL: u64 = 16 * 1024;

/// What the watchdog runs: waits for a word (all is well) or the end of the
/// pipe (our process died), then kills the tree below $1 and cleans with $2.
const WATCHDOG: &str = r#"
tree() { for c in $(cat /proc/$1/task/*/children 2>/dev/null); do echo $c; tree $c; done; }
read -r word && exit 0
all=$(tree $1)
kill -s KILL -- -$1 $1 $all 2>/dev/null
eval "$2"
"#;

/// An unprivileged user, for servers that refuse to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

impl User {
    /// The user for a server which refuses root: `preferred` or `nobody`.
    /// `None` when we are not root, as the server then simply runs as us.
    pub fn unprivileged(preferred: &str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
        for name in [preferred, "nobody"] {
            if let Some(user) = find_user(&passwd, name) {
                return Ok(Some(user));
            }
        }
        bail!(
            "/etc/passwd has neither {preferred} nor nobody; as root an unprivileged user is needed"
        )
    }
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2);
    Some(User {
        uid: ids.next()?.parse().ok()?,
        gid: ids.next()?.parse().ok()?,
    })
}

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

#[derive(Debug)]
struct Watchdog {
    shell: Child,
    pipe: ChildStdin,
}

impl Watchdog {
    fn spawn(pid: Pid, cleanup: &str) -> Result<Self> {
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

    fn stand_down(mut self) {
        let _ = self.pipe.write_all(b"well\n");
        drop(self.pipe);
        let _ = self.shell.wait();
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

#[derive(Debug, Clone, Copy)]
struct Seen {
    parent: i32,
    /// Start time in clock ticks since boot: tells a reused id from the first.
    start: u64,
}

/// All living processes; a zombie is dead and waits only for its parent.
fn processes() -> Result<BTreeMap<i32, Seen>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")
        .context("could not list /proc")?
        .flatten()
    {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue; // ended meanwhile
        };
        if let Some(seen) = parse_stat(&stat) {
            all.insert(pid, seen);
        }
    }
    Ok(all)
}

/// Parses `/proc/PID/stat`; `None` for the dead. The name in parentheses may
/// hold spaces and parentheses itself, so fields count from the last one.
fn parse_stat(stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Seen {
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

/// `root` and all below it: process id to start time.
fn tree(all: &BTreeMap<i32, Seen>, root: i32) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    let mut left = vec![root];
    while let Some(pid) = left.pop() {
        let Some(seen) = all.get(&pid) else { continue };
        if found.insert(pid, seen.start).is_none() {
            left.extend(all.iter().filter(|(_, s)| s.parent == pid).map(|(p, _)| *p));
        }
    }
    found
}

#[cfg(test)]
mod tests {
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
    fn a_name_with_parentheses_is_parsed() {
        let stat = "7 (a) b) c) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let seen = parse_stat(stat).map(|s| (s.parent, s.start));
        assert_eq!(seen, Some((3, 4711)));
        assert!(parse_stat("7 (a) Z 3 7 7").is_none());
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
        let Some(Watchdog { mut shell, pipe }) = process.watchdog.take() else {
            bail!("no watchdog");
        };
        drop(pipe); // what the kernel does when we are killed
        shell.wait()?;
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
