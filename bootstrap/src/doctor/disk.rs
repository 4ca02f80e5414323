//! Whether there is room for files, in bytes and in number, where our home is or will be.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;

use crate::doctor::check::{Check, Machine};
use crate::doctor::finding::{Finding, Level, gib};

const NAME: &str = "disk";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |machine| look(machine).boxed(),
    mend: None,
};

const GIB: u64 = 1 << 30;

/// What is left.
#[derive(Clone, Copy, Debug)]
struct Left {
    bytes: u64,
    /// Where the file system counts files at all.
    files: Option<u64>,
}

async fn look(machine: &Machine) -> Result<Vec<Finding>> {
    let home = machine.request.home.path().to_owned();
    let place = home.display().to_string();
    let left = tokio::task::spawn_blocking(move || left(&home)).await??;
    Ok(judge(&place, left))
}

/// On the file system of the path, or of what there is of it.
fn left(path: &Path) -> Result<Left> {
    let there = path.ancestors().find(|one| one.exists());
    let there = there.with_context(|| format!("there is nothing of {}", path.display()))?;
    let stat = rustix::fs::statvfs(there)
        .with_context(|| format!("cannot ask the file system of {}", there.display()))?;
    Ok(Left {
        bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        files: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

fn judge(place: &str, left: Left) -> Vec<Finding> {
    let bytes = Finding::new(
        NAME,
        Level::of_rest(left.bytes, 5 * GIB, GIB),
        format!("{} are free in {place}", gib(left.bytes)),
        "make room, or choose another place: --home DIR; 5 GiB should be free, and 1 GiB must be",
    );
    let files = left.files.map(|files| {
        Finding::new(
            NAME,
            Level::of_rest(files, 100_000, 10_000),
            format!("{files} files can still be made in {place}"),
            "remove files, or choose another place: --home DIR; images and volumes are many files",
        )
    });
    std::iter::once(bytes).chain(files).collect()
}

#[cfg(test)]
mod tests {
    use super::{GIB, Left, judge, left};
    use crate::doctor::finding::Level;

    fn levels(bytes: u64, files: Option<u64>) -> Vec<Level> {
        let findings = judge("/h", Left { bytes, files });
        findings.iter().map(|one| one.level).collect()
    }

    #[test]
    fn room_in_bytes_and_in_number_are_two_things() {
        use Level::{Ok, Problem, Warning};
        assert_eq!(levels(5 * GIB, Some(100_000)), [Ok, Ok]);
        assert_eq!(levels(5 * GIB - 1, Some(9_999)), [Warning, Problem]);
        assert_eq!(levels(GIB - 1, None), [Problem]);
    }

    #[test]
    fn a_home_that_is_yet_to_be_made_is_where_its_parents_are() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let left = left(&dir.path().join("not/yet/there"))?;
        assert!(left.bytes > 0);
        Ok(())
    }
}
