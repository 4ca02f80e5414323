//! A folder to work in, on the disk where things go in the end, while nobody else changes our tools.
//! The toolchain's `setup` has the same lock, and clears away what a killed one has left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::event::{About, Level};
use crate::lock::{self, Lock};
use crate::store;

/// Another one may be building for long.
const LIMIT: Duration = Duration::from_secs(3600);
/// How the folders are called, so that `setup` knows them too.
const PREFIX: &str = "work.";

/// Held, nobody else works here; dropped, it is gone.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    _lock: Lock,
}

impl Room {
    /// Waits until nobody else works on `tools`, and makes an empty folder.
    pub(super) async fn enter(tools: &Path, about: About<'_>) -> Result<Self> {
        let state = tools.join(".setup");
        let make = |dir: &Path| {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
        };
        make(&state)?;
        let waiting = |why: &str| about.say(Level::Waiting, why);
        let lock = lock::take(&state.join("lock"), LIMIT, waiting).await?;
        for left in std::fs::read_dir(&state)? {
            let left = left?;
            if left.file_name().to_string_lossy().starts_with(PREFIX) {
                store::remove(&left.path())?;
            }
        }
        let path = state.join(format!("{PREFIX}bundle-{}", std::process::id()));
        make(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = store::remove(&self.path) {
            tracing::warn!("{error:#}");
        }
    }
}
