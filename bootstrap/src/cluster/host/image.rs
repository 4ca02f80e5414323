//! Container images made on the spot from programs of this machine: a root file system if they need
//! one, and a layer of ours; the same bytes each time, named by what is in them. Format: `docker save`, which every runtime reads.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::cluster::host::place::Place;
use crate::digest::{self, Seen};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A root file system that several images have below their own layer: read once for all of them.
#[derive(Clone, Debug)]
pub struct Base {
    /// Where it lies.
    pub archive: PathBuf,
    /// Its SHA-256 in hexadecimal digits.
    pub digest: String,
}

impl Base {
    /// The one in this archive.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(archive: PathBuf) -> Result<Self> {
        let digest = digest_of(&archive)?;
        Ok(Self { archive, digest })
    }
}

/// What goes into an image.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// The root file system below our layer.
    pub base: Option<Base>,
    /// Folders that must be there, and whose they are.
    pub folders: Vec<(&'static str, u64)>,
    /// Small files: where they go, and what is in them.
    pub texts: Vec<(&'static str, String)>,
    /// Files: where they go, and where they are.
    pub files: Vec<(&'static str, PathBuf)>,
    /// Links: where they are, and what they lead to.
    pub links: Vec<(String, &'static str)>,
    /// What runs.
    pub entrypoint: Vec<&'static str>,
    /// As whom: user and group, in figures.
    pub user: &'static str,
}

impl Recipe {
    /// The image's name with what is in it: another program makes another name.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn reference(&self) -> Result<String> {
        let mut seen = Seen::new(io::sink());
        let base = self.base.as_ref().map(|base| &base.digest);
        let small = (
            &self.links,
            &self.entrypoint,
            self.user,
            &self.folders,
            &self.texts,
            base,
        );
        write!(seen, "{small:?}")?;
        for (to, from) in &self.files {
            seen.write_all(to.as_bytes())?;
            let copied = io::copy(&mut open(from)?, &mut seen);
            copied.with_context(|| format!("cannot read {}", from.display()))?;
        }
        let (_, digest) = seen.finish();
        Ok(format!("comind.local/{}:{}", self.name, &digest[..16]))
    }

    /// What its runtime is told: its layers by their digests (`sha256:HEX`), what runs and as whom.
    ///
    /// # Errors
    /// None that is known of.
    pub fn config(&self, layers: &[impl AsRef<str>]) -> Result<Vec<u8>> {
        let digests = layers.iter().map(AsRef::as_ref);
        Ok(serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "User": self.user, "Env": [PATH] },
            "rootfs": { "type": "layers", "diff_ids": digests.collect::<Vec<_>>() },
        }))?)
    }

    /// Writes the layer above the root file system: the same bytes each time.
    ///
    /// # Errors
    /// When a file cannot be read, or the layer not be written.
    pub fn layer(&self, to: impl Write) -> Result<()> {
        let mut layer = Builder::new(to);
        // With a root file system these are there, and some of them are links.
        let own: &[_] = match self.base {
            Some(_) => &[],
            None => &[("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)],
        };
        for (folder, mode) in own {
            let mut entry = header(EntryType::Directory, *mode, 0);
            layer.append_data(&mut entry, folder, std::io::empty())?;
        }
        for (folder, owner) in &self.folders {
            let mut entry = header(EntryType::Directory, 0o755, 0);
            entry.set_uid(*owner);
            entry.set_gid(*owner);
            layer.append_data(&mut entry, folder, std::io::empty())?;
        }
        for (to, text) in &self.texts {
            let mut entry = header(EntryType::Regular, 0o644, text.len() as u64);
            layer.append_data(&mut entry, to, text.as_bytes())?;
        }
        for (to, from) in &self.files {
            let file = open(from)?;
            let size = file.metadata()?.len();
            layer.append_data(&mut header(EntryType::Regular, 0o755, size), to, file)?;
        }
        for (at, target) in &self.links {
            layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), at, target)?;
        }
        layer.into_inner()?.flush()?;
        Ok(())
    }
}

/// Writes the images of a step of a cluster as one archive, off the threads that wait; says where.
///
/// # Errors
/// When a file cannot be read, or the archive not be written.
pub async fn archive(place: &Place, step: &str, images: Vec<(String, Recipe)>) -> Result<PathBuf> {
    let dir = folder(place)?;
    let file = dir.join(format!("{step}.tar"));
    let to = File::create(&file).with_context(|| format!("cannot make {}", file.display()))?;
    tokio::task::spawn_blocking(move || write(&images, &dir, to)).await??;
    Ok(file)
}

/// Where a cluster's images are put together.
///
/// # Errors
/// When it cannot be made.
pub fn folder(place: &Place) -> Result<PathBuf> {
    let dir = place.data("images");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Writes images as one archive, in which a layer that several of them have is once. Its parts are put
/// together in `dir`.
///
/// # Errors
/// When a file cannot be read, or the archive not be written.
pub fn write(images: &[(String, Recipe)], dir: &Path, to: impl Write) -> Result<()> {
    let mut archive = Archive {
        tar: Builder::new(BufWriter::with_capacity(PIECE, to)),
        there: BTreeSet::new(),
    };
    let mut manifest = Vec::new();
    for (reference, recipe) in images {
        let layer = dir.join(format!("{}.layer-{}", recipe.name, std::process::id()));
        let added = archive.image(reference, recipe, &layer);
        std::fs::remove_file(&layer).ok();
        manifest.push(added.with_context(|| format!("cannot make the image {reference}"))?);
    }
    archive.text("manifest.json", &serde_json::to_vec(&manifest)?)?;
    archive.tar.into_inner()?.flush()?;
    Ok(())
}

/// What is copied at a time, in bytes.
const PIECE: usize = 1 << 18;

/// Images in the making.
struct Archive<W: Write> {
    tar: Builder<BufWriter<W>>,
    /// The layers that are in it already.
    there: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Adds one image, whose own layer is put together in a file; gives its line of the manifest.
    fn image(&mut self, reference: &str, recipe: &Recipe, own: &Path) -> Result<Value> {
        recipe.layer(BufWriter::new(File::create(own)?))?;
        let base = recipe.base.as_ref();
        let base = base.map(|base| (base.archive.as_path(), base.digest.clone()));
        let layers: Vec<(&Path, String)> =
            base.into_iter().chain([(own, digest_of(own)?)]).collect();
        let digests = layers.iter().map(|(_, digest)| format!("sha256:{digest}"));
        let digests: Vec<String> = digests.collect();
        let mut names = Vec::new();
        for (file, digest) in layers {
            names.push(self.layer(file, digest)?);
        }
        let config = recipe.config(&digests)?;
        let name = format!("{}.json", digest::of_bytes(&config));
        self.text(&name, &config)?;
        Ok(json!({ "Config": name, "RepoTags": [reference], "Layers": names }))
    }

    fn layer(&mut self, file: &Path, digest: String) -> Result<String> {
        let name = format!("{digest}.tar");
        if self.there.insert(digest) {
            let layer = open(file)?;
            let mut entry = header(EntryType::Regular, 0o644, layer.metadata()?.len());
            self.tar.append_data(&mut entry, &name, layer)?;
        }
        Ok(name)
    }

    fn text(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut entry = header(EntryType::Regular, 0o644, bytes.len() as u64);
        self.tar.append_data(&mut entry, name, bytes)?;
        Ok(())
    }
}

/// Of no time and no user: the same each time.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

fn digest_of(path: &Path) -> Result<String> {
    Ok(digest::of(open(path)?)?.1)
}

/// In Go's words, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_makes_the_same_image() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let program = dir.path().join("program");
        std::fs::write(&program, "one")?;
        let recipe = Recipe {
            name: "test",
            files: vec![("bin/program", program.clone())],
            links: vec![("bin/sh".to_owned(), "program")],
            entrypoint: vec!["/bin/program"],
            user: "65532:65532",
            ..Recipe::default()
        };
        let reference = recipe.reference()?;
        let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        let images = [(reference.clone(), recipe.clone())];
        write(&images, dir.path(), File::create(&a)?)?;
        write(&images, dir.path(), File::create(&b)?)?;
        assert_eq!(std::fs::read(&a)?, std::fs::read(&b)?);
        let listed = std::process::Command::new("tar")
            .arg("-tf")
            .arg(&a)
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        assert!(
            listed.contains("manifest.json") && listed.matches(".tar").count() == 1,
            "{listed}"
        );
        std::fs::write(&program, "two")?;
        assert_ne!(recipe.reference()?, reference);
        Ok(())
    }
    #[test]
    fn what_images_share_is_written_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("root.tar");
        Builder::new(File::create(&root)?).into_inner()?;
        let base = Base::read(root)?;
        let image = |name, text: &str| -> Result<(String, Recipe)> {
            let recipe = Recipe {
                name,
                base: Some(base.clone()),
                texts: vec![("etc/name", text.to_owned())],
                ..Recipe::default()
            };
            Ok((recipe.reference()?, recipe))
        };
        let to = dir.path().join("both.tar");
        let both = [image("one", "1")?, image("two", "2")?];
        write(&both, dir.path(), File::create(&to)?)?;
        let listed = std::process::Command::new("tar")
            .arg("-tf")
            .arg(&to)
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        assert_eq!(listed.matches(".tar").count(), 3, "{listed}");
        assert_eq!(listed.matches(".json").count(), 3, "{listed}");
        Ok(())
    }
}
