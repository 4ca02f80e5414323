//! One hand at a time: a lock file held while something is changed.
//!
//! The kernel drops the lock when its holder dies, so there is no stale lock to clear.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::wait::{Gave, Look, until};

/// A held lock; dropped, it is free again.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// For a program that is started: it holds the lock too, for as long as it runs, also when whoever
    /// started it is killed.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn shared(&self) -> Result<Stdio> {
        let file = self.file.try_clone();
        Ok(file.context("cannot hand on a lock")?.into())
    }
}

/// Takes the lock, or `None` while somebody else holds it.
///
/// # Errors
/// When the file cannot be opened or locked at all.
pub fn try_take(path: &Path) -> Result<Option<Lock>> {
    let context = || format!("cannot lock {}", path.display());
    let mut file = open(path).with_context(context)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error).with_context(context),
    }
    // Who holds it, for the message that another one shows. Losing this line harms nobody.
    file.set_len(0).with_context(context)?;
    file.rewind().with_context(context)?;
    writeln!(file, "{}", std::process::id()).with_context(context)?;
    Ok(Some(Lock { file }))
}

/// Takes the lock, waiting up to `limit`; `waiting` hears who holds it.
///
/// # Errors
/// When it stays taken.
pub async fn take(path: &Path, limit: Duration, waiting: impl FnMut(&str)) -> Result<Lock> {
    let owned: PathBuf = path.to_owned();
    let gave = until(limit, waiting, || {
        let look = match try_take(&owned) {
            Ok(Some(lock)) => Look::Done(lock),
            Ok(None) => Look::NotYet(format!(
                "another comind-ops ({}) is at work here",
                holder(&owned)
            )),
            Err(error) => Look::Hopeless(error),
        };
        std::future::ready(look)
    })
    .await;
    gave.map_err(|gave| match gave {
        Gave::Hopeless(error) => error,
        Gave::TimedOut(why) => anyhow!(
            "{why} and holds {} for more than {} s; let it end, then run this again",
            path.display(),
            limit.as_secs()
        ),
    })
}

fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = open(path).and_then(|mut file| file.read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => format!("pid {}", text.trim()),
        _ => "pid unknown".to_owned(),
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::{take, try_take};
    use std::time::Duration;

    #[tokio::test]
    async fn the_second_is_told_who_holds_it() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("lock");
        let first = try_take(&path)?.expect("nobody holds a fresh lock");
        assert!(try_take(&path)?.is_none());
        let error = take(&path, Duration::from_millis(120), |_| {})
            .await
            .expect_err("it is held");
        let pid = std::process::id().to_string();
        assert!(error.to_string().contains(&pid), "{error}");
        drop(first);
        assert!(try_take(&path)?.is_some());
        Ok(())
    }
}
