//! Whether there is memory for a cluster and what runs on it.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;

use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level, gib};
use crate::store;

const NAME: &str = "memory";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| std::future::ready(look()).boxed(),
    mend: None,
};

const GIB: u64 = 1 << 30;

fn look() -> Result<Vec<Finding>> {
    let text = store::read(Path::new("/proc/meminfo"))?.unwrap_or_default();
    let available = available(&text).context("/proc/meminfo does not say what is available")?;
    Ok(vec![judge(available)])
}

/// In bytes; the kernel counts in units of 1024.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let units: u64 = line.split_whitespace().next()?.parse().ok()?;
    units.checked_mul(1024)
}

fn judge(available: u64) -> Finding {
    Finding::new(
        NAME,
        Level::of_rest(available, 2 * GIB, GIB),
        format!("{} of memory are available", gib(available)),
        "end other programs, or give the machine more: 2 GiB should be free, and 1 GiB must be",
    )
}

#[cfg(test)]
mod tests {
    use super::{GIB, available, judge};
    use crate::doctor::finding::Level;

    #[test]
    fn what_is_available_counts_and_not_what_is_free() {
        let text = "MemTotal:  8000000 kB\nMemFree:  1000 kB\nMemAvailable:  3145728 kB\n";
        assert_eq!(available(text), Some(3 * GIB));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: much\n"), None);
    }

    #[test]
    fn little_is_a_warning_and_less_a_problem() {
        assert_eq!(judge(2 * GIB).level, Level::Ok);
        assert_eq!(judge(2 * GIB - 1).level, Level::Warning);
        assert_eq!(judge(GIB - 1).level, Level::Problem);
    }
}
