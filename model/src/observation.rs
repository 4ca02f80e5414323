//! What one look saw, without a verdict. Must not know thresholds or states.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::fact::Facts;
use crate::reason::Reason;
use crate::timestamp::Timestamp;

/// Which of a target's questions was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// The cheap and frequent one.
    Look,
    /// The one that does the target's real work, and cleans up after itself.
    Deep,
    /// Not asked but told: what a watch saw, or that it lives.
    Watch,
}

impl Depth {
    /// The word in labels and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Deep => "deep",
            Self::Watch => "watch",
        }
    }
}

/// Something that works but should be seen to: a cause and a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// The cause.
    pub reason: Reason,
    /// What was seen, with figures.
    pub message: String,
}

/// How a look ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    /// It works; `attention` is what should be seen to all the same.
    Good {
        /// Worst first.
        attention: Vec<Attention>,
    },
    /// It does not work.
    Bad {
        /// The cause.
        reason: Reason,
        /// What was tried and what came back.
        message: String,
    },
}

/// What made the source look before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// `connection_closed`, `heartbeat_missed`, ….
    pub what: &'static str,
    /// When the hint came.
    pub at: Timestamp,
}

/// What one look saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observation {
    /// Name of the target.
    pub target: Arc<str>,
    /// When the look ended.
    pub at: Timestamp,
    /// Which question was asked.
    pub depth: Depth,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub latency: Duration,
    /// How many looks this stands for: a held connection and a fresh one that both
    /// stayed silent are two.
    pub looks: u8,
    /// What made the source look, unless its schedule did.
    pub hint: Option<Hint>,
    /// What was learned besides.
    pub facts: Facts,
}
