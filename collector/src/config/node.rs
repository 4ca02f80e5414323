//! A value of the config with its place in the file, on every value and on every key.
//! Must not know what a value means, nor how text becomes nodes (`yaml`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

/// Where something stands in a file. Without a file, line and column are 0.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// From 1; 0 where there is no file.
    pub line: u32,
    /// From 1, counted in characters; 0 where there is no file.
    pub column: u32,
}

/// A value with its place. Two nodes are equal when they say the same, wherever they stand.
#[derive(Clone, PartialEq)]
pub struct Node {
    pub(super) place: Unplaced,
    pub(super) value: Value,
}

/// A place which plays no part in comparisons.
#[derive(Clone, Default)]
pub(super) struct Unplaced(pub(super) Place);

impl PartialEq for Unplaced {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What a node holds. Shared, so that an alias costs nothing.
#[derive(Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Arc<[Node]>),
    Map(Arc<[Entry]>),
}

/// A text whose type is decided by who reads it.
#[derive(Clone)]
pub(super) struct Scalar {
    /// After substitution of environment variables.
    pub(super) text: Arc<str>,
    /// Written without quotes, so that it may be a number, a boolean or nothing.
    pub(super) plain: bool,
    /// What came from the environment, and how it was written; hidden from errors.
    pub(super) from_env: Arc<[FromEnv]>,
}

/// A piece of a scalar that came from an environment variable.
pub(super) struct FromEnv {
    pub(super) value: String,
    pub(super) written: String,
}

/// One key of a map, with its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: Arc<str>,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// The shortest text that is hidden: replacing single letters would only garble messages.
const HIDDEN_FROM: usize = 3;

/// No word in a message is cut later than after so many bytes.
const LONGEST_CUT: usize = 256;

impl Node {
    pub(super) fn new(place: Place, value: Value) -> Self {
        Self {
            place: Unplaced(place),
            value,
        }
    }

    pub(super) fn map(place: Place, entries: Vec<Entry>) -> Self {
        Self::new(place, Value::Map(entries.into()))
    }

    /// A map of texts without a file, for settings that come from the command line or a query.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        let entries = pairs.iter().map(|(key, text)| Entry {
            key: (*key).into(),
            place: Place::default(),
            value: Self::text(Place::default(), text),
        });
        Self::map(Place::default(), entries.collect())
    }

    pub(super) fn text(place: Place, text: &str) -> Self {
        Self::new(
            place,
            Value::Scalar(Scalar {
                text: text.into(),
                plain: true,
                from_env: Arc::new([]),
            }),
        )
    }

    /// From a value of an API. Each of `hidden`, wherever it stands in a text, is shown in
    /// errors as what goes with it.
    pub fn from_json(value: &serde_json::Value, hidden: &[(String, String)]) -> Self {
        use serde_json::Value as Json;
        let place = Place::default();
        match value {
            Json::Object(map) => {
                let entries = map.iter().map(|(key, value)| Entry {
                    key: key.as_str().into(),
                    place: Place::default(),
                    value: Self::from_json(value, hidden),
                });
                Self::map(place, entries.collect())
            }
            Json::Array(items) => {
                let items = items.iter().map(|item| Self::from_json(item, hidden));
                Self::new(place, Value::List(items.collect()))
            }
            Json::String(text) => Self::new(place, Value::Scalar(Scalar::quoted(text, hidden))),
            plain => Self::text(place, &plain.to_string()),
        }
    }

    /// Reads it as a `T`; an error carries the place of the key or value at fault, and the fix.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, NodeError> {
        T::deserialize(self)
    }

    /// Puts its place on a message. What came from the environment is shown as it was written.
    pub fn error(&self, message: impl Into<String>) -> NodeError {
        NodeError::message(message).at(self.place()).hiding(self)
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.place.0
    }

    /// The item with this number, if this is a list which has it.
    pub fn item(&self, number: usize) -> Option<&Node> {
        match &self.value {
            Value::List(items) => items.get(number),
            Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// The value under a key, if this is a map which has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().find(|entry| &*entry.key == key)?;
        Some(&entry.value)
    }

    /// The entries of a map; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Whether nothing was written, or `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// What it is, for people.
    pub(super) fn what(&self) -> &'static str {
        match &self.value {
            Value::Map(_) => "a map",
            Value::List(_) => "a list",
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(scalar) => scalar.what(),
        }
    }

    /// A map with only those entries whose key `keep` likes.
    pub(super) fn with_keys(&self, keep: impl Fn(&str) -> bool) -> Self {
        let entries = self.entries().iter().filter(|entry| keep(&entry.key));
        Self::map(self.place().clone(), entries.cloned().collect())
    }

    /// Replaces every piece of `text` that came from the environment by how it was written.
    fn hide(&self, text: &mut String) {
        match &self.value {
            Value::Scalar(scalar) => scalar.hide(text),
            Value::List(items) => items.iter().for_each(|item| item.hide(text)),
            Value::Map(entries) => entries.iter().for_each(|entry| entry.value.hide(text)),
        }
    }
}

impl Scalar {
    fn quoted(text: &str, hidden: &[(String, String)]) -> Self {
        let within = hidden.iter().filter(|(value, _)| text.contains(value));
        let from_env: Vec<_> = within
            .map(|(value, written)| FromEnv {
                value: value.clone(),
                written: written.clone(),
            })
            .collect();
        Self {
            text: text.into(),
            plain: false,
            from_env: from_env.into(),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.plain
            && self.from_env.is_empty()
            && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// Whether its text may be read as a number or a boolean.
    pub(super) fn untyped(&self) -> bool {
        self.plain || !self.from_env.is_empty()
    }

    fn what(&self) -> &'static str {
        if !self.untyped() {
            return "a text in quotes";
        }
        match &*self.text {
            "true" | "false" => "a boolean",
            text if text.parse::<f64>().is_ok() => "a number",
            _ => "a text",
        }
    }

    fn hide(&self, text: &mut String) {
        for piece in self.from_env.iter() {
            if piece.value.len() >= HIDDEN_FROM && text.contains(&piece.value) {
                *text = text.replace(&piece.value, &piece.written);
            }
            piece.hide_beginning(text);
        }
    }
}

impl FromEnv {
    /// A message may have been cut in the middle of the value, which `…` tells.
    fn hide_beginning(&self, text: &mut String) {
        if !text.contains('…') {
            return;
        }
        let ends = self.value.char_indices().map(|(end, _)| end);
        let ends = ends.filter(|end| (HIDDEN_FROM..LONGEST_CUT).contains(end));
        for end in ends.collect::<Vec<_>>().into_iter().rev() {
            let cut = format!("{}…", &self.value[..end]);
            *text = text.replace(&cut, &self.written);
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain && self.text == other.text
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len() && in_order(a).iter().zip(in_order(b)).all(|(a, b)| same(a, b))
            }
            _ => false,
        }
    }
}

/// The order of keys says nothing.
fn in_order(entries: &[Entry]) -> Vec<&Entry> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    sorted
}

fn same(a: &Entry, b: &Entry) -> bool {
    a.key == b.key && a.value == b.value
}

/// Shows its shape and place only: a value may be a secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, .. } = self.place();
        write!(f, "{} at {line}:{column}", self.what())
    }
}

/// What is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeError {
    /// The file as it was named to us; empty where there is none.
    pub file: Arc<str>,
    /// From 1; 0 where there is no place.
    pub line: u32,
    /// From 1; 0 where there is no place.
    pub column: u32,
    /// One sentence with the fix.
    pub message: String,
    /// Whether the place is settled; the innermost wins.
    placed: bool,
    /// Whether the message names the key at fault.
    named: bool,
}

impl NodeError {
    /// A message that waits for its place.
    pub(super) fn message(message: impl Into<String>) -> Self {
        Self {
            file: Arc::from(""),
            line: 0,
            column: 0,
            message: message.into(),
            placed: false,
            named: false,
        }
    }

    /// Sets the place, unless something further inside has.
    pub(super) fn at(mut self, place: &Place) -> Self {
        if !self.placed {
            self.placed = true;
            self.file = place.file.clone();
            self.line = place.line;
            self.column = place.column;
        }
        self
    }

    pub(super) fn is_at(&self, place: &Place) -> bool {
        (self.line, self.column) == (place.line, place.column)
    }

    /// Sets the place anew.
    pub(super) fn moved_to(mut self, place: &Place) -> Self {
        self.line = place.line;
        self.column = place.column;
        self
    }

    /// Names the key, unless something further inside has.
    pub(super) fn under(mut self, key: &str) -> Self {
        if !self.named {
            self.named = true;
            self.message = format!("`{key}`: {}", self.message);
        }
        self
    }

    /// Says to what it belongs.
    pub(super) fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub(super) fn hiding(mut self, node: &Node) -> Self {
        node.hide(&mut self.message);
        self
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        } else if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for NodeError {}

/// Keys in alphabetical order, in backquotes, for a message.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let sorted: BTreeSet<_> = words.into_iter().collect();
    let quoted: Vec<_> = sorted.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
