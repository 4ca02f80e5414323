//! The chain: each line has a number and the SHA-256 of the line before. Pure.
//!
//! The last line has nobody after it: its number and hash stand in the *head*, a file of its own.

use std::fmt;
use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

/// The hash of a line without its line feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of these bytes.
    pub fn of(line: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, line).as_ref());
        Self(hash)
    }

    fn read(text: &str) -> Option<Self> {
        // Only as we write it: capitals would be another line with the same meaning.
        let good = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 64 || !text.bytes().all(good) {
            return None;
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.write_str(&text)
    }
}

/// A line's place in the chain. The default is the one before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Place {
    /// As the head's file holds it.
    pub fn write(&self) -> String {
        format!("{} {}\n", self.number, self.hash)
    }

    /// From what the head's file holds.
    pub fn read(text: &str) -> Option<Self> {
        let (number, hash) = text.strip_suffix('\n')?.split_once(' ')?;
        let place = Self {
            number: number.parse().ok()?,
            hash: Hash::read(hash)?,
        };
        (place.write() == text).then_some(place)
    }
}

/// The next line after `last`, without its line feed, and its place.
pub fn link(last: &Place, mut members: Map<String, Value>) -> (String, Place) {
    let number = last.number + 1;
    members.insert("n".to_owned(), number.into());
    members.insert("previous".to_owned(), last.hash.to_string().into());
    let line = Value::Object(members).to_string();
    let hash = Hash::of(line.as_bytes());
    (line, Place { number, hash })
}

/// What a line says of its place: its number, and the hash of the one before.
pub fn claim(line: &[u8]) -> Option<(u64, Hash)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let number = value.get("n")?.as_u64()?;
    let previous = Hash::read(value.get("previous")?.as_str()?)?;
    Some((number, previous))
}

/// Why a line does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is no line of an audit log.
    Unreadable,
    /// It has this number in place of the next.
    Number(u64),
    /// It names another hash than that of the line before: that one, or this one, was changed.
    Previous,
    /// The log has ended within it.
    Torn,
    /// The program found at its start that what was there did not end as it had left it.
    Noted,
    /// The head names another line, or there are fewer lines than it says.
    Head,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("it is no line of an audit log"),
            Self::Number(number) => write!(f, "the line there has the number {number}"),
            Self::Previous => f.write_str(
                "it names another hash than that of the line before: one of the two was changed",
            ),
            Self::Torn => f.write_str("the log ends within it"),
            Self::Noted => {
                f.write_str("the program started on a log that did not end as it had left it")
            }
            Self::Head => {
                f.write_str("the head names another last line: lines were changed or removed")
            }
        }
    }
}

/// Goes along a chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// The last line that fitted.
    pub last: Option<Place>,
    /// The number of the first.
    pub first: u64,
}

impl Walk {
    /// Takes the next line, without its line feed.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn step(&mut self, line: &[u8]) -> Result<Place, Misfit> {
        let (number, previous) = claim(line).ok_or(Misfit::Unreadable)?;
        // Older files may be gone: then the first that is there is taken at its word.
        let before = match self.last {
            Some(last) => last,
            None if number <= 1 => Place::default(),
            None => Place {
                number: number - 1,
                hash: previous,
            },
        };
        if number != before.number + 1 {
            return Err(Misfit::Number(number));
        }
        if previous != before.hash {
            return Err(Misfit::Previous);
        }
        let place = Place {
            number,
            hash: Hash::of(line),
        };
        if self.last.is_none() {
            self.first = number;
        }
        self.last = Some(place);
        Ok(place)
    }
}
