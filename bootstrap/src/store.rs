//! Small files written whole or not at all: a crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Writes `text` to `path`, readable by the owner only (it may hold passwords).
///
/// # Errors
/// When the file cannot be written or renamed into place.
pub fn write(path: &Path, text: &[u8]) -> Result<()> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let attempt = || -> std::io::Result<()> {
        let mut file = open(&fresh)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a value as JSON, see [`write`].
///
/// # Errors
/// As [`write`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write(path, &serde_json::to_vec_pretty(value)?)
}

/// Reads a JSON file; `None` where there is none.
///
/// # Errors
/// When it is there but cannot be read or understood.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove it and run again", path.display()))?;
    Ok(Some(value))
}

/// Reads a text file; `None` where there is none.
///
/// # Errors
/// When it is there but cannot be read.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Removes a file or a directory with all in it; says whether there was one.
///
/// # Errors
/// When it is there but cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    let gone = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::{read, read_json, remove, write, write_json};

    #[test]
    fn keeps_what_was_written_and_leaves_nothing_else() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.json");
        assert_eq!(read_json::<u32>(&path)?, None);
        write_json(&path, &1)?;
        write_json(&path, &2)?;
        assert_eq!(read_json::<u32>(&path)?, Some(2));
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
        assert!(remove(&path)?);
        assert!(!remove(&path)?);
        Ok(())
    }

    #[test]
    fn a_damaged_file_is_named() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.json");
        write(&path, b"{")?;
        let error = read_json::<u32>(&path).expect_err("half a file is no value");
        assert!(error.to_string().contains("a.json is damaged"), "{error}");
        assert_eq!(read(&path)?.as_deref(), Some("{"));
        Ok(())
    }
}
