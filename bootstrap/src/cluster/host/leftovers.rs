//! What outlives the cluster's programs: containers, the shims that hold them, mounts.
//! Only what is surely ours is touched: what lies in the cluster's own group, was started for its
//! own socket, or is mounted below its own folders.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount as unmount_one};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::host::groups;
use crate::cluster::host::place::Place;
use crate::wait::{Look, until};

/// Asks all containers to end, and kills those that have not after `grace`, with their shims.
///
/// # Errors
/// When processes cannot be listed.
pub async fn end_containers(place: &Place, grace: Duration) -> Result<()> {
    let contained = groups::processes(place);
    signal(&contained, Signal::TERM);
    let gone = until(
        grace,
        |_| {},
        || {
            std::future::ready(match groups::processes(place).len() {
                0 => Look::<(), ()>::Done(()),
                left => Look::NotYet(format!("{left} processes have not ended")),
            })
        },
    )
    .await;
    if gone.is_err() {
        signal(&groups::processes(place), Signal::KILL);
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
