//! Whether the kernel knows the file system that containers' layers are put together with.

use std::path::Path;

use anyhow::Result;
use futures_util::FutureExt as _;

use crate::cluster::host::command::run;
use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};
use crate::store;

const NAME: &str = "overlay";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| std::future::ready(look()).boxed(),
    mend: Some(|_| mend().boxed()),
};

fn look() -> Result<Vec<Finding>> {
    Ok(vec![judge(known()?)])
}

fn known() -> Result<bool> {
    let text = store::read(Path::new("/proc/filesystems"))?;
    Ok(lists(&text.unwrap_or_default()))
}

/// A line is a file system, with `nodev` before it or not.
fn lists(text: &str) -> bool {
    text.lines()
        .any(|line| line.split_whitespace().next_back() == Some("overlay"))
}

/// Loads it for now, as a first container would.
async fn mend() -> Result<Vec<String>> {
    if known()? {
        return Ok(Vec::new());
    }
    run("modprobe", ["overlay"]).await?;
    Ok(vec!["loaded the kernel's module `overlay`".to_owned()])
}

fn judge(known: bool) -> Finding {
    if known {
        return Finding::ok(NAME, "the kernel knows overlay file systems");
    }
    Finding::new(
        NAME,
        Level::Warning,
        "the kernel does not know overlay file systems yet, and containers need them",
        "`comind-ops doctor --fix`, or: modprobe overlay",
    )
}

#[cfg(test)]
mod tests {
    use super::{judge, lists};
    use crate::doctor::finding::Level;

    #[test]
    fn only_the_name_itself_counts() {
        assert!(lists("nodev\tsysfs\nnodev\toverlay\n\text4\n"));
        assert!(!lists("nodev\tsysfs\nnodev\toverlayfs2\n\text4\n"));
        assert_eq!(judge(true).level, Level::Ok);
        assert_eq!(judge(false).level, Level::Warning);
    }
}
