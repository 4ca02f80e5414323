//! What all servers have in common: an address that stays, a directory, a
//! process which can be killed, stopped, continued and started again.
//!
//! Must not know any particular server: each gives a [`Plan`].

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Launch, Process, log_tail};
use crate::user::User;
use crate::wait::{Hopeless, wait_for};

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// How often a start is tried again with another port when ours was taken.
const PORT_TRIES: u32 = 5;

/// Asks a server whether it really works; called until it returns `Ok`.
pub(crate) type Ready = Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// How to start a server in a directory, and how to ask whether it is there.
pub(crate) struct Plan {
    pub(crate) launch: Launch,
    pub(crate) ready: Ready,
}

impl Plan {
    pub(crate) fn new<F>(launch: Launch, ready: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let ready: Ready = Box::new(move || Box::pin(ready()));
        Self { launch, ready }
    }
}

/// Set to anything, this environment variable keeps all directories.
const KEEP: &str = "COMIND_PEERS_KEEP";

/// One running server. Dropping it kills it and removes its directory; when
/// the test panics or `COMIND_PEERS_KEEP` is set, the directory is kept and
/// its place printed with the end of the log.
pub struct Peer {
    name: &'static str,
    port: Port,
    dir: Option<TempDir>,
    plan: Plan,
    process: Process,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("name", &self.name)
            .field("addr", &self.addr())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// Starts a server by the plan that `make` gives for a directory and a
    /// port, and waits until it answers. Without a fixed port another one is
    /// tried when somebody else took ours.
    pub(crate) async fn start(
        name: &'static str,
        fixed: Option<u16>,
        make: impl AsyncFn(&Path, u16) -> Result<Plan>,
    ) -> Result<Self> {
        let mut tries = 1;
        loop {
            let port = Port::wanted(fixed)?;
            let dir = new_dir(name)?;
            let plan = make(dir.path(), port.number()).await?;
            let process = Process::spawn(&plan.launch)?;
            let mut peer = Self {
                name,
                port,
                dir: Some(dir),
                plan,
                process,
            };
            let Err(error) = peer.answers().await else {
                return Ok(peer);
            };
            if fixed.is_some() || tries == PORT_TRIES || !peer.log_says_port_taken() {
                return Err(error);
            }
            tries += 1;
        }
    }

    /// What it is, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it listens; the same for its whole life.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Its process id; after a kill that of the dead one.
    pub fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// The directory of its data, configuration and log.
    pub fn dir(&self) -> &Path {
        match &self.dir {
            Some(dir) => dir.path(),
            None => &self.plan.launch.dir,
        }
    }

    /// The file of its log.
    pub fn log_path(&self) -> PathBuf {
        self.plan.launch.log.clone()
    }

    /// The end of its log, at most 16 KiB.
    pub fn logs(&self) -> String {
        log_tail(&self.plan.launch.log)
    }

    /// Whether its program runs (stopped by SIGSTOP counts as running).
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.exited()?.is_none())
    }

    /// SIGKILL to the program and all its descendants; returns when they are
    /// gone. The instant is the one just before the first signal.
    pub fn kill(&mut self) -> Result<Instant> {
        self.process.kill()
    }

    /// SIGTERM to the program; returns when the whole tree has ended.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.end(Signal::TERM, deadline)
    }

    /// SIGSTOP to the program and all its descendants. The instant is the one
    /// just before the first signal.
    pub fn stop_signal(&self) -> Result<Instant> {
        self.process.stop_signal()
    }

    /// SIGCONT to the program and all its descendants.
    pub fn continue_signal(&self) -> Result<Instant> {
        self.process.continue_signal()
    }

    /// Starts it again on the same port with the same data, after killing it
    /// if it runs, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_unready()?;
        self.answers().await
    }

    /// As [`restart`](Self::restart), but returns before it answers.
    pub fn restart_unready(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = Process::spawn(&self.plan.launch)?;
        Ok(())
    }

    /// Waits until it answers; fails at once when its program has ended.
    pub async fn answers(&mut self) -> Result<()> {
        let process = &mut self.process;
        let ready = &self.plan.ready;
        let result = wait_for(self.name, START, async || {
            if let Some(status) = process.exited()? {
                return Err(Hopeless(format!("its program ended: {status}")).into());
            }
            ready().await
        })
        .await;
        result.map_err(|error| {
            anyhow!(
                "{error:#}\n--- the log of {} ends with:\n{}",
                self.name,
                self.logs()
            )
        })
    }

    /// Leaves the directory behind when dropped.
    pub fn keep(&mut self) {
        if let Some(dir) = self.dir.take() {
            let _ = dir.keep();
        }
    }

    fn log_says_port_taken(&self) -> bool {
        let log = self.logs().to_lowercase();
        ["address already in use", "bind:", "port is already"]
            .iter()
            .any(|sign| log.contains(sign))
    }

    #[expect(
        clippy::print_stderr,
        reason = "a failed test's output is where one looks for the log"
    )]
    fn report(&self) {
        eprintln!(
            "--- {} is kept; {} ends with:\n{}",
            self.dir().display(),
            self.log_path().display(),
            self.logs()
        );
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        if std::thread::panicking() || std::env::var_os(KEEP).is_some() {
            self.report();
            self.keep();
        }
    }
}

/// Makes every method of [`Peer`] one of the server that has one.
macro_rules! is_peer {
    ($server:ty) => {
        impl std::ops::Deref for $server {
            type Target = crate::peer::Peer;
            fn deref(&self) -> &Self::Target {
                &self.peer
            }
        }
        impl std::ops::DerefMut for $server {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.peer
            }
        }
    };
}
pub(crate) use is_peer;

/// A new directory which an unprivileged server may pass through. The name is
/// short, as the path of a Unix socket may have 107 bytes at most.
fn new_dir(name: &str) -> Result<TempDir> {
    let dir = tempfile::Builder::new()
        .prefix(&format!("cp-{name}-"))
        .tempdir()
        .context("could not make a temporary directory")?;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    Ok(dir)
}

/// Makes `dir/name` and gives it to `user`.
pub(crate) fn own_dir(dir: &Path, name: &str, user: Option<User>) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir(&path).with_context(|| format!("could not make {}", path.display()))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700))?;
    give(&path, user)?;
    Ok(path)
}

/// Writes `dir/name`, readable by `user` (or us) alone.
pub(crate) fn own_file(
    dir: &Path,
    name: &str,
    user: Option<User>,
    content: &str,
) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, content)
        .with_context(|| format!("could not write {}", path.display()))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    give(&path, user)?;
    Ok(path)
}

/// Gives one path to `user`, if there is one.
pub(crate) fn give(path: &Path, user: Option<User>) -> Result<()> {
    let Some(user) = user else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("could not give {} to uid {}", path.display(), user.uid))
}

/// Whether a TCP connection to `addr` is taken. Closed again at once.
pub(crate) async fn accepts(addr: SocketAddr) -> Result<()> {
    let connect = tokio::net::TcpStream::connect(addr);
    match tokio::time::timeout(Duration::from_secs(1), connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(anyhow!(error).context(format!("could not connect to {addr}"))),
        Err(_) => bail!("no answer from {addr} within 1 s"),
    }
}
