//! Container images made on the spot from programs of this machine: a root file system if they need
//! one, and a layer of ours; the same bytes each time, named by what is in them. Format: `docker save`, which every runtime reads.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ring::digest::{Context, SHA256};
use serde_json::json;
use tar::{Builder, EntryType, Header};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A root file system that several images have below their own layer: read once for all of them.
#[derive(Clone, Debug)]
pub struct Base {
    archive: PathBuf,
    digest: String,
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
        let mut digest = Context::new(&SHA256);
        let base = self.base.as_ref().map(|base| &base.digest);
        let small = (
            &self.links,
            &self.entrypoint,
            self.user,
            &self.folders,
            &self.texts,
            base,
        );
        digest.update(format!("{small:?}").as_bytes());
        for (to, from) in &self.files {
            digest.update(to.as_bytes());
            add(&mut digest, from)?;
        }
        let digest = hex(digest.finish().as_ref());
        Ok(format!("comind.local/{}:{}", self.name, &digest[..16]))
    }

    /// Writes the image as an archive.
    ///
    /// # Errors
    /// When a file cannot be read, or the archive not be written.
    pub fn write(&self, reference: &str, to: &Path) -> Result<()> {
        let dir = to.parent().context("an archive lies in a folder")?;
        let layer_file = tempfile_in(dir, self.name)?;
        let written = self.archive(reference, to, &layer_file);
        std::fs::remove_file(&layer_file).ok();
        written.with_context(|| format!("cannot make the image {reference} in {}", to.display()))
    }

    fn archive(&self, reference: &str, to: &Path, layer_file: &Path) -> Result<()> {
        self.layer(layer_file)?;
        let base = self.base.as_ref();
        let base = base.map(|base| (base.archive.as_path(), base.digest.clone()));
        let own = (layer_file, digest_of(layer_file)?);
        let (layers, digests): (Vec<&Path>, Vec<String>) = base
            .into_iter()
            .chain([own])
            .map(|(layer, digest)| (layer, format!("sha256:{digest}")))
            .unzip();
        let names: Vec<String> = (0..layers.len())
            .map(|at| format!("layer-{at}.tar"))
            .collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "User": self.user, "Env": [PATH] },
            "rootfs": { "type": "layers", "diff_ids": digests },
        }))?;
        let config_name = format!(
            "{}.json",
            hex(ring::digest::digest(&SHA256, &config).as_ref())
        );
        let manifest = serde_json::to_vec(&json!([{
            "Config": config_name, "RepoTags": [reference], "Layers": names,
        }]))?;
        let mut archive = Builder::new(BufWriter::new(File::create(to)?));
        for (name, bytes) in [
            (config_name.as_str(), &config),
            ("manifest.json", &manifest),
        ] {
            archive.append_data(
                &mut header(EntryType::Regular, 0o644, bytes.len() as u64),
                name,
                bytes.as_slice(),
            )?;
        }
        for (layer, name) in layers.into_iter().zip(&names) {
            let layer = open(layer)?;
            let size = layer.metadata()?.len();
            let mut entry = header(EntryType::Regular, 0o644, size);
            archive.append_data(&mut entry, name, layer)?;
        }
        archive.into_inner()?.flush()?;
        Ok(())
    }

    fn layer(&self, to: &Path) -> Result<()> {
        let mut layer = Builder::new(BufWriter::new(File::create(to)?));
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

fn tempfile_in(dir: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.join(format!("{name}.layer-{}", std::process::id())))
}

fn digest_of(path: &Path) -> Result<String> {
    let mut digest = Context::new(&SHA256);
    add(&mut digest, path)?;
    Ok(hex(digest.finish().as_ref()))
}

fn add(digest: &mut Context, path: &Path) -> Result<()> {
    let mut file = open(path)?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        digest.update(&piece[..length]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        recipe.write(&reference, &a)?;
        recipe.write(&reference, &b)?;
        assert_eq!(std::fs::read(&a)?, std::fs::read(&b)?);
        let listed = std::process::Command::new("tar")
            .arg("-tf")
            .arg(&a)
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        assert!(
            listed.contains("manifest.json") && listed.contains("layer-0.tar"),
            "{listed}"
        );
        std::fs::write(&program, "two")?;
        assert_ne!(recipe.reference()?, reference);
        Ok(())
    }
}
