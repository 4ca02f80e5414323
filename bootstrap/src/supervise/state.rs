//! What a supervisor writes down about its process, for whoever asks.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::store;

/// Where the process stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It runs.
    Running,
    /// It crashed and will be started again.
    Waiting,
    /// It was asked to end, or ended by itself without an error.
    Stopped,
}

/// The last thing the supervisor knew.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct State {
    /// Where the process stands.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// How often it was started again after a crash, since the supervisor was asked to start it.
    pub restarts: u32,
    /// Why it is so, where that is not plain: the last exit.
    pub reason: Option<String>,
}

/// The running process, and what it was started from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Running {
    /// Which process.
    pub process: Identity,
    /// The unit's fingerprint when it was started.
    pub fingerprint: String,
}

/// The files of one run directory.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// The files in `run_dir`.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.to_owned(),
        }
    }

    /// Held by the supervisor for as long as it lives.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    /// What the supervisor itself has to say, such as why it could not go on.
    pub fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    fn supervisor(&self) -> PathBuf {
        self.dir.join("supervisor.pid.json")
    }

    fn server(&self) -> PathBuf {
        self.dir.join("server.pid.json")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// The supervisor's identity as noted.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn read_supervisor(&self) -> Result<Option<Identity>> {
        store::read_json(&self.supervisor())
    }

    /// Notes the supervisor.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_supervisor(&self, identity: &Identity) -> Result<()> {
        store::write_json(&self.supervisor(), identity)
    }

    /// Forgets the supervisor.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn clear_supervisor(&self) -> Result<()> {
        store::remove(&self.supervisor()).map(drop)
    }

    /// The process as noted.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn read_server(&self) -> Result<Option<Running>> {
        store::read_json(&self.server())
    }

    /// Notes the process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_server(&self, running: &Running) -> Result<()> {
        store::write_json(&self.server(), running)
    }

    /// Forgets the process.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn clear_server(&self) -> Result<()> {
        store::remove(&self.server()).map(drop)
    }

    /// The state as noted.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn read_state(&self) -> Result<Option<State>> {
        store::read_json(&self.state())
    }

    /// Notes the state.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_state(&self, state: &State) -> Result<()> {
        store::write_json(&self.state(), state)
    }
}
