//! Conditions as the Gateway API has them. Pure: when a condition last changed is added by whoever
//! writes it.

use serde_json::{Value, json};

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Condition {
    /// It holds; its reason is its name.
    pub fn good(kind: &'static str) -> Self {
        Self::of(kind, true, kind, "")
    }

    /// As told.
    pub fn of(
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            holds,
            reason,
            message: message.into(),
        }
    }

    /// For an object of this generation.
    pub fn json(&self, generation: i64) -> Value {
        json!({
            "type": self.kind,
            "status": if self.holds { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": generation,
        })
    }
}

/// All of them.
pub fn conditions(all: &[Condition], generation: i64) -> Value {
    all.iter().map(|one| one.json(generation)).collect()
}

/// A trouble with a reference: a reason, and a sentence.
pub type Trouble = (&'static str, String);

/// `ResolvedRefs`: the first trouble, or that there is none.
pub fn resolved(troubles: &[Trouble]) -> Condition {
    match troubles.first() {
        None => Condition::good("ResolvedRefs"),
        Some((reason, message)) => Condition::of("ResolvedRefs", false, reason, message.clone()),
    }
}
