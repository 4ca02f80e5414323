//! Root file systems as tars, put together from this machine's own files.
//!
//! Must not know what the images are for.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};

use crate::tool::tools_dir;

/// What every image has besides its server.
const BASE: &[&str] = &[
    "bash", "cat", "chmod", "chown", "cp", "date", "dd", "env", "find", "grep", "head", "id", "ls",
    "mkdir", "mv", "rm", "sed", "sh", "sleep", "tail", "test", "touch", "tr", "true", "setpriv",
];
/// Users inside: the servers' own has the number that public images use.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nserver:x:999:999::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nserver:x:999:\n";

/// What goes into an image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recipe {
    /// What it is, for its file name.
    pub(crate) name: &'static str,
    /// Programs and libraries; what they are linked to comes along.
    pub(crate) linked: Vec<PathBuf>,
    /// Files and directories taken as they are.
    pub(crate) plain: Vec<PathBuf>,
    /// Patterns of files left out.
    pub(crate) without: Vec<&'static str>,
    /// Executable scripts and other small files: path inside and content.
    pub(crate) texts: Vec<(&'static str, String)>,
    /// Lines as in a Dockerfile.
    pub(crate) changes: Vec<String>,
}

/// Adds what every image has.
pub(crate) fn with_base(mut linked: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    for name in BASE {
        let places = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
        let found = places.into_iter().find(|path| path.exists());
        linked.push(found.with_context(|| format!("{name} is neither in /usr/bin nor in /bin"))?);
    }
    // Scripts ask for it by this name wherever it really lies.
    linked.push("/bin/sh".into());
    Ok(linked)
}

impl Recipe {
    /// The tar, made if it is not there already.
    pub(crate) fn build(self) -> Result<PathBuf> {
        let mut files: BTreeSet<PathBuf> = self.plain.iter().cloned().collect();
        files.extend(self.linked.iter().cloned());
        files.extend(libraries(&self.linked)?);
        // An image may name a file once only, so none that its directory brings.
        let whole = &self.plain;
        files.retain(|f| !whole.iter().any(|dir| f != dir && f.starts_with(dir)));
        let place = tools_dir()?.join("images");
        fs::create_dir_all(&place)
            .with_context(|| format!("could not make {}", place.display()))?;
        let tar = place.join(format!("{}-{}.tar", self.name, self.fingerprint(&files)?));
        if tar.exists() {
            return Ok(tar);
        }
        let work = tempfile::tempdir_in(&place)?;
        let small = self.write_texts(work.path())?;
        let fresh = work.path().join("fresh.tar");
        let mut command = Command::new("tar");
        // -h: what is a link on this machine becomes a file in the image.
        command
            .args(["-ch", "--hard-dereference", "-f"])
            .arg(&fresh);
        for pattern in &self.without {
            command.arg(format!("--exclude={pattern}"));
        }
        command.args(["-C", "/"]);
        for file in &files {
            command.arg(file.strip_prefix("/").unwrap_or(file));
        }
        command.arg("-C").arg(&small).arg(".");
        let output = command.output().context("could not run tar")?;
        if !output.status.success() {
            bail!("tar: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.forget_old(&place, &tar);
        fs::rename(&fresh, &tar).context("could not put the image in place")?;
        Ok(tar)
    }

    fn write_texts(&self, work: &Path) -> Result<PathBuf> {
        let small = work.join("small");
        for dir in ["tmp", "etc", "opt", "data", "var/run", "proc", "sys", "dev"] {
            fs::create_dir_all(small.join(dir))?;
        }
        for open in ["tmp", "data", "var/run"] {
            fs::set_permissions(small.join(open), PermissionsExt::from_mode(0o1777))?;
        }
        fs::set_permissions(&small, PermissionsExt::from_mode(0o755))?;
        fs::write(small.join("etc/passwd"), PASSWD)?;
        fs::write(small.join("etc/group"), GROUP)?;
        for (path, content) in &self.texts {
            if let Some(dir) = small.join(path).parent() {
                fs::create_dir_all(dir)?;
            }
            fs::write(small.join(path), content)?;
            fs::set_permissions(small.join(path), PermissionsExt::from_mode(0o755))?;
        }
        Ok(small)
    }

    /// Changes when any file does that goes in; directories by their time.
    fn fingerprint(&self, files: &BTreeSet<PathBuf>) -> Result<String> {
        let mut text = format!("{self:?}{BASE:?}{PASSWD}");
        for file in files {
            let meta =
                fs::metadata(file).with_context(|| format!("{} is missing", file.display()))?;
            writeln!(text, "{file:?} {} {}", meta.size(), meta.mtime())?;
        }
        let mut short = String::new();
        for byte in &digest(&SHA256, text.as_bytes()).as_ref()[..8] {
            write!(short, "{byte:02x}")?;
        }
        Ok(short)
    }

    fn forget_old(&self, place: &Path, tar: &Path) {
        let Ok(all) = fs::read_dir(place) else { return };
        for old in all.flatten().map(|entry| entry.path()) {
            let name = old.file_name().unwrap_or_default().to_string_lossy();
            let mine = name.starts_with(&format!("{}-", self.name)) && name.ends_with(".tar");
            if mine && old != tar {
                let _ = fs::remove_file(&old);
            }
        }
    }
}

/// All libraries to which these programs are linked, as `ldd` finds them.
fn libraries(linked: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .args(linked)
        .output()
        .context("could not run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        // Java's libraries find each other only once its own loader has run.
        let missing = line.trim().strip_suffix(" => not found");
        if let Some(name) = missing
            && !linked.iter().any(|file| file.ends_with(name))
        {
            bail!("library {name} is not on this machine");
        }
    }
    Ok(text.lines().filter_map(library).collect())
}

/// `  libc.so.6 => /lib/libc.so.6 (0x…)` or `  /lib64/ld-linux.so.2 (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let (path, _) = line.trim().rsplit_once(" (0x")?;
    let path = path.rsplit_once("=> ").map_or(path, |(_, path)| path);
    if path.contains("/../") {
        return fs::canonicalize(path).ok();
    }
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_are_read() {
        let path = |line| library(line).map(|p| p.display().to_string());
        let arrow = path("\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)");
        assert_eq!(arrow.as_deref(), Some("/lib/x/libc.so.6"));
        let loader = path("\t/lib64/ld.so.2 (0x00007f)");
        assert_eq!(loader.as_deref(), Some("/lib64/ld.so.2"));
        assert_eq!(path("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert_eq!(path("\tstatically linked"), None);
    }
}
