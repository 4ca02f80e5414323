//! How many looks make a verdict: M of N. Data and one pure question.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest history that a verdict may ask for.
pub const MAX_WINDOW: u8 = 32;

/// How many of the last looks have to be bad, or good, for a change of mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Bad looks (of the last `window`) that make it down, when the cause is certain (refused, wrong password).
    pub hard: u8,
    /// Bad looks (of the last `window`) that make it down, when the cause is silence (a timeout).
    pub soft: u8,
    /// How many looks back are counted, at most 32.
    pub window: u8,
    /// Good looks in a row that make it up again.
    pub recover: u8,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            hard: 1,
            soft: 2,
            window: 2,
            recover: 1,
        }
    }
}

impl Thresholds {
    /// What is wrong with these numbers, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.window == 0 || self.window > MAX_WINDOW {
            return Some(format!(
                "`window` is {}, it must be 1 to {MAX_WINDOW}",
                self.window
            ));
        }
        let named = [("hard", self.hard), ("soft", self.soft)];
        for (name, value) in named {
            if value == 0 || value > self.window {
                return Some(format!(
                    "`{name}` is {value}, it must be 1 to `window` ({})",
                    self.window
                ));
            }
        }
        if self.recover == 0 || self.recover > MAX_WINDOW {
            return Some(format!(
                "`recover` is {}, it must be 1 to {MAX_WINDOW}",
                self.recover
            ));
        }
        None
    }
}
