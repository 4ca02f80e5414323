//! What is to be kept running: a program with all that its start needs, as a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::fingerprint;
use crate::store;

/// The user a server runs as when we are root and it must not be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RunAs {
    /// Its name, for messages.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// How a server is asked to end.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
}

impl StopSignal {
    /// The signal itself.
    pub fn signal(self) -> Signal {
        match self {
            Self::Term => Signal::TERM,
            Self::Int => Signal::INT,
        }
    }
}

/// A process to keep running. May hold passwords in `env`, so its file is for its owner only.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unit {
    /// Its name; also the name of its directory.
    pub name: String,
    /// Where its pid files, state and lock are.
    pub run_dir: PathBuf,
    /// The program, with its whole path.
    pub program: PathBuf,
    /// Its arguments. Visible to every user: no secrets here.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Who it runs as, if not as we do.
    pub run_as: Option<RunAs>,
    /// How it is asked to end.
    pub stop_signal: StopSignal,
    /// How long it may take to end before it is killed, in milliseconds.
    pub stop_grace_ms: u64,
    /// Where its output goes.
    pub log: PathBuf,
    /// Changes with what the process reads besides this (a configuration file, its own binary).
    pub reads: String,
    /// The file of the network namespace that it runs in, if not in ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<PathBuf>,
}

impl Unit {
    /// Changes when the process would have to be started anew to be as wanted.
    pub fn fingerprint(&self) -> String {
        fingerprint::of(self)
    }

    /// The unit's own file in its run directory.
    pub fn file(run_dir: &Path) -> PathBuf {
        run_dir.join("unit.json")
    }

    /// Reads a unit's file; `None` where there is none.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn load(run_dir: &Path) -> Result<Option<Self>> {
        store::read_json(&Self::file(run_dir))
    }

    /// Makes the run directory and writes the unit's file.
    ///
    /// # Errors
    /// When that fails.
    pub fn save(&self) -> Result<()> {
        std::fs::create_dir_all(&self.run_dir)
            .with_context(|| format!("cannot make {}", self.run_dir.display()))?;
        store::write_json(&Self::file(&self.run_dir), self)
    }
}
