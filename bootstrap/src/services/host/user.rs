//! The user a server runs as when we are root and it refuses to be.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::supervise::unit::RunAs;

/// Debian's user for PostgreSQL, then the one that owns nothing.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// `None` when we are not root: then everything runs as we do.
///
/// # Errors
/// When we are root and there is no other user to be.
pub fn unprivileged() -> Result<Option<RunAs>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    match CANDIDATES.iter().find_map(|name| find(&passwd, name)) {
        Some(user) => Ok(Some(user)),
        None => bail!(
            "PostgreSQL refuses to run as root and there is no other user; make one: useradd --system postgres"
        ),
    }
}

fn find(passwd: &str, name: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(RunAs {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

/// Whether `user` can get into `dir`: each directory above must let it pass.
///
/// # Errors
/// Naming the directory that does not, and the way out.
pub fn can_enter(user: &RunAs, dir: &Path) -> Result<()> {
    for above in dir.ancestors().skip(1) {
        let meta = std::fs::metadata(above)
            .with_context(|| format!("cannot look at {}", above.display()))?;
        let mode = meta.permissions().mode();
        let may = if meta.uid() == user.uid {
            mode & 0o100
        } else if meta.gid() == user.gid {
            mode & 0o010
        } else {
            mode & 0o001
        };
        if may == 0 {
            bail!(
                "PostgreSQL refuses to run as root, and user {} cannot enter {}; \
                 choose another place, such as COMIND_HOME=/var/lib/comind-ops",
                user.name,
                above.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{can_enter, find};
    use crate::supervise::unit::RunAs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres2:x:1:1::/:/bin/sh\npostgres:x:104:111:PostgreSQL:/var/lib/postgresql:/bin/bash\n";
        let user = find(passwd, "postgres").expect("it is there");
        assert_eq!((user.uid, user.gid), (104, 111));
        assert_eq!(find(passwd, "post"), None);
    }

    #[test]
    fn a_closed_directory_above_is_named() -> anyhow::Result<()> {
        let closed = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let stranger = RunAs {
            name: "stranger".into(),
            uid: 4_000_000,
            gid: 4_000_000,
        };
        let inside = closed.path().join("data/postgresql");
        std::fs::create_dir_all(&inside)?;
        let error = can_enter(&stranger, &inside).expect_err("it is closed");
        let name = closed.path().display().to_string();
        assert!(error.to_string().contains(&name), "{error}");
        std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o711))?;
        can_enter(&stranger, &inside)
    }
}
