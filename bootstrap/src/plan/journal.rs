//! What was begun and what was finished, one JSON line each, so that a run that was killed can be
//! told of by the next one. Steps are judged by what is there, never by this.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store;

/// A journal is begun anew when it has grown beyond this, in bytes; the one before is kept.
const LARGE: u64 = 1024 * 1024;

/// What happened to a step.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// It begins.
    Begun {
        /// The step.
        step: String,
    },
    /// It is as wanted.
    Done {
        /// The step.
        step: String,
        /// What was changed.
        changes: Vec<String>,
        /// From its beginning, in milliseconds.
        took_ms: u64,
    },
    /// It failed.
    Failed {
        /// The step.
        step: String,
        /// Why.
        error: String,
        /// From its beginning, in milliseconds.
        took_ms: u64,
    },
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    at: Timestamp,
    entry: Entry,
}

/// A journal that is written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Goes on with the journal at `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("cannot write the journal {}", path.display());
        if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LARGE) {
            std::fs::rename(path, path.with_extension("before")).with_context(context)?;
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(context)?;
        }
        let torn = store::read(path)?.is_some_and(|text| !text.is_empty() && !text.ends_with('\n'));
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path);
        let mut file = file.with_context(context)?;
        if torn {
            file.write_all(b"\n").with_context(context)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, at: Timestamp, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_string(&Line { at, entry })?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot write the journal {}", self.path.display()))
    }
}

/// The steps that were begun and never ended, with when that was. A torn last line is passed over:
/// it is what a kill leaves.
///
/// # Errors
/// When the journal is there and cannot be read.
pub fn interrupted(path: &Path) -> Result<Vec<(String, Timestamp)>> {
    let text = store::read(path)?.unwrap_or_default();
    let mut open: Vec<(String, Timestamp)> = Vec::new();
    for line in text.lines() {
        let Ok(Line { at, entry }) = serde_json::from_str(line) else {
            continue;
        };
        match entry {
            Entry::Begun { step } => {
                open.retain(|(name, _)| *name != step);
                open.push((step, at));
            }
            Entry::Done { step, .. } | Entry::Failed { step, .. } => {
                open.retain(|(name, _)| *name != step);
            }
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(step: &str) -> Entry {
        Entry::Begun { step: step.into() }
    }

    #[test]
    fn what_was_killed_is_known_to_the_next() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("deeper/journal.jsonl");
        assert!(interrupted(&path)?.is_empty());
        let mut journal = Journal::open(&path)?;
        let at = Timestamp::UNIX_EPOCH;
        journal.write(at, begun("cluster"))?;
        journal.write(at, begun("services"))?;
        let done = Entry::Done {
            step: "services".into(),
            changes: vec!["started".into()],
            took_ms: 7,
        };
        journal.write(at, done)?;
        journal.file.write_all(b"{\"at\":\"2026-")?;
        drop(journal);
        assert_eq!(interrupted(&path)?, [("cluster".to_owned(), at)]);
        // The next one writes after the torn line, and is understood.
        let mut journal = Journal::open(&path)?;
        journal.write(
            at,
            Entry::Failed {
                step: "cluster".into(),
                error: "e".into(),
                took_ms: 1,
            },
        )?;
        assert!(interrupted(&path)?.is_empty());
        Ok(())
    }
}
