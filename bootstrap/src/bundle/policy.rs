//! Keeps packages from starting their daemons while they are installed, in the way that Debian has
//! for it. As `lib/kind-deb.sh` of the toolchain, so that one clears away what the other has left.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const PLACE: &str = "/usr/sbin/policy-rc.d";
const TEXT: &str =
    "#!/bin/sh\n# comind-ops toolchain: no daemon starts during its installs\nexit 101\n";

/// While it lives, no daemon is started.
#[derive(Debug)]
pub(super) struct Quiet(PathBuf);

impl Quiet {
    /// Forbids it. A policy that the machine has of its own stays.
    pub(super) fn begin() -> Result<Self> {
        Self::at(Path::new(PLACE))
    }

    fn at(place: &Path) -> Result<Self> {
        let write = || -> std::io::Result<()> {
            if place.try_exists()? {
                return Ok(());
            }
            std::fs::write(place, TEXT)?;
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755))
        };
        write().with_context(|| format!("cannot write {}", place.display()))?;
        Ok(Self(place.to_owned()))
    }

    /// Whether the policy that is there is ours.
    fn ours(&self) -> bool {
        std::fs::read_to_string(&self.0).is_ok_and(|text| text == TEXT)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if !self.ours() {
            return;
        }
        let gone = std::fs::remove_file(&self.0);
        if let Err(error) = gone
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_goes_and_a_policy_of_the_machine_stays() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let place = dir.path().join("policy-rc.d");
        let quiet = Quiet::at(&place)?;
        let status = std::process::Command::new(&place).status()?;
        assert_eq!(status.code(), Some(101));
        // What a killed one has left is taken over.
        drop(Quiet::at(&place)?);
        drop(quiet);
        assert!(!place.exists());
        std::fs::write(&place, "theirs")?;
        drop(Quiet::at(&place)?);
        assert_eq!(std::fs::read_to_string(&place)?, "theirs");
        Ok(())
    }
}
