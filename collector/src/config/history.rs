//! The section `history`: how long things are kept, and how large the file may grow.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::duration::Span;
use crate::history::Limits;

/// How much of the past is kept in `data_dir`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Older transitions and latencies are forgotten.
    pub keep: Span,
    /// The largest size of the file, in MiB; beyond it the oldest goes first.
    #[schemars(range(min = 8, max = 65536))]
    pub max_mib: u32,
}

impl Default for History {
    fn default() -> Self {
        Self {
            keep: Span(Duration::from_secs(90 * 86_400)),
            max_mib: 512,
        }
    }
}

impl History {
    /// The bounds, or what is wrong with them.
    ///
    /// # Errors
    /// In words, with the key.
    pub fn limits(&self) -> Result<Limits, String> {
        let (hour, years) = (
            Span::from_millis(3_600_000),
            Span(Duration::from_secs(3_660 * 86_400)),
        );
        let keep = self.keep.within(hour, years);
        let keep = keep.map_err(|problem| format!("`keep`: {problem}"))?;
        if !(8..=65_536).contains(&self.max_mib) {
            return Err(format!(
                "`max_mib` is {}, it must be 8 to 65536",
                self.max_mib
            ));
        }
        Ok(Limits {
            keep,
            max_size: u64::from(self.max_mib) << 20,
        })
    }
}
