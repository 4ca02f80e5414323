//! Writes a bundle: a tar archive whose first file is the manifest and whose next ones are those
//! that it names, in its order. What is not compressed by itself is, each file for itself, so that
//! `tar` alone gets the program out.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

use crate::bundle::manifest::{Entry, Manifest, NAME};
use crate::digest::{self, Seen};

/// Level 3 takes seconds for all that there is; 9 takes six times as long and saves a seventh.
const LEVEL: i32 = 3;

/// A file that goes into a bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Source {
    /// Its name there.
    pub(super) path: String,
    /// Where it is.
    pub(super) file: PathBuf,
    /// Whether it is a program.
    pub(super) executable: bool,
}

impl Source {
    /// What the manifest says of it.
    pub(super) fn entry(&self) -> Result<Entry> {
        let (size, sha256) = digest::of(open(&self.file)?)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        Ok(Entry {
            path: self.path.clone(),
            size,
            sha256,
            executable: self.executable,
        })
    }
}

/// Writes the manifest's files, which have these sources.
///
/// # Errors
/// When a file cannot be read, has changed since its entry was made, or `to` cannot be written.
pub(super) fn pack(manifest: &Manifest, sources: &[Source], to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut archive = Builder::new(file);
    let text = serde_json::to_vec_pretty(manifest)?;
    let mut head = header(false, text.len() as u64);
    archive.append_data(&mut head, NAME, text.as_slice())?;
    for (entry, source) in manifest.files.iter().zip(sources) {
        add(&mut archive, entry, source).with_context(|| format!("cannot pack {}", entry.path))?;
    }
    archive.into_inner()?.sync_all()?;
    Ok(())
}

fn add(archive: &mut Builder<File>, entry: &Entry, source: &Source) -> Result<()> {
    let mut seen = Seen::new(open(&source.file)?);
    let mut head = header(entry.executable, entry.size);
    let stored = entry.stored();
    if entry.compressed() {
        let mut to = archive.append_writer(&mut head, stored)?;
        compress(&mut seen, &mut to)?;
        to.finish()?;
    } else {
        archive.append_data(&mut head, stored, &mut seen)?;
    }
    ensure!(
        seen.finish() == (entry.size, entry.sha256.clone()),
        "{} was changed meanwhile; run this again",
        source.file.display()
    );
    Ok(())
}

fn compress(from: &mut impl Read, to: &mut impl Write) -> Result<()> {
    let mut encoder = Encoder::new(to, LEVEL)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    encoder.multithread(u32::try_from(threads)?)?;
    std::io::copy(from, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// Of no time and no user.
fn header(executable: bool, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::with_capacity(256 * 1024, file))
}
