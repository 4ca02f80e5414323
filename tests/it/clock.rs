//! The wall clock of one program, set while it runs: as a sleep, or a correction, sets it. The clock that
//! never goes back is left alone, as a sleep leaves it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// A clock. Programs that have its environment read it.
pub(crate) struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    /// One that goes right, kept in this folder.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let arch = std::env::consts::ARCH;
        let library = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1");
        ensure!(
            Path::new(&library).exists(),
            "{library} is missing: apt-get install libfaketime"
        );
        let this = Self {
            file: dir.join("clock"),
            library,
        };
        this.set("+0")?;
        Ok(this)
    }

    /// From now on it goes so much before the real one, such as `+3h`. As a whole: a program may read
    /// it at any moment.
    pub(crate) fn set(&self, to: &str) -> Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, to).context("the clock cannot be set")?;
        Ok(fs::rename(&new, &self.file)?)
    }

    /// What makes a program read it.
    pub(crate) fn env(&self) -> Result<[(&str, &str); 4]> {
        let file = self.file.to_str().context("a path that is no text")?;
        Ok([
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ])
    }
}
