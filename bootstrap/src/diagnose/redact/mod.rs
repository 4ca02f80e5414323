//! Takes secrets out of text before anybody else sees it. Pure.
//!
//! Three ways, one after the other, since none is enough: known secrets as they are spelt
//! ([`known`]), what looks like a secret wherever it stands ([`shapes`]), and the value of a key
//! that is called like one ([`pairs`]; [`names`] says which). In doubt it is taken out.

mod known;
mod names;
mod pairs;
mod shapes;

use serde_json::Value;

use crate::diagnose::redact::known::Known;
use crate::diagnose::redact::shapes::Shapes;
use crate::secret::Secret;

/// What stands where a secret stood.
pub const STARS: &str = "***";

/// So deep is text in text understood as JSON.
const DEEP: usize = 4;

/// Whether what has this name is a secret.
pub fn is_secret(name: &str) -> bool {
    names::secret(name)
}

/// Takes secrets out.
pub struct Redactor {
    known: Option<Known>,
    shapes: Shapes,
}

impl Redactor {
    /// One that knows these.
    ///
    /// # Errors
    /// When they are too many.
    pub fn new(known: &[Secret]) -> anyhow::Result<Self> {
        Ok(Self {
            known: Known::new(known)?,
            shapes: Shapes::new()?,
        })
    }

    /// A text without its secrets. Lines that are JSON are read as that, which knows best where a
    /// value ends.
    pub fn text(&self, text: &str) -> String {
        self.deeply(text, DEEP)
    }

    fn deeply(&self, text: &str, depth: usize) -> String {
        if let Some(whole) = self.json(text, depth) {
            return whole;
        }
        if !text.contains('{') && !text.contains('[') {
            return self.plain(text);
        }
        // What goes over several lines is seen while they are still together.
        let plain_before = |lines: &str| self.plain(lines);
        let (mut done, mut waiting) = (String::new(), String::new());
        for line in text.split_inclusive('\n') {
            match self.json(line, depth) {
                Some(value) => {
                    done.push_str(&plain_before(&std::mem::take(&mut waiting)));
                    done.push_str(&value);
                    done.push('\n');
                }
                None => waiting.push_str(line),
            }
        }
        done + &plain_before(&waiting)
    }

    fn json(&self, text: &str, depth: usize) -> Option<String> {
        if depth == 0 || !text.trim_start().starts_with(['{', '[']) {
            return None;
        }
        let mut value: Value = serde_json::from_str(text).ok()?;
        self.inside(&mut value, depth - 1);
        // Once more as text: keys and numbers may be secrets too.
        Some(self.literally(&value.to_string()))
    }

    /// A value without its secrets, as text for people.
    pub fn value(&self, mut value: Value) -> String {
        self.inside(&mut value, DEEP);
        self.literally(&format!("{value:#}\n"))
    }

    fn inside(&self, value: &mut Value, depth: usize) {
        match value {
            Value::String(text) => *text = self.deeply(text, depth),
            Value::Array(items) => {
                let mut hide = false;
                for item in items {
                    // A list of arguments: the secret comes after its name.
                    let name = item.as_str().is_some_and(names::flag);
                    match std::mem::replace(&mut hide, name) {
                        true if !name => blank(item),
                        _ => self.inside(item, depth),
                    }
                }
            }
            Value::Object(fields) => {
                // An object that names another's field, such as a container's variable.
                let called = ["name", "key", "Name", "Key"]
                    .iter()
                    .filter_map(|name| fields.get(*name)?.as_str());
                let hidden = called.into_iter().any(names::secret);
                for (name, field) in fields {
                    let value = hidden && name.eq_ignore_ascii_case("value");
                    match value || names::secret(name) {
                        true => blank(field),
                        false => self.inside(field, depth),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn plain(&self, text: &str) -> String {
        let text = self.literally(text);
        let text = self.shapes.taken_out(&text);
        pairs::taken_out(&text)
    }

    fn literally(&self, text: &str) -> String {
        match &self.known {
            Some(known) => known.taken_out(text),
            None => text.to_owned(),
        }
    }
}

/// Everything in a value that says something.
fn blank(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Object(fields) => {
            let told = fields
                .iter_mut()
                .filter(|(name, _)| !names::reference(name));
            told.for_each(|(_, field)| blank(field));
        }
        Value::String(_) | Value::Number(_) => *value = STARS.into(),
    }
}

#[cfg(test)]
mod tests;
