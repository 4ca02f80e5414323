//! What a look learned besides good or bad: connections used, role, version, queue depth.
//! Must not know which facts exist; a probe names its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The value of a fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FactValue {
    /// Yes or no.
    Flag(bool),
    /// A number in base units (seconds, bytes, or a count).
    Number(f64),
    /// A word or a short text; never a secret, never an error.
    Text(String),
}

impl From<bool> for FactValue {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<f64> for FactValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<String> for FactValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for FactValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl FactValue {
    /// As a metric has it: a flag is 1 or 0, a text is none.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Flag(flag) => Some(f64::from(u8::from(*flag))),
            Self::Text(_) => None,
        }
    }
}

/// The facts of one look, by name. A name may carry one label: `messages_visible{queue=jobs}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, FactValue>);

impl Facts {
    /// Sets a fact.
    pub fn set(&mut self, name: &str, value: impl Into<FactValue>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets a fact about one part of the target, such as one queue.
    pub fn set_labelled(
        &mut self,
        name: &str,
        key: &str,
        label: &str,
        value: impl Into<FactValue>,
    ) {
        self.0
            .insert(format!("{name}{{{key}={label}}}"), value.into());
    }

    /// Takes over the facts of another look; later ones win.
    pub fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// The value of a fact.
    pub fn get(&self, name: &str) -> Option<&FactValue> {
        self.0.get(name)
    }

    /// The value of a fact as a metric has it.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.number()
    }

    /// All facts in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FactValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits `name{key=label}` into its name and its label.
pub fn split_label(name: &str) -> (&str, Option<(&str, &str)>) {
    let Some((base, rest)) = name.split_once('{') else {
        return (name, None);
    };
    match rest
        .strip_suffix('}')
        .and_then(|inner| inner.split_once('='))
    {
        Some(label) => (base, Some(label)),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_split_off() {
        assert_eq!(split_label("a"), ("a", None));
        assert_eq!(split_label("a{q=x=y}"), ("a", Some(("q", "x=y"))));
        assert_eq!(split_label("a{q"), ("a{q", None));
    }

    #[test]
    fn serialised_as_a_plain_map() {
        let mut facts = Facts::default();
        facts.set("role", "primary");
        facts.set("connections", 3.0);
        facts.set("read_only", false);
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(
            json,
            r#"{"connections":3.0,"read_only":false,"role":"primary"}"#
        );
    }
}
