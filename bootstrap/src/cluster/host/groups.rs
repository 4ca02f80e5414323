//! The cluster's own control group, in each hierarchy where there are several (cgroup v1).
//! Kubelets remove groups that they do not know, so each cluster's are below one of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cluster::host::place::Place;

const ROOT: &str = "/sys/fs/cgroup";

fn several() -> bool {
    !Path::new(ROOT).join("cgroup.controllers").exists()
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    if !several() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let all = std::fs::read_dir(ROOT).with_context(|| format!("cannot list {ROOT}"))?;
    let all = all.flatten().map(|entry| entry.path());
    Ok(all.filter(|path| path.is_dir()).collect())
}

/// Makes it: the kubelet wants it to exist.
///
/// # Errors
/// When the system refuses.
pub fn make(place: &Place) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(place.name());
        if !group.exists() {
            std::fs::create_dir(&group)
                .with_context(|| format!("cannot make the group {}", group.display()))?;
        }
        if several() && hierarchy.ends_with("cpuset") {
            // A new group has no processors until it is told, and then nothing may run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                std::fs::write(group.join(file), std::fs::read(hierarchy.join(file))?)?;
            }
        }
    }
    Ok(())
}

fn groups(place: &Place) -> Vec<PathBuf> {
    let all = hierarchies().unwrap_or_default().into_iter();
    all.map(|hierarchy| hierarchy.join(place.name()))
        .filter(|group| group.is_dir())
        .collect()
}

/// The processes in there.
pub fn processes(place: &Place) -> Vec<i32> {
    let mut all = Vec::new();
    for group in groups(place) {
        each_below(&group, &mut |dir| {
            let listed = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            all.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Children first.
fn each_below(dir: &Path, what: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each_below(&entry.path(), what);
        }
    }
    what(dir);
}

/// Removes it with all below it.
///
/// # Errors
/// When one still holds processes.
pub fn remove(place: &Place) -> Result<()> {
    for group in groups(place) {
        let mut failed = None;
        each_below(&group, &mut |dir| {
            if let Err(error) = std::fs::remove_dir(dir) {
                failed.get_or_insert((dir.to_owned(), error));
            }
        });
        if let Some((dir, error)) = failed {
            return Err(error)
                .with_context(|| format!("cannot remove the group {}", dir.display()));
        }
    }
    Ok(())
}
