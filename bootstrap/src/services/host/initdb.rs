//! Makes PostgreSQL's data directory, whole or not at all.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::services::host::user;
use crate::services::settings::Postgresql;
use crate::store;
use crate::supervise::unit::RunAs;

/// A first start on a slow disk.
const LIMIT: Duration = Duration::from_secs(120);

/// Makes the directory if it is not there; says whether it did.
///
/// # Errors
/// When `initdb` fails, or a directory of another PostgreSQL release is in place.
pub async fn ensure(
    bin: &Path,
    data: &Path,
    run_as: Option<&RunAs>,
    settings: &Postgresql,
) -> Result<bool> {
    if let Some(version) = store::read(&data.join("PG_VERSION"))? {
        check_release(bin, data, version.trim()).await?;
        return Ok(false);
    }
    if let Some(user) = run_as {
        user::can_enter(user, data)?;
    }
    // Made beside its place and then moved: whoever finds it there finds it whole.
    // The name is ours alone: an initdb whose parent was killed may still write to its own.
    let fresh = data.with_extension(format!("new-{}", std::process::id()));
    for old in leftovers(data) {
        store::remove(&old).ok();
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&fresh)
        .with_context(|| format!("cannot make {}", fresh.display()))?;
    let password = data.with_extension(format!("new-{}.password", std::process::id()));
    fs::write(&password, settings.password.expose())?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    if let Some(user) = run_as {
        for path in [&fresh, &password] {
            chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("cannot give {} to {}", path.display(), user.name))?;
        }
    }
    let made = initdb(bin, &fresh, &password, run_as, settings).await;
    store::remove(&password)?;
    made?;
    fs::rename(&fresh, data).with_context(|| format!("cannot make {}", data.display()))?;
    Ok(true)
}

/// What an interrupted run may have left beside the data directory.
pub fn leftovers(data: &Path) -> Vec<PathBuf> {
    let stem = format!("{}.new-", data.file_name().unwrap_or_default().display());
    let beside = data.parent().map(fs::read_dir);
    let entries = beside.and_then(Result::ok).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&stem))
        .map(|entry| entry.path())
        .collect()
}

async fn initdb(
    bin: &Path,
    fresh: &Path,
    password: &Path,
    run_as: Option<&RunAs>,
    settings: &Postgresql,
) -> Result<()> {
    let mut command = Command::new(bin.join("initdb"));
    command
        .arg("--pgdata")
        .arg(fresh)
        .arg("--pwfile")
        .arg(password)
        .args(["--username", &settings.user])
        .args([
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ])
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .with_context(|| format!("initdb did not end within {} s", LIMIT.as_secs()))?
        .context("cannot start initdb")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("initdb failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}

async fn check_release(bin: &Path, data: &Path, of_data: &str) -> Result<()> {
    let output = Command::new(bin.join("postgres"))
        .arg("--version")
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start postgres")?;
    let said = String::from_utf8_lossy(&output.stdout);
    match major(&said) {
        Some(of_program) if of_program == of_data => Ok(()),
        Some(of_program) => bail!(
            "{} is of PostgreSQL {of_data}, the server here is {of_program}; install {of_data}, \
             or save what you need and run `comind-ops services clean`",
            data.display()
        ),
        None => bail!(
            "cannot tell the release of {}: {}",
            bin.display(),
            said.trim()
        ),
    }
}

/// From `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, 15.
fn major(version: &str) -> Option<&str> {
    let number = version
        .split_once("(PostgreSQL)")?
        .1
        .split_whitespace()
        .next()?;
    number.split(|c: char| !c.is_ascii_digit()).next()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_major_release_is_found() {
        assert_eq!(
            major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"),
            Some("15")
        );
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some("18"));
        assert_eq!(major("something else"), None);
    }
}
