//! Log files: rotation that needs nobody's help, the last lines, and following.
//!
//! A server holds its log open for appending. To rotate, the file is copied and then cut to
//! nothing in place: the next line lands at the new end. Lines written between the two steps are
//! lost; in return a supervisor may die and a server writes on.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A log is rotated when it has grown beyond this.
pub const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// So many old ones are kept.
pub const KEEP: u32 = 3;
/// To show the last lines, so much of the end is read.
const TAIL_BYTES: u64 = 1024 * 1024;

/// Opens a log for a server to append to.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
    })
    .with_context(|| format!("cannot open the log {}", path.display()))
}

/// Rotates the log if it has grown beyond `max` bytes; says whether it did.
///
/// # Errors
/// When a file cannot be copied or renamed.
pub fn rotate(path: &Path, max: u64, keep: u32) -> Result<bool> {
    let context = || format!("cannot rotate the log {}", path.display());
    match fs::metadata(path) {
        Ok(meta) if meta.len() > max => {}
        _ => return Ok(false),
    }
    for age in (1..keep).rev() {
        let older = numbered(path, age + 1);
        if numbered(path, age).exists() {
            fs::rename(numbered(path, age), older).with_context(context)?;
        }
    }
    fs::copy(path, numbered(path, 1)).with_context(context)?;
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .with_context(context)?;
    Ok(true)
}

/// The last `lines` lines; empty when there is no log.
///
/// # Errors
/// When the log is there but cannot be read.
pub fn tail(path: &Path, lines: usize) -> Result<Vec<String>> {
    let context = || format!("cannot read the log {}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(context),
    };
    let length = file.metadata().with_context(context)?.len();
    let skipped = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(skipped)).with_context(context)?;
    let mut kept = VecDeque::new();
    // The first line is cut in two where the beginning was skipped.
    let mut cut = skipped > 0;
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(context)?;
        if std::mem::take(&mut cut) {
            continue;
        }
        if kept.len() == lines {
            kept.pop_front();
        }
        if lines > 0 {
            kept.push_back(String::from_utf8_lossy(&line).into_owned());
        }
    }
    Ok(kept.into())
}

/// Reads what is added to a log from now on.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    at: u64,
    partial: Vec<u8>,
}

impl Follower {
    /// Begins at the log's present end.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            at: fs::metadata(path).map_or(0, |meta| meta.len()),
            partial: Vec::new(),
        }
    }

    /// The whole lines that were added since the last call.
    ///
    /// # Errors
    /// When the log is there but cannot be read.
    pub fn added(&mut self) -> Result<Vec<String>> {
        let context = || format!("cannot read the log {}", self.path.display());
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(Vec::new());
        };
        if file.metadata().with_context(context)?.len() < self.at {
            // It was rotated: what is there now is all new.
            self.at = 0;
            self.partial.clear();
        }
        file.seek(SeekFrom::Start(self.at)).with_context(context)?;
        let read = file
            .take(TAIL_BYTES)
            .read_to_end(&mut self.partial)
            .with_context(context)?;
        self.at += read as u64;
        let whole = self
            .partial
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let lines: Vec<u8> = self.partial.drain(..whole).collect();
        Ok(String::from_utf8_lossy(&lines)
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

fn numbered(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

/// All files of one log, the old ones too.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    all.extend((1..=KEEP).map(|age| numbered(path, age)));
    all
}

#[cfg(test)]
mod tests {
    use super::{Follower, open, rotate, tail};
    use std::io::Write as _;

    #[test]
    fn rotation_keeps_the_writer_and_few_files() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.log");
        let mut writer = open(&path)?;
        for round in 0..5 {
            writeln!(writer, "round {round}")?;
            assert!(rotate(&path, 4, 2)?);
            assert!(!rotate(&path, 4, 2)?, "nothing left to rotate");
        }
        writeln!(writer, "end")?;
        assert_eq!(tail(&path, 10)?, ["end"]);
        assert_eq!(tail(&dir.path().join("a.log.1"), 10)?, ["round 4"]);
        assert_eq!(tail(&dir.path().join("a.log.2"), 10)?, ["round 3"]);
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 3);
        Ok(())
    }

    #[test]
    fn the_last_lines_and_those_that_follow() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.log");
        assert!(tail(&path, 3)?.is_empty());
        let mut writer = open(&path)?;
        for line in 0..9 {
            writeln!(writer, "{line}")?;
        }
        assert_eq!(tail(&path, 2)?, ["7", "8"]);
        let mut follower = Follower::new(&path);
        write!(writer, "half")?;
        assert!(follower.added()?.is_empty());
        writeln!(writer, " whole")?;
        assert_eq!(follower.added()?, ["half whole"]);
        rotate(&path, 1, 2)?;
        writeln!(writer, "fresh")?;
        assert_eq!(follower.added()?, ["fresh"]);
        Ok(())
    }
}
