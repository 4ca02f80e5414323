//! A transition: the moment a target's health changed. Must not know who is told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::reason::Reason;
use crate::timestamp::Timestamp;

/// A change of a target's health, as it stands on `/api/v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with every transition of this process.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Name of the target.
    pub target: Arc<str>,
    /// Health before.
    pub from: Health,
    /// Health after.
    pub to: Health,
    /// The cause.
    pub reason: Reason,
    /// What was seen, for people.
    pub message: String,
    /// What made the source look before its time.
    pub hint: Option<String>,
    /// Milliseconds from the hint, or else from the last good look, to `at`. On a
    /// recovery: since the first failed look of the outage.
    pub detected_ms: f64,
}
