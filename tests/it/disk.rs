//! A disk that is small enough to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use comind_peers::user::User;

/// A small file system of its own, unmounted when dropped.
pub(crate) struct SmallDisk {
    place: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// In a folder of its own, for a server that runs as `owner`.
    pub(crate) fn new(owner: Option<User>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ops-disk-").tempdir()?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode)?;
        let place = dir.path().join("disk");
        std::fs::create_dir(&place)?;
        let mut disk = Self::over(place, owner)?;
        disk._dir = Some(dir);
        Ok(disk)
    }

    /// Over a folder that is there, hiding what it holds.
    pub(crate) fn over(place: PathBuf, owner: Option<User>) -> Result<Self> {
        let options = match owner {
            Some(user) => format!("size=1m,mode=700,uid={},gid={}", user.uid, user.gid),
            None => "size=1m,mode=700".to_owned(),
        };
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], &place)
            .context("a test of a full disk must mount a tmpfs: run it as root")?;
        Ok(Self { place, _dir: None })
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Writes until nothing fits any more.
    pub(crate) fn fill(&self) -> Result<()> {
        let written = std::fs::write(self.ballast(), vec![0; 4 << 20]);
        ensure!(written.is_err(), "4 MiB fit on the small disk");
        Ok(())
    }

    /// Takes that away again.
    pub(crate) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).context("could not free the small disk")
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is about to be killed may still have files there.
        let _ = run("umount", &["-l"], &self.place);
    }
}

fn run(program: &str, args: &[&str], place: &Path) -> Result<()> {
    let output = Command::new(program).args(args).arg(place).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {said}");
    Ok(())
}
