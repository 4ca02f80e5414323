//! Whether a user may watch as many files as a node's programs do together.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;

use crate::cluster::host::command::run;
use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};
use crate::store;

const NAME: &str = "inotify";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| std::future::ready(look()).boxed(),
    mend: Some(|_| mend().boxed()),
};

/// Keeps what was raised, over a restart of the machine.
const KEPT: &str = "/etc/sysctl.d/60-comind-ops.conf";

/// What is needed at least.
const LIMITS: [(&str, u64); 2] = [("max_user_instances", 512), ("max_user_watches", 65_536)];

/// One of the limits, as it is.
#[derive(Clone, Copy, Debug)]
struct Seen {
    name: &'static str,
    value: u64,
    wanted: u64,
}

impl Seen {
    fn low(&self) -> bool {
        self.value < self.wanted
    }

    fn key(&self) -> String {
        format!("fs.inotify.{}", self.name)
    }

    /// As sysctl and its files want it.
    fn setting(&self) -> String {
        format!("{}={}", self.key(), self.wanted)
    }
}

fn see() -> Result<Vec<Seen>> {
    let one = |(name, wanted): (&'static str, u64)| {
        let path = PathBuf::from("/proc/sys/fs/inotify").join(name);
        let text =
            store::read(&path)?.with_context(|| format!("there is no {}", path.display()))?;
        let value = text
            .trim()
            .parse::<u64>()
            .with_context(|| format!("cannot understand {}", path.display()))?;
        Ok(Seen {
            name,
            value,
            wanted,
        })
    };
    LIMITS.into_iter().map(one).collect()
}

fn look() -> Result<Vec<Finding>> {
    Ok(judge(&see()?))
}

fn judge(seen: &[Seen]) -> Vec<Finding> {
    seen.iter().map(judge_one).collect()
}

fn judge_one(seen: &Seen) -> Finding {
    let (key, value, wanted) = (seen.key(), seen.value, seen.wanted);
    if !seen.low() {
        return Finding::ok(NAME, format!("{key} is {value}"));
    }
    Finding::new(
        NAME,
        Level::Warning,
        format!(
            "{key} is {value}, and a cluster wants {wanted}: its programs may say `too many open files`"
        ),
        format!(
            "`comind-ops doctor --fix`, or: sysctl -w {}, and the same in {KEPT} to keep it",
            seen.setting()
        ),
    )
}

/// Raises what is too low, now and for good. Lowers nothing.
async fn mend() -> Result<Vec<String>> {
    let mut low = see()?;
    low.retain(Seen::low);
    if low.is_empty() {
        return Ok(Vec::new());
    }
    let mut done = Vec::new();
    for one in &low {
        run("sysctl", ["-q", "-w", one.setting().as_str()]).await?;
        done.push(format!("{} (was {})", one.setting(), one.value));
    }
    keep(&low)?;
    done.push(format!("wrote {KEPT}, which keeps that"));
    Ok(done)
}

fn keep(raised: &[Seen]) -> Result<()> {
    let path = Path::new(KEPT);
    let before = store::read(path)?.unwrap_or_default();
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    store::write(path, kept(&before, raised).as_bytes())?;
    // There are no secrets in it, and whoever asks why a limit is so wants to read it.
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(path, readable).with_context(|| format!("cannot share {KEPT}"))
}

/// The file's text: what it says of other things stays.
fn kept(before: &str, raised: &[Seen]) -> String {
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let replaced = |line: &str| raised.iter().any(|one| one.key() == key(line));
    let stays = before
        .lines()
        .filter(|line| !replaced(line))
        .map(str::to_owned);
    let all: Vec<String> = stays.chain(raised.iter().map(Seen::setting)).collect();
    all.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::{Seen, judge, kept};
    use crate::doctor::finding::Level;

    fn instances(value: u64) -> Seen {
        Seen {
            name: "max_user_instances",
            value,
            wanted: 512,
        }
    }

    fn watches(value: u64) -> Seen {
        Seen {
            name: "max_user_watches",
            value,
            wanted: 65_536,
        }
    }

    #[test]
    fn each_limit_is_judged_by_itself() {
        let findings = judge(&[instances(128), watches(192_536)]);
        assert_eq!(findings[0].level, Level::Warning);
        let fix = findings[0].fix.as_deref().unwrap_or_default();
        assert!(fix.contains("fs.inotify.max_user_instances=512"), "{fix}");
        assert!(fix.contains("/etc/sysctl.d/60-comind-ops.conf"), "{fix}");
        assert_eq!(findings[1].level, Level::Ok);
        assert_eq!(judge(&[instances(512)])[0].level, Level::Ok);
        assert_eq!(judge(&[watches(65_535)])[0].level, Level::Warning);
    }

    #[test]
    fn the_file_keeps_what_was_raised_and_all_else_that_it_says() {
        let first = kept("", &[instances(128)]);
        assert_eq!(first, "fs.inotify.max_user_instances=512\n");
        let both = kept(&first, &[watches(8192)]);
        assert_eq!(both, format!("{first}fs.inotify.max_user_watches=65536\n"));
        let by_hand = "# mine\nfs.inotify.max_user_instances = 5\n";
        assert_eq!(
            kept(by_hand, &[instances(5)]),
            "# mine\nfs.inotify.max_user_instances=512\n"
        );
    }
}
