//! Reads a bundle, believing nothing of it: only plain files, only those that the manifest names, in
//! its order, with the length and the checksum that it says.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tar::{Archive, Entries};
use zstd::stream::read::Decoder;

use crate::bundle::manifest::{Entry, Manifest, NAME};
use crate::digest::Seen;

/// The longest manifest that is read.
const LONGEST: u64 = 4 << 20;
/// What to do about a bundle that is not what it should be.
const AGAIN: &str = "copy it here again, or make it again";

/// Only the manifest.
///
/// # Errors
/// When this is no bundle, or none of ours.
pub(super) fn manifest(bundle: &Path) -> Result<Manifest> {
    let mut archive = open(bundle)?;
    first(&mut archive.entries()?)
}

/// All of it: what `to` gives a file for is written there, everything is checked.
///
/// # Errors
/// With the first file that differs.
pub(super) fn all(
    bundle: &Path,
    mut to: impl FnMut(&Entry) -> Result<Option<File>>,
) -> Result<Manifest> {
    let mut archive = open(bundle)?;
    let mut entries = archive.entries()?;
    let manifest = first(&mut entries)?;
    for entry in &manifest.files {
        let from = next(&mut entries, &entry.stored())?;
        one(entry, from, to(entry)?)?;
    }
    match entries.next() {
        None => Ok(manifest),
        Some(Err(_)) => bail!("its end is cut off; {AGAIN}"),
        Some(Ok(more)) => bail!(
            "there is more in it than its manifest names: {:?}; {AGAIN}",
            name_of(&more)
        ),
    }
}

fn open(bundle: &Path) -> Result<Archive<BufReader<File>>> {
    let file = File::open(bundle).context("cannot read it")?;
    Ok(Archive::new(BufReader::with_capacity(256 * 1024, file)))
}

fn first<R: Read>(entries: &mut Entries<'_, R>) -> Result<Manifest> {
    let entry = next(entries, NAME).context("it is no bundle of comind-ops")?;
    let size = entry.size();
    ensure!(size <= LONGEST, "its manifest is longer than any of ours");
    let cut_off = || format!("its manifest is cut off; {AGAIN}");
    let mut text = Vec::new();
    entry
        .take(LONGEST)
        .read_to_end(&mut text)
        .with_context(cut_off)?;
    ensure!(text.len() as u64 == size, cut_off());
    Manifest::parse(&text)
}

/// The next file, which has to be this one.
fn next<'a, R: Read>(entries: &mut Entries<'a, R>, name: &str) -> Result<tar::Entry<'a, R>> {
    let Some(entry) = entries.next() else {
        bail!("it ends before {name}; {AGAIN}");
    };
    let entry = entry.with_context(|| format!("it is damaged before {name}; {AGAIN}"))?;
    let found = name_of(&entry);
    ensure!(
        found == name,
        "{name} should come next in it, and there is {found:?}; {AGAIN}"
    );
    let kind = entry.header().entry_type();
    ensure!(
        kind.is_file(),
        "{name} is no plain file in it but {kind:?}; {AGAIN}"
    );
    Ok(entry)
}

fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).into_owned()
}

fn one(entry: &Entry, from: impl Read, to: Option<File>) -> Result<()> {
    let differs = || format!("{} in it is damaged; {AGAIN}", entry.path);
    let from: Box<dyn Read + '_> = match entry.compressed() {
        true => Box::new(Decoder::new(from).with_context(differs)?),
        false => Box::new(from),
    };
    // A byte more than it should have is enough to see that it differs.
    let mut seen = Seen::new(from.take(entry.size.saturating_add(1)));
    carry(&mut seen, to, entry, differs)?;
    ensure!(
        seen.finish() == (entry.size, entry.sha256.clone()),
        "{} in it is not what its manifest says; {AGAIN}",
        entry.path
    );
    Ok(())
}

/// What cannot be read is the bundle's fault, what cannot be written is not.
fn carry(
    from: &mut impl Read,
    mut to: Option<File>,
    entry: &Entry,
    differs: impl Fn() -> String,
) -> Result<()> {
    let mut piece = vec![0; 256 * 1024];
    loop {
        let length = from.read(&mut piece).with_context(&differs)?;
        if length == 0 {
            return Ok(());
        }
        if let Some(to) = &mut to {
            to.write_all(&piece[..length])
                .with_context(|| format!("cannot unpack {}", entry.path))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tar::{Builder, EntryType, Header};

    use super::*;
    use crate::bundle::manifest::Machine;
    use crate::bundle::pack::{Source, pack};

    /// A bundle of two files in a folder of its own.
    struct Made {
        dir: tempfile::TempDir,
        manifest: Manifest,
    }

    impl Made {
        fn new() -> Result<Self> {
            let dir = tempfile::tempdir()?;
            let mut sources = Vec::new();
            for (path, text) in [("tools/bin/a", "first"), ("debian/b.deb", "second")] {
                let file = dir.path().join(path.replace('/', "-"));
                std::fs::write(&file, text.repeat(1000))?;
                sources.push(Source {
                    path: path.to_owned(),
                    file,
                    executable: path.contains("bin"),
                });
            }
            let files = sources.iter().map(Source::entry).collect::<Result<_>>()?;
            let machine = Machine {
                architecture: "any".to_owned(),
                codename: "sid".to_owned(),
            };
            let manifest = Manifest::new("1".to_owned(), Timestamp::UNIX_EPOCH, machine, files);
            pack(&manifest, &sources, &dir.path().join("bundle"))?;
            Ok(Self { dir, manifest })
        }

        fn file(&self) -> std::path::PathBuf {
            self.dir.path().join("bundle")
        }

        /// What comes of reading it, with the bundle changed before.
        fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result<Manifest> {
            let mut bytes = std::fs::read(self.file())?;
            change(&mut bytes);
            self.read(&bytes)
        }

        fn read(&self, bytes: &[u8]) -> Result<Manifest> {
            let file = self.dir.path().join("changed");
            std::fs::write(&file, bytes)?;
            all(&file, |_| Ok(None))
        }

        /// An archive with this manifest and these entries: kind, name, where it leads.
        fn forged(&self, entries: &[(EntryType, &str, &str)]) -> Result<Manifest> {
            let mut archive = Builder::new(Vec::new());
            let text = serde_json::to_vec(&self.manifest)?;
            let mut head = Header::new_gnu();
            head.set_size(text.len() as u64);
            archive.append_data(&mut head, NAME, text.as_slice())?;
            for (kind, name, target) in entries {
                let mut head = Header::new_gnu();
                head.set_entry_type(*kind);
                head.set_size(0);
                // As no well-meaning writer writes it: names are set byte by byte.
                head.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                head.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
                head.set_cksum();
                archive.append(&head, std::io::empty())?;
            }
            self.read(&archive.into_inner()?)
        }
    }

    fn refusal(read: Result<Manifest>) -> String {
        let error = read.expect_err("it was taken");
        format!("{error:#}")
    }

    fn position(bytes: &[u8], text: &[u8]) -> usize {
        let mut windows = bytes.windows(text.len());
        windows
            .position(|window| window == text)
            .expect("it is there")
    }

    #[test]
    fn what_was_packed_is_unpacked() -> Result<()> {
        let made = Made::new()?;
        let out = made.dir.path().join("out");
        let read = all(&made.file(), |entry| {
            let wanted = entry.path == "tools/bin/a";
            Ok(wanted.then(|| File::create(&out)).transpose()?)
        })?;
        assert_eq!(read, made.manifest);
        assert_eq!(manifest(&made.file())?, made.manifest);
        assert_eq!(std::fs::read_to_string(out)?, "first".repeat(1000));
        Ok(())
    }

    #[test]
    fn a_damaged_file_is_named() -> Result<()> {
        let made = Made::new()?;
        let plain = made.with(|bytes| {
            let at = position(bytes, b"secondsecond");
            bytes[at] ^= 1;
        });
        let error = refusal(plain);
        assert!(
            error.starts_with("debian/b.deb in it is not what"),
            "{error}"
        );
        let compressed = made.with(|bytes| {
            let at = position(bytes, b"firs");
            bytes[at] ^= 1;
        });
        let error = refusal(compressed);
        assert!(error.contains("tools/bin/a in it is"), "{error}");
        Ok(())
    }

    #[test]
    fn wherever_it_is_cut_off_it_is_refused() -> Result<()> {
        let made = Made::new()?;
        let whole = std::fs::read(made.file())?;
        let end = position(&whole, b"secondsecond") + "second".len() * 1000;
        for length in (0..end).step_by(97) {
            let error = refusal(made.read(&whole[..length]));
            assert!(
                error.contains("again") || error.contains("no bundle"),
                "{error}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_is_no_plain_file_or_goes_elsewhere_is_refused() -> Result<()> {
        let made = Made::new()?;
        let first = "tools/bin/a.zst";
        for (kind, name, target) in [
            (EntryType::Regular, "../../etc/cron.d/evil", ""),
            (EntryType::Regular, "/etc/cron.d/evil", ""),
            (EntryType::Regular, "debian/b.deb", ""),
            (EntryType::Symlink, first, "/etc/shadow"),
            (EntryType::Link, first, "/etc/shadow"),
            (EntryType::Directory, first, ""),
            (EntryType::Block, first, ""),
        ] {
            let error = refusal(made.forged(&[(kind, name, target)]));
            let named = if name == first { first } else { name };
            assert!(error.contains(named), "{kind:?} {name}: {error}");
        }
        Ok(())
    }

    #[test]
    fn more_than_the_manifest_names_is_refused() -> Result<()> {
        let made = Made::new()?;
        let mut archive = Builder::new(Vec::new());
        let mut head = Header::new_gnu();
        head.set_size(0);
        archive.append_data(&mut head, "tools/bin/more.zst", std::io::empty())?;
        let more = archive.into_inner()?;
        let longer = made.with(|bytes| {
            bytes.truncate(bytes.len() - 1024);
            bytes.extend(more);
        });
        let error = refusal(longer);
        assert!(error.contains("tools/bin/more.zst"), "{error}");
        Ok(())
    }

    #[test]
    fn what_is_no_archive_is_no_bundle() -> Result<()> {
        let made = Made::new()?;
        for bytes in [&b""[..], &[7; 4096][..]] {
            let error = refusal(made.read(bytes));
            assert!(error.starts_with("it is no bundle"), "{error}");
        }
        Ok(())
    }
}
