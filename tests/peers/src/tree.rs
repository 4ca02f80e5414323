//! Which processes live, and which of them descend from which.
//!
//! Must not signal any.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    parent: i32,
    /// Start time in clock ticks since boot: tells a reused id from the first.
    pub(crate) start: u64,
}

/// All living processes; a zombie is dead and waits only for its parent.
pub(crate) fn processes() -> Result<BTreeMap<i32, Seen>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")
        .context("could not list /proc")?
        .flatten()
    {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue; // ended meanwhile
        };
        if let Some(seen) = parse_stat(&stat) {
            all.insert(pid, seen);
        }
    }
    Ok(all)
}

/// Parses `/proc/PID/stat`; `None` for the dead. The name in parentheses may
/// hold spaces and parentheses itself, so fields count from the last one.
fn parse_stat(stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Seen {
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

/// `root` and all below it: process id to start time.
pub(crate) fn tree(all: &BTreeMap<i32, Seen>, root: i32) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    let mut left = vec![root];
    while let Some(pid) = left.pop() {
        let Some(seen) = all.get(&pid) else { continue };
        if found.insert(pid, seen.start).is_none() {
            left.extend(all.iter().filter(|(_, s)| s.parent == pid).map(|(p, _)| *p));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_parsed() {
        let stat = "7 (a) b) c) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let seen = parse_stat(stat).map(|s| (s.parent, s.start));
        assert_eq!(seen, Some((3, 4711)));
        assert!(parse_stat("7 (a) Z 3 7 7").is_none());
    }
}
