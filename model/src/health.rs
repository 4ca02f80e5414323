//! The four words for how something is. Must not know how they are decided (`state`).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a target, or the whole platform, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Works.
    Up,
    /// Works, but something asks for attention.
    Degraded,
    /// Cannot do its work.
    Down,
    /// Not looked at, or silence. Never to be taken for up.
    Unknown,
}

impl Health {
    /// Every health, in the order in which people read them.
    pub const ALL: [Self; 4] = [Self::Up, Self::Degraded, Self::Down, Self::Unknown];

    /// The lower-case word of the API, of metrics labels and of the page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it does its work: up, or degraded.
    pub const fn works(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
