//! Who runs a server that refuses to run as root.

use std::fs;

use anyhow::{Context, Result, bail};

/// An unprivileged user, for servers that refuse to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

impl User {
    /// The user for a server which refuses root: `preferred` or `nobody`.
    /// `None` when we are not root, as the server then simply runs as us.
    pub fn unprivileged(preferred: &str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
        for name in [preferred, "nobody"] {
            if let Some(user) = find_user(&passwd, name) {
                return Ok(Some(user));
            }
        }
        bail!(
            "/etc/passwd has neither {preferred} nor nobody; as root an unprivileged user is needed"
        )
    }
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2);
    Some(User {
        uid: ids.next()?.parse().ok()?,
        gid: ids.next()?.parse().ok()?,
    })
}
