//! The supervisor: keeps one unit's process running until it is asked to stop.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::identity;
use crate::lock;
use crate::supervise::backoff::Backoff;
use crate::supervise::logs;
use crate::supervise::server::{Ended, Server, find_unnoted};
use crate::supervise::state::{Files, Phase, Running, State};
use crate::supervise::unit::Unit;

/// How often the log's size is looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);

/// Runs until the process has been stopped. The caller is a process of its own.
///
/// # Errors
/// When the unit cannot be read or nothing can be written down. A second supervisor of the same
/// unit ends at once, without an error.
pub async fn run(run_dir: &Path) -> Result<()> {
    // A session of our own: the terminal's end must not end us. It fails where we lead one already.
    let _ = rustix::process::setsid();
    let files = Files::new(run_dir);
    let Some(_lock) = lock::try_take(&files.supervisor_lock())? else {
        return Ok(());
    };
    let mut stop = Stop::new()?;
    let unit = Unit::load(run_dir)?
        .with_context(|| format!("{} has no unit to supervise", run_dir.display()))?;
    if let Some(network) = &unit.network {
        enter(network)?;
    }
    let before = files.read_state()?;
    let supervisor = Supervisor { unit, files };
    // Before our pid is known: whoever sees it must not read how the last run ended.
    supervisor.note(&fresh(Phase::Waiting, 0, None))?;
    let own = identity::of(i32::try_from(std::process::id())?)?;
    supervisor.files.write_supervisor(&own)?;
    let result = supervisor.keep_running(before, &mut stop).await;
    Files::new(run_dir).clear_supervisor()?;
    result
}

/// From now on this thread, and what it starts, is in that network namespace. The supervisor has
/// one thread.
fn enter(network: &Path) -> Result<()> {
    let namespace = std::fs::File::open(network).with_context(|| {
        format!(
            "cannot open the network namespace {}; `comind-ops cluster start` makes it anew",
            network.display()
        )
    })?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .with_context(|| format!("cannot enter the network namespace {}", network.display()))
}

struct Supervisor {
    unit: Unit,
    files: Files,
}

impl Supervisor {
    /// `before` is what the last supervisor wrote: it still holds for a process that is taken over.
    async fn keep_running(&self, before: Option<State>, stop: &mut Stop) -> Result<()> {
        let mut backoff = Backoff::default();
        let mut state = fresh(Phase::Running, 0, None);
        let mut server = self.take_over()?;
        if let (Some(_), Some(before)) = (&server, before.filter(|was| was.phase == Phase::Running))
        {
            state = before;
        }
        loop {
            let began = Instant::now();
            let obtained = match server.take() {
                Some(server) => Ok(server),
                None => Server::launch(&self.unit),
            };
            let ended = match obtained {
                Ok(mut server) => {
                    self.note_server(&server)?;
                    self.note(&state)?;
                    match self.attend(&mut server, stop).await? {
                        Some(ended) => ended,
                        None => return self.finish(state.restarts, None),
                    }
                }
                Err(error) => Ended::Crashed(format!("{error:#}")),
            };
            self.files.clear_server()?;
            let (reason, restarts) = match ended {
                Ended::Stopped(reason) => return self.finish(state.restarts, Some(reason)),
                Ended::Crashed(reason) => (reason, state.restarts + 1),
            };
            let pause = backoff.crashed(began.elapsed());
            let name = &self.unit.name;
            tracing::warn!(unit = name, reason, ?pause, "crashed, starting it again");
            self.note(&fresh(Phase::Waiting, restarts, Some(reason.clone())))?;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.asked() => return self.finish(restarts, None),
            }
            state = fresh(Phase::Running, restarts, Some(reason));
        }
    }

    /// The process of a supervisor that died, noted or not.
    fn take_over(&self) -> Result<Option<Server>> {
        let noted = self.files.read_server()?.map(|running| running.process);
        let candidates = noted.into_iter().chain(find_unnoted(&self.unit));
        let server = candidates
            .into_iter()
            .find_map(|found| Server::adopt(&found));
        if let Some(server) = &server {
            let pid = server.identity().pid;
            tracing::info!(unit = self.unit.name, pid, "taken over");
        }
        Ok(server)
    }

    fn note_server(&self, server: &Server) -> Result<()> {
        self.files.write_server(&Running {
            process: server.identity().clone(),
            fingerprint: self.unit.fingerprint(),
        })
    }

    /// Stays with the process until it ends by itself, or (`None`) until it was stopped on demand.
    async fn attend(&self, server: &mut Server, stop: &mut Stop) -> Result<Option<Ended>> {
        let mut check = tokio::time::interval(LOG_CHECK);
        loop {
            tokio::select! {
                ended = server.ended() => return Ok(Some(ended)),
                () = stop.asked() => {
                    self.stop(server).await?;
                    return Ok(None);
                }
                _ = check.tick() => {
                    if !Unit::file(&self.unit.run_dir).exists() {
                        // Somebody removed it all: what nobody could find again must not run on.
                        tracing::warn!(unit = self.unit.name, "its files were removed, so it is stopped");
                        self.stop(server).await?;
                        return Ok(None);
                    }
                    if let Err(error) = logs::rotate(&self.unit.log, logs::MAX_BYTES, logs::KEEP) {
                        tracing::warn!(unit = self.unit.name, "{error:#}");
                    }
                }
            }
        }
    }

    async fn stop(&self, server: &mut Server) -> Result<()> {
        let grace = Duration::from_millis(self.unit.stop_grace_ms);
        server.stop(self.unit.stop_signal.signal(), grace).await
    }

    fn finish(&self, restarts: u32, reason: Option<String>) -> Result<()> {
        self.files.clear_server()?;
        self.note(&fresh(Phase::Stopped, restarts, reason))
    }

    fn note(&self, state: &State) -> Result<()> {
        self.files.write_state(state)
    }
}

/// A state that begins now.
fn fresh(phase: Phase, restarts: u32, reason: Option<String>) -> State {
    State {
        phase,
        since: Timestamp::now(),
        restarts,
        reason,
    }
}

/// Somebody asks us to stop.
struct Stop {
    term: Signal,
    int: Signal,
    _hang_up: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            // Listened to so that a closing terminal does not end us.
            _hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
