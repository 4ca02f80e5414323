//! What is watched. Must not know how (addresses and secrets stay in the collector).

use std::sync::Arc;
use std::time::Duration;

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
}
