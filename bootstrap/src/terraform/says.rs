//! What Terraform says with `-json`, one object a line, as events of ours. Pure: any line is fine.
//!
//! The form: <https://developer.hashicorp.com/terraform/internals/machine-readable-ui>.

use serde::Serialize;
use serde_json::Value;

use crate::event::{Event, Level};

/// A line that is no message is shown up to here.
const LONGEST: usize = 500;

/// How much a plan changes, or a run has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Made.
    pub add: u64,
    /// Changed in its place.
    pub change: u64,
    /// Removed.
    pub remove: u64,
}

impl Counts {
    /// Whether it is anything.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// For people.
    pub fn words(self) -> String {
        let Self {
            add,
            change,
            remove,
        } = self;
        format!("{add} to make, {change} to change, {remove} to remove")
    }
}

/// What a line comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Said {
    /// Something to be shown.
    Event(Event),
    /// How much is changed.
    Counts(Counts),
    /// Why it fails.
    Error(String),
    /// Nothing that anybody has to know.
    Nothing,
}

/// Understands a line.
pub(super) fn said(line: &str) -> Said {
    let line = line.trim();
    if line.is_empty() {
        return Said::Nothing;
    }
    let message = match serde_json::from_str::<Value>(line) {
        Ok(message) if message["type"].is_string() => message,
        _ => return event(Level::Note, cut(line)),
    };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let address = |of: &str| {
        text(&format!("/{of}/resource/addr"))
            .unwrap_or("?")
            .to_owned()
    };
    let seconds = message["hook"]["elapsed_seconds"].as_f64().unwrap_or(0.0);
    match text("/type").unwrap_or_default() {
        "planned_change" => {
            let action = text("/change/action").unwrap_or("change");
            event(Level::Note, format!("would {action} {}", address("change")))
        }
        "change_summary" => Said::Counts(counts(&message["changes"])),
        "apply_start" => {
            let action = text("/hook/action").unwrap_or("change");
            event(Level::Doing, format!("{action} {}", address("hook")))
        }
        "apply_progress" => {
            let what = address("hook");
            event(Level::Waiting, format!("{what} for {seconds:.0} s"))
        }
        "apply_complete" => {
            let what = match text("/hook/action") {
                Some("delete") => "removed",
                Some("create") => "made",
                _ => "changed",
            };
            let what = format!("{what} {} in {seconds:.0} s", address("hook"));
            event(Level::Changed, what)
        }
        "provision_progress" => provisioned(text("/hook/output").unwrap_or_default()),
        "diagnostic" => diagnosed(&message["diagnostic"]),
        _ => Said::Nothing,
    }
}

fn counts(changes: &Value) -> Counts {
    let count = |key: &str| changes[key].as_u64().unwrap_or(0);
    Counts {
        add: count("add"),
        change: count("change"),
        remove: count("remove"),
    }
}

fn event(level: Level, message: impl Into<String>) -> Said {
    Said::Event(Event {
        level,
        subject: Some("terraform".to_owned()),
        message: message.into(),
    })
}

/// What our own program says below it; its answers are not asked for here.
fn provisioned(line: &str) -> Said {
    if line.starts_with("Executing: [") || line.trim().is_empty() {
        return Said::Nothing;
    }
    let Ok(ours) = serde_json::from_str::<Value>(line) else {
        return event(Level::Note, cut(line));
    };
    match (level(&ours["level"]), ours["message"].as_str()) {
        (Some(level), Some(message)) => Said::Event(Event {
            level,
            subject: ours["subject"].as_str().map(str::to_owned),
            message: message.to_owned(),
        }),
        _ => Said::Nothing,
    }
}

/// A level by the name that it has in JSON.
fn level(name: &Value) -> Option<Level> {
    let all = [
        Level::Doing,
        Level::Waiting,
        Level::Changed,
        Level::Unchanged,
        Level::Note,
        Level::Warning,
        Level::Failed,
    ];
    all.into_iter()
        .find(|one| serde_json::to_value(one).is_ok_and(|one| one == *name))
}

fn diagnosed(diagnostic: &Value) -> Said {
    let text = |key: &str| diagnostic[key].as_str().unwrap_or_default();
    // A provisioner's detail repeats all that the program has said.
    let detail = text("detail").split(" Output: ").next().unwrap_or_default();
    let mut words = text("summary").to_owned();
    if !detail.is_empty() {
        words = format!("{words}: {}", cut(detail));
    }
    if let Some(file) = diagnostic["range"]["filename"].as_str() {
        let line = &diagnostic["range"]["start"]["line"];
        words = format!("{words} ({file}, line {line})");
    }
    match text("severity") {
        "warning" => event(Level::Warning, words),
        _ => Said::Error(words),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(level: Level, subject: &str, message: &str) -> Said {
        Said::Event(Event {
            level,
            subject: Some(subject.to_owned()),
            message: message.to_owned(),
        })
    }

    #[test]
    fn what_terraform_says_is_told_in_our_words() {
        let resource = json!({ "addr": "terraform_data.cluster" });
        let hook = |more: Value| {
            let mut hook = json!({ "resource": resource });
            if let (Some(hook), Value::Object(more)) = (hook.as_object_mut(), more) {
                hook.extend(more);
            }
            hook
        };
        let ours = r#"{"at":"x","level":"waiting","subject":"etcd","message":"it starts"}"#;
        for (line, said_of_it) in [
            (
                json!({ "type": "planned_change", "change": { "resource": resource, "action": "create" } }),
                told(Level::Note, "terraform", "would create terraform_data.cluster"),
            ),
            (
                json!({ "type": "change_summary", "changes": { "add": 1, "remove": 2 } }),
                Said::Counts(Counts { add: 1, change: 0, remove: 2 }),
            ),
            (
                json!({ "type": "apply_start", "hook": hook(json!({ "action": "create" })) }),
                told(Level::Doing, "terraform", "create terraform_data.cluster"),
            ),
            (
                json!({ "type": "apply_complete", "hook": hook(json!({ "action": "delete", "elapsed_seconds": 3 })) }),
                told(Level::Changed, "terraform", "removed terraform_data.cluster in 3 s"),
            ),
            (
                json!({ "type": "provision_progress", "hook": hook(json!({ "output": ours })) }),
                told(Level::Waiting, "etcd", "it starts"),
            ),
            (
                json!({ "type": "provision_progress", "hook": hook(json!({ "output": "Executing: [\"/bin/sh\"]" })) }),
                Said::Nothing,
            ),
            (
                json!({ "type": "provision_progress", "hook": hook(json!({ "output": "{\"cluster\":\"c\"}" })) }),
                Said::Nothing,
            ),
            (
                json!({ "type": "diagnostic", "diagnostic": { "severity": "error", "summary": "local-exec provisioner error",
                    "detail": "Error running command 'x': exit status 1. Output: much", "range": { "filename": "main.tf", "start": { "line": 30 } } } }),
                Said::Error(
                    "local-exec provisioner error: Error running command 'x': exit status 1. (main.tf, line 30)".to_owned(),
                ),
            ),
            (json!({ "type": "of the future" }), Said::Nothing),
        ] {
            assert_eq!(said(&line.to_string()), said_of_it, "{line}");
        }
        assert_eq!(said("no JSON"), told(Level::Note, "terraform", "no JSON"));
        assert_eq!(said(" "), Said::Nothing);
    }

    /// Lines near to what is understood: its words in every order, with everything else between.
    fn near() -> impl Strategy<Value = String> {
        let words = [
            "type",
            "planned_change",
            "change_summary",
            "apply_start",
            "apply_progress",
            "apply_complete",
            "provision_progress",
            "diagnostic",
            "hook",
            "change",
            "changes",
            "resource",
            "addr",
            "action",
            "output",
            "add",
            "elapsed_seconds",
            "summary",
            "detail",
            "severity",
            "range",
            "start",
            "line",
            "filename",
            "level",
            "message",
        ];
        let word = proptest::sample::select(words.to_vec()).prop_map(str::to_owned);
        let leaf = prop_oneof![
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::Null),
            word.clone().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(word.clone(), inner, 0..6)
                    .prop_map(Value::from_iter),
            ]
        });
        value.prop_map(|value| value.to_string())
    }

    proptest! {
        #[test]
        fn any_line_is_fine(line in prop_oneof![near(), ".{0,300}", "\\PC{490,900}"], at in 0..300_usize) {
            said(&line);
            // Cut off anywhere too.
            let end = line.char_indices().nth(at).map_or(line.len(), |(at, _)| at);
            if let Said::Event(event) = said(&line[..end]) {
                prop_assert!(!event.message.is_empty() || line.contains("message"));
            }
        }
    }
}
