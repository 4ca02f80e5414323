//! What has been: transitions, outages and latencies in `history.sqlite`, and what follows from
//! them. One task writes; readers open the file for themselves. Must not know probes or HTTP.

pub mod file;
pub mod keeper;
pub mod query;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use comind_model::ledger::{Stretch, joined};
use comind_model::timestamp::Timestamp;

use crate::config::maintenance::Maintenance;

/// When each maintenance is on between two moments.
pub struct Windows<'a>(Vec<(&'a Maintenance, Vec<Stretch>)>);

impl<'a> Windows<'a> {
    /// Of all of them.
    pub fn of(all: &'a [Maintenance], between: Stretch) -> Self {
        Self(all.iter().map(|one| (one, one.between(between))).collect())
    }

    /// What of it does not count for a target.
    pub fn excluded(&self, target: &str) -> Vec<Stretch> {
        let of = self
            .0
            .iter()
            .filter(|(maintenance, _)| maintenance.covers(target));
        joined(
            of.flat_map(|(_, windows)| windows.iter().copied())
                .collect(),
        )
    }
}

/// How long things are kept, and how large the file may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Older things are forgotten.
    pub keep: Duration,
    /// In bytes; the oldest goes first.
    pub max_size: u64,
}

/// What the keeper has to know of the config.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How much is kept.
    pub limits: Limits,
    /// What does not count.
    pub maintenance: Arc<[Maintenance]>,
}

/// The start of the day (UTC) in which a moment lies.
pub fn day_of(at: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400_000_000;
    Timestamp::from_micros(at.as_micros().div_euclid(DAY) * DAY)
}
