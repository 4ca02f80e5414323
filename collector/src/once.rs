//! One look at one target, without a config: `comind-ops probe` and `/probe`.
//! Must not know states or schedules.

use std::fmt;
use std::time::Duration;

use comind_model::fact::{FactValue, Facts};
use comind_model::health::Health;
use comind_model::observation::Attention;
use comind_model::reason::Reason;
use serde::Serialize;

use crate::config::node::Node;
use crate::kinds;
use crate::probe::{Probe, Seen};
use crate::source::attempt::{self, Ask, Attempt};

/// What one look and one deep look saw.
#[derive(Debug, Serialize)]
pub struct Report {
    health: Health,
    reason: Reason,
    message: String,
    advice: &'static str,
    latency_ms: f64,
    facts: Facts,
}

impl Report {
    /// Whether the target does its work.
    pub fn up(&self) -> bool {
        self.health.works()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {:.1} ms", self.health, self.latency_ms)?;
        if self.reason != Reason::Ok {
            write!(f, ": {}: {}\n  {}", self.reason, self.message, self.advice)?;
        }
        for (name, value) in self.facts.iter() {
            let value = match value {
                FactValue::Flag(flag) => flag.to_string(),
                FactValue::Number(number) => number.to_string(),
                FactValue::Text(text) => text.clone(),
            };
            write!(f, "\n  {name:<28} {value}")?;
        }
        Ok(())
    }
}

/// Looks once, and deeply, at the target at `url`.
///
/// # Errors
/// When `kind` is none, or the URL does not fit it. A target that is down is no error.
pub async fn look(kind: &str, url: &str, timeout: Duration) -> Result<Report, String> {
    look_with(kind, &[("url", url)], timeout).await
}

/// The same with any of the kind's settings.
///
/// # Errors
/// When `kind` is none, or the settings do not fit it.
pub async fn look_with(
    kind: &str,
    settings: &[(&str, &str)],
    timeout: Duration,
) -> Result<Report, String> {
    let known = kinds::find(kind).ok_or_else(|| {
        let names: Vec<_> = kinds::KINDS.iter().map(|kind| kind.name).collect();
        format!("`{kind}` is no kind; it is one of {}", names.join(", "))
    })?;
    let probe = (known.build)(&Node::from_pairs(settings)).map_err(|error| error.message)?;
    let mut held = None;
    let first = attempt::look(&*probe, &mut held, Ask::Look, timeout).await;
    Ok(deepen(&*probe, first, timeout).await)
}

async fn deepen(probe: &dyn Probe, look: Attempt, timeout: Duration) -> Report {
    let latency_ms = look.latency.as_secs_f64() * 1e3;
    let result = match look.result {
        Ok(seen) if probe.has_deep() => match attempt::deep(probe, timeout).await.result {
            Ok(deep) => Ok(joined(seen, deep)),
            Err(failure) => Err(failure),
        },
        result => result,
    };
    let (health, reason, message, facts) = match result {
        Err(failure) => (Health::Down, failure.reason, failure.message, failure.facts),
        Ok(seen) => match seen.attention.into_iter().next() {
            Some(Attention { reason, message }) => (Health::Degraded, reason, message, seen.facts),
            None => (Health::Up, Reason::Ok, String::new(), seen.facts),
        },
    };
    Report {
        health,
        reason,
        message,
        advice: reason.advice(),
        latency_ms,
        facts,
    }
}

fn joined(mut look: Seen, deep: Seen) -> Seen {
    look.attention.extend(deep.attention);
    look.facts.merge(deep.facts);
    look
}
