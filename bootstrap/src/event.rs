//! What a person is told while something is brought up, as values.
//!
//! One event is one line on a terminal and one JSON object with `--json`, so both say the same.
//! Must not know who shows it.

use serde::Serialize;

/// How an event is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Work has begun.
    Doing,
    /// Nothing can be done but wait, and the message says for what.
    Waiting,
    /// Something was changed.
    Changed,
    /// It was as wanted already.
    Unchanged,
    /// Worth knowing; nothing was done.
    Note,
    /// Something optional failed; the rest goes on.
    Warning,
    /// Something required failed.
    Failed,
}

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Event {
    /// How to read it.
    pub level: Level,
    /// What it is about, such as a service's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The sentence for people.
    pub message: String,
}

/// Takes events as they happen.
pub trait Report: Send + Sync {
    /// Shows or stores one event. Must return quickly.
    fn report(&self, event: Event);
}

/// Reports about one subject.
#[derive(Clone, Copy)]
pub struct About<'a> {
    subject: &'a str,
    to: &'a dyn Report,
}

impl<'a> About<'a> {
    /// Events that are about `subject` go to `to`.
    pub fn new(subject: &'a str, to: &'a dyn Report) -> Self {
        Self { subject, to }
    }

    /// Sends one event.
    pub fn say(&self, level: Level, message: impl Into<String>) {
        self.to.report(Event {
            level,
            subject: Some(self.subject.to_owned()),
            message: message.into(),
        });
    }
}

/// Sends an event which is about nothing in particular.
pub fn say(to: &dyn Report, level: Level, message: impl Into<String>) {
    to.report(Event {
        level,
        subject: None,
        message: message.into(),
    });
}

/// The present moment, for the parts that show times.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
