//! Durations as people write them: `250ms`, `1s`, `5m`, `1h`.
//! Must not know which settings are durations.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

use super::suggest::shown;

/// A duration: a whole number with its unit (`ms`, `s`, `m`, `h` or `d`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// What a text has to look like.
const PATTERN: &str = "^[0-9]{1,9}(ms|s|m|h|d)$";

/// Each unit in milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Span {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The duration, if it lies within the bounds (both are allowed), or what to do.
    pub fn within(self, least: Self, most: Self) -> Result<Duration, String> {
        if self < least || self > most {
            return Err(format!("{self} is out of bounds; write {least} to {most}"));
        }
        Ok(self.0)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() || number.len() > 9 {
            return Err(not_a_duration(text));
        }
        if unit.is_empty() {
            return Err(format!(
                "`{text}` has no unit; write `{text}s` for seconds, or `{text}ms`"
            ));
        }
        let (_, millis) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| not_a_duration(text))?;
        let number: u64 = number.parse().map_err(|_| not_a_duration(text))?;
        Ok(Self::from_millis(number * millis))
    }
}

fn not_a_duration(text: &str) -> String {
    let shown = shown(text);
    format!(
        "`{shown}` is no duration; write a whole number and ms, s, m, h or d, such as 250ms, 5s or 1h"
    )
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, unit): &(&str, u64)| millis >= *unit && millis.is_multiple_of(*unit);
        let (name, unit) = UNITS.into_iter().find(fits).unwrap_or(("s", 1_000));
        write!(f, "{}{name}", millis / unit)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "examples": ["250ms", "5s", "1h"] })
    }
}
