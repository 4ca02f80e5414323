//! The end of the wires between this machine and a cluster, and of what is kept of supervised
//! processes. What lays them is the platform's.

use std::path::Path;

use anyhow::Result;

use crate::cluster::host::place::Place;
use crate::store;
use crate::supervise::control;
use crate::supervise::logs;

/// Ends them; says whether there was any.
///
/// # Errors
/// With what does not end.
pub async fn stop(place: &Place) -> Result<bool> {
    let mut ran = false;
    for wire in place.wires() {
        ran |= control::stop(&wire).await?;
    }
    Ok(ran)
}

/// Removes what is kept of those that have ended.
///
/// # Errors
/// When a file cannot be removed.
pub fn remove(place: &Place) -> Result<()> {
    place
        .wires()
        .iter()
        .try_for_each(|wire| forget(place, wire))
}

/// Removes what is kept of one process that has ended: its state and its logs.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget(place: &Place, run_dir: &Path) -> Result<()> {
    store::remove(run_dir)?;
    let unit = run_dir.file_name().unwrap_or_default();
    for log in logs::files(&place.home.log(&unit.to_string_lossy())) {
        store::remove(&log)?;
    }
    Ok(())
}
