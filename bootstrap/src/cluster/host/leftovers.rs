//! What outlives the cluster's programs: containers, the shims that hold them, mounts, groups.
//! Only what is surely ours is touched: what lies in the cluster's own group, was started for its
//! own socket, or is mounted below its own folders.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount as unmount_one};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::host::place::Place;
use crate::wait::{Look, until};

const GROUPS: &str = "/sys/fs/cgroup";

/// Asks all containers to end, and kills those that have not after `grace`, with their shims.
///
/// # Errors
/// When processes cannot be listed.
pub async fn end_containers(place: &Place, grace: Duration) -> Result<()> {
    let contained = processes_in(place);
    signal(&contained, Signal::TERM);
    let gone = until(
        grace,
        |_| {},
        || {
            std::future::ready(match processes_in(place).len() {
                0 => Look::<(), ()>::Done(()),
                left => Look::NotYet(format!("{left} processes have not ended")),
            })
        },
    )
    .await;
    if gone.is_err() {
        signal(&processes_in(place), Signal::KILL);
    }
    signal(&shims(place)?, Signal::KILL);
    Ok(())
}

fn signal(processes: &[i32], signal: Signal) {
    for pid in processes {
        if let Some(pid) = Pid::from_raw(*pid) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The cluster's groups, in each hierarchy.
fn groups(place: &Place) -> Vec<PathBuf> {
    let root = Path::new(GROUPS);
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    let candidates = hierarchies
        .map(|entry| entry.path())
        .chain([root.to_owned()]);
    candidates
        .map(|hierarchy| hierarchy.join(place.name()))
        .filter(|group| group.is_dir())
        .collect()
}

fn processes_in(place: &Place) -> Vec<i32> {
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

/// Shims carry containerd's socket in their arguments.
fn shims(place: &Place) -> Result<Vec<i32>> {
    let socket = place.runtime_socket().display().to_string();
    let all = procfs::process::all_processes().context("cannot list processes")?;
    let ours = all.flatten().filter(|process| {
        process.cmdline().is_ok_and(|words| {
            words
                .first()
                .is_some_and(|program| program.contains("containerd-shim"))
                && words.contains(&socket)
        })
    });
    Ok(ours.map(|process| process.pid).collect())
}

/// Unmounts whatever lies below the cluster's folders, the innermost first.
///
/// # Errors
/// When mounts cannot be listed, or one cannot be unmounted.
pub fn unmount(place: &Place) -> Result<()> {
    let own = [place.dir(), place.home.run(&place.unit("containerd"))];
    let mounts = procfs::process::Process::myself()
        .and_then(|own| own.mountinfo())
        .context("cannot list mounts")?;
    let mut points: Vec<PathBuf> = mounts
        .into_iter()
        .map(|mount| mount.mount_point)
        .filter(|point| own.iter().any(|dir| point.starts_with(dir)))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        unmount_one(&point, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

/// Removes the cluster's groups.
///
/// # Errors
/// When one still holds processes.
pub fn remove_groups(place: &Place) -> Result<()> {
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
