//! Where the files of an audit log are, and in which order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The last line's number and hash.
pub const HEAD: &str = "sessions.head";

/// The name of the file that begins with this line.
pub fn name(first: u64) -> String {
    format!("sessions-{first:012}.jsonl")
}

/// The line that a file begins with, by its name.
pub fn first(file: &Path) -> Option<u64> {
    let name = file.file_name()?.to_str()?;
    name.strip_prefix("sessions-")?
        .strip_suffix(".jsonl")?
        .parse()
        .ok()
}

/// The files of a log, oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("sessions-") && name.ends_with(".jsonl")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
