//! Secrets that are known, in the spellings in which programs write them. Pure.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use regex::{NoExpand, Regex, RegexBuilder};

use crate::diagnose::redact::STARS;
use crate::secret::Secret;

/// Shorter ones would take half of every text with them; the names of their keys still count.
const SHORTEST: usize = 4;
/// A pattern of so many bytes is more than all services' passwords in all spellings.
const PATTERN: usize = 32 << 20;

/// Finds them.
pub(super) struct Known(Regex);

impl Known {
    /// Nothing where nothing is known.
    pub(super) fn new(secrets: &[Secret]) -> anyhow::Result<Option<Self>> {
        let long = secrets
            .iter()
            .map(Secret::expose)
            .filter(|secret| secret.len() >= SHORTEST);
        let all: BTreeSet<String> = long.flat_map(spellings).collect();
        if all.is_empty() {
            return Ok(None);
        }
        // The first that fits wins: a longer one must not be left with its end.
        let mut all: Vec<String> = all.iter().map(|one| regex::escape(one)).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.len()));
        let found = RegexBuilder::new(&all.join("|"))
            .size_limit(PATTERN)
            .build()?;
        Ok(Some(Self(found)))
    }

    pub(super) fn taken_out(&self, text: &str) -> String {
        self.0.replace_all(text, NoExpand(STARS)).into_owned()
    }
}

/// How one secret may be written.
fn spellings(secret: &str) -> Vec<String> {
    let once = json(secret);
    let mut all = vec![
        secret.to_owned(),
        json(&once),
        json(&json(&once)),
        once,
        secret.replace('\'', "''"),
        secret.replace('"', "\"\""),
        secret.escape_debug().to_string(),
        secret.replace('\'', "'\\''"),
        hex(secret.as_bytes(), false),
        hex(secret.as_bytes(), true),
    ];
    for kept in [
        &b"-._~"[..],
        b"",
        b"-._~!$&'()*+,;=:@",
        b"-._*",
        b"-_.!~*'()",
    ] {
        for small in [false, true] {
            let percent = percent(secret, kept, small);
            all.push(percent.replace("%20", "+"));
            all.push(percent);
        }
    }
    all.extend(in_base64(secret.as_bytes()));
    all
}

/// As inside of a JSON string.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn hex(bytes: &[u8], large: bool) -> String {
    bytes
        .iter()
        .map(|byte| match large {
            true => format!("{byte:02X}"),
            false => format!("{byte:02x}"),
        })
        .collect()
}

fn percent(text: &str, kept: &[u8], small: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || kept.contains(&byte) => {
                char::from(byte).to_string()
            }
            byte if small => format!("%{byte:02x}"),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// What of it stands in the base64 of anything that has it inside, such as `user:password`: the
/// letters that have no bit of what is before or behind it, for each of three places to begin at.
fn in_base64(secret: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for before in 0..3 {
        let padded = [&vec![0; before], secret].concat();
        let first = (before * 8).div_ceil(6);
        let end = padded.len() * 8 / 6;
        for alphabet in [&STANDARD, &URL_SAFE] {
            let whole = alphabet.encode(&padded);
            if end >= first + SHORTEST {
                all.push(whole[first..end].to_owned());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_base64_is_the_same_whatever_is_around_it() {
        let spelt = in_base64(b"hunter2hunter2");
        for around in ["", "a", "ab", "abc", "me:", "\u{ff}"] {
            let whole = STANDARD.encode(format!("{around}hunter2hunter2{around}"));
            assert!(spelt.iter().any(|one| whole.contains(one)), "{whole}");
        }
    }

    #[test]
    fn a_secret_in_another_leaves_no_end_of_it() -> anyhow::Result<()> {
        let secrets = ["longer", "longer-still"].map(Secret::new);
        let known = Known::new(&secrets)?.expect("two");
        assert_eq!(known.taken_out("a longer-still b longer"), "a *** b ***");
        assert!(Known::new(&[Secret::new("abc")])?.is_none());
        Ok(())
    }
}
