//! Brings images into containerd while they are made, through a pipe: they lie on the disk once less. Must
//! not know what is in them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::process::{Child, Command};

use crate::event::{About, Level};
use crate::wait::while_going;

/// containerd that takes nothing for so long has stalled; on a slow disk it may have to write what it was given.
const SILENCE: Duration = Duration::from_secs(120);
/// Unpacking, of which nothing is heard, takes as long as a slow disk needs for a gigabyte or two.
const UNPACKING: Duration = Duration::from_secs(900);
/// All of it, far beyond what goes on.
pub(super) const LIMIT: Duration = Duration::from_secs(3600);

/// Gives containerd at `socket` the archive that `make` writes.
///
/// # Errors
/// When it cannot be made, or containerd refuses it or takes no more of it.
pub(super) async fn import(
    socket: &Path,
    about: About<'_>,
    make: impl FnOnce(Counted) -> Result<()> + Send + 'static,
) -> Result<()> {
    let mut ctr = Command::new("ctr")
        .arg("-a")
        .arg(socket)
        .args(["-n", "k8s.io", "images", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run `ctr`; run `make setup-cluster`")?;
    let pipe = ctr.stdin.take().context("ctr has no standard input")?;
    let gone = Arc::new(AtomicU64::new(0));
    let to = Counted {
        pipe: pipe.into_owned_fd()?.into(),
        gone: gone.clone(),
    };
    let made = tokio::task::spawn_blocking(move || make(to));
    let so_far = |bytes: u64| {
        let megabytes = bytes / 1_000_000;
        let text = format!("bring them into the cluster: {megabytes} MB so far");
        about.say(Level::Doing, text);
    };
    let made = while_going(made, &gone, SILENCE, so_far)
        .await
        .with_context(|| {
            let seconds = SILENCE.as_secs();
            format!("containerd has taken no more of the images for {seconds} s; run this again, and if it stays so look at its log and at the disk")
        })??;
    about.say(Level::Waiting, "waiting: containerd unpacks them");
    judge(made, &unpacked(ctr).await?)
}

async fn unpacked(ctr: Child) -> Result<Output> {
    let ended = tokio::time::timeout(UNPACKING, ctr.wait_with_output()).await;
    let ended = ended.map_err(|_| {
        let seconds = UNPACKING.as_secs();
        anyhow!("containerd has not unpacked the images within {seconds} s; run this again, and if it stays so look at the disk")
    })?;
    ended.context("cannot wait for `ctr`")
}

/// Who failed first: a maker whose pipe broke tells of the other one's end. Pure.
fn judge(made: Result<()>, ended: &Output) -> Result<()> {
    let broken = |error: &anyhow::Error| {
        let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
        causes.any(|cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    match made {
        Err(error) if !broken(&error) => Err(error),
        _ if !ended.status.success() => {
            let words = String::from_utf8_lossy(&ended.stderr);
            bail!(
                "`ctr images import` failed ({}): {}",
                ended.status,
                words.trim()
            )
        }
        made => made,
    }
}

/// The way to containerd; it counts what has gone.
pub(super) struct Counted {
    pipe: File,
    gone: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = self.pipe.write(piece)?;
        self.gone.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn ended(code: i32, words: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: words.as_bytes().to_vec(),
        }
    }

    #[test]
    fn whoever_failed_first_is_told() {
        let broken = || anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let text = |made, ended| judge(made, &ended).map_err(|error| format!("{error:#}"));
        assert_eq!(text(Ok(()), ended(0, "")), Ok(()));
        let refused = text(
            Err(broken().context("cannot make a")),
            ended(1, "no space left\n"),
        );
        assert!(refused.is_err_and(|why| why.ends_with("no space left")));
        let unread = text(Err(anyhow!("cannot read b")), ended(1, "unexpected EOF"));
        assert_eq!(unread, Err("cannot read b".to_owned()));
        assert!(
            text(Err(broken()), ended(0, "")).is_err(),
            "not all of it went"
        );
    }
}
