//! The one that writes: takes entries from a bounded queue, and never makes a request wait.
//!
//! All entries that wait are written at once, brought to the disk (`fdatasync`), and then the head
//! is replaced. So after a crash the log may lack entries of the last moment, and never has a
//! head without its lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::chain::{self, Place, Walk};
use super::entry::{self, Entry};
use super::folder::{self, HEAD};

/// So many entries may wait.
const WAITING: usize = 8192;
/// A file is not begun beyond this many bytes.
const LARGEST: u64 = 16 * 1024 * 1024;
/// So many files are kept; with their size that is a gigabyte.
const FILES: usize = 64;

/// Where entries are handed in.
#[derive(Clone, Debug)]
pub struct Audit {
    sender: SyncSender<Item>,
    lost: Arc<Lost>,
}

#[derive(Debug)]
enum Item {
    Entry(Timestamp, Entry),
    /// Says when all that came before is on the disk.
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Lost {
    all: AtomicU64,
    untold: AtomicU64,
}

impl Audit {
    /// Opens the log in this folder and begins to write; the thread ends when the last handle is
    /// dropped.
    ///
    /// # Errors
    /// When the folder or its files cannot be read or written.
    pub fn start(folder: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        Self::start_with(folder, LARGEST, FILES)
    }

    fn start_with(folder: &Path, largest: u64, files: usize) -> io::Result<(Self, JoinHandle<()>)> {
        let mut book = Book::open(folder, largest, files)?;
        let (sender, entries) = sync_channel(WAITING);
        let lost = Arc::new(Lost::default());
        let audit = Self {
            sender,
            lost: lost.clone(),
        };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || book.keep(&entries, &lost))?;
        Ok((audit, thread))
    }

    /// Hands an entry in. Where there is no room it is lost, counted, and the log says so.
    pub fn put(&self, at: Timestamp, entry: Entry) {
        if self.sender.try_send(Item::Entry(at, entry)).is_err() {
            self.lost.all.fetch_add(1, Relaxed);
            self.lost.untold.fetch_add(1, Relaxed);
        }
    }

    /// Waits until all that was handed in is on the disk, at most so long.
    pub fn flush(&self, limit: Duration) {
        let (done, told) = sync_channel(1);
        // Where the queue is full there is no use in waiting for more.
        if self.sender.try_send(Item::Flush(done)).is_ok() {
            let _ = told.recv_timeout(limit);
        }
    }

    /// Entries that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.all.load(Relaxed)
    }
}

/// The open file, and where the chain is.
struct Book {
    folder: PathBuf,
    file: File,
    path: PathBuf,
    bytes: u64,
    last: Place,
    largest: u64,
    files: usize,
    /// The last write failed, and that was said.
    broken: bool,
}

impl Book {
    fn open(folder: &Path, largest: u64, files: usize) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let Some(path) = newest(folder)? else {
            // A head without files: they were removed.
            let fits = !folder.join(HEAD).exists();
            return Self::begin(folder, None, Place::default(), fits, (largest, files));
        };
        let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut walk = Walk::default();
        let mut good = 0;
        let mut whole = true;
        let mut headed = true;
        let head = fs::read_to_string(folder.join(HEAD))
            .ok()
            .and_then(|text| Place::read(&text));
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else {
                break;
            };
            match walk.step(text) {
                Ok(place) => {
                    good += line.len();
                    headed &= head.is_none_or(|head| head.number != place.number || head == place);
                }
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        let last = walk.last.unwrap_or_default();
        // The head may lag by the lines of a last moment, and is never ahead.
        let reached = head.is_some_and(|head| head.number <= last.number);
        if !(whole && headed && reached) {
            tracing::error!(
                file = %path.display(),
                "the audit log does not end as it was left; `comind-ops sessions verify` says where. \
                 A new file is begun"
            );
            let at = [
                last.number,
                head.map_or(0, |head| head.number),
                folder::first(&path).unwrap_or_default(),
            ];
            let at = at.into_iter().max().unwrap_or_default();
            let last = Place { number: at, ..last };
            let name = name_of(&path);
            return Self::begin(folder, name.as_deref(), last, false, (largest, files));
        }
        if good < bytes.len() {
            // The piece of a line that a crash left: nobody was told that it was written.
            let torn = bytes.len() - good;
            tracing::warn!(torn, "cut a torn line off the audit log");
            file.set_len(good as u64)?;
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            file,
            path,
            bytes: good as u64,
            last,
            largest,
            files,
            broken: false,
        })
    }

    fn begin(
        folder: &Path,
        before: Option<&str>,
        last: Place,
        fits: bool,
        (largest, files): (u64, usize),
    ) -> io::Result<Self> {
        let path = folder.join(folder::name(last.number + 1));
        let mut book = Self {
            folder: folder.to_owned(),
            file: create(&path)?,
            path,
            bytes: 0,
            last,
            largest,
            files,
            broken: false,
        };
        book.write(vec![entry::file(Timestamp::now(), before, fits)])?;
        File::open(folder)?.sync_all()?;
        Ok(book)
    }

    fn keep(&mut self, entries: &Receiver<Item>, lost: &Lost) {
        while let Ok(first) = entries.recv() {
            let (mut lines, mut flushes) = (Vec::new(), Vec::new());
            for item in std::iter::once(first)
                .chain(entries.try_iter())
                .take(WAITING)
            {
                match item {
                    Item::Entry(at, entry) => lines.push(entry.members(at)),
                    Item::Flush(done) => flushes.push(done),
                }
            }
            let untold = lost.untold.swap(0, Relaxed);
            if untold > 0 {
                lines.push(entry::lost(Timestamp::now(), untold));
            }
            let count = lines.len() as u64;
            let written = match lines.is_empty() {
                true => Ok(()),
                false => self.turn_page().and_then(|()| self.write(lines)),
            };
            if let Err(error) = written {
                lost.all.fetch_add(count, Relaxed);
                lost.untold.fetch_add(count, Relaxed);
                if !std::mem::replace(&mut self.broken, true) {
                    tracing::error!(file = %self.path.display(), "the audit log cannot be written: {error}");
                }
            } else {
                self.broken = false;
            }
            for done in flushes {
                // Whoever waited may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Begins another file where this one is large.
    fn turn_page(&mut self) -> io::Result<()> {
        if self.bytes < self.largest {
            return Ok(());
        }
        let before = name_of(&self.path);
        let bounds = (self.largest, self.files);
        *self = Self::begin(&self.folder, before.as_deref(), self.last, true, bounds)?;
        let known = folder::files(&self.folder)?;
        for old in known.iter().take(known.len().saturating_sub(self.files)) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: Vec<Map<String, Value>>) -> io::Result<()> {
        let mut last = self.last;
        let mut text = String::new();
        for line in lines {
            let (line, place) = chain::link(&last, line);
            text.push_str(&line);
            text.push('\n');
            last = place;
        }
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What came of it must not stand before the next line.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += text.len() as u64;
        self.last = last;
        self.tell_head()
    }

    fn tell_head(&self) -> io::Result<()> {
        let next = self.folder.join("sessions.head.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(self.last.write().as_bytes())?;
        file.sync_data()?;
        fs::rename(next, self.folder.join(HEAD))
    }
}

/// The newest file that has a line. Those after it are what a crash left of a new one.
fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut known = folder::files(folder)?;
    while let Some(path) = known.pop() {
        if fs::read(&path)?.contains(&b'\n') {
            return Ok(Some(path));
        }
        fs::remove_file(&path)?;
    }
    Ok(None)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests;
