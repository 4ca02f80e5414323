//! What is watched. Must not know how (addresses and secrets stay in the collector).

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Objective;
use crate::thresholds::Thresholds;

/// One watched thing, as the rules need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Unique name, from the config.
    pub name: Arc<str>,
    /// The kind of service: `postgresql`, `http`, ….
    pub kind: &'static str,
    /// Whether the platform is down without it.
    pub required: bool,
    /// How many looks make a verdict.
    pub thresholds: Thresholds,
    /// Silence for longer than this makes it unknown.
    pub stale_after: Duration,
    /// Whether it has a deep look; if so, it is up only after a good one.
    pub deep: bool,
    /// Whether it is watched too; if so, it is up only while the watch proves itself alive.
    pub watched: bool,
    /// The target whose watch sees this one, where it is a part of another: one application of
    /// Argo CD, one pod. A part has no looks of its own and is unknown while that one is out.
    pub parent: Option<Arc<str>>,
    /// Targets without which this one cannot work: while one of them is down, nobody is told
    /// that this one is.
    pub depends_on: Arc<[Arc<str>]>,
    /// Which share of the time it should work.
    pub objective: Option<Objective>,
}

impl Target {
    /// An optional target with default thresholds, patient for `stale_after`, without deep look,
    /// watch or parent.
    pub fn new(name: impl Into<Arc<str>>, kind: &'static str, stale_after: Duration) -> Self {
        Self {
            name: name.into(),
            kind,
            required: false,
            thresholds: Thresholds::default(),
            stale_after,
            deep: false,
            watched: false,
            parent: None,
            depends_on: Arc::default(),
            objective: None,
        }
    }

    /// A part of `parent`: it falls silent with its parent and never by itself.
    pub fn part(parent: &Arc<str>, name: impl Into<Arc<str>>, kind: &'static str) -> Self {
        Self {
            parent: Some(parent.clone()),
            ..Self::new(name, kind, Duration::MAX)
        }
    }
}
