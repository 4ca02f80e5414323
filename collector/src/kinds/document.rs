//! `docs/kinds.md`, made from the kinds themselves so that it cannot drift.
//! Must not know single kinds.

use schemars::SchemaGenerator;
use serde_json::Value;

use crate::kinds::{KINDS, Kind};

const HEAD: &str = "# Kinds of target\n\n\
    Made from the program by `COMIND_REGENERATE=1 cargo test -p comind-collector document`; do not edit.\n\n\
    Every target also has `name`, `kind`, `required`, `interval`, `timeout`, `deep_interval`,\n\
    `deep_timeout`, `heartbeat` and `thresholds`; `comind-ops config schema` has them all.\n";

/// The whole document.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for kind in KINDS {
        section(&mut text, kind);
    }
    text
}

fn section(text: &mut String, kind: &Kind) {
    text.push_str(&format!("\n## {}\n{}\n\n", kind.name, kind.about));
    text.push_str("| setting | what it says |\n|---|---|\n");
    let schema = (kind.schema)(&mut SchemaGenerator::default()).to_value();
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let said = property["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        let need = if required.contains(&name.as_str()) {
            " (required)"
        } else {
            ""
        };
        text.push_str(&format!("| `{name}`{need} | {said} |\n"));
    }
    if !kind.metrics.is_empty() {
        text.push_str("\n| metric | what it counts |\n|---|---|\n");
        for metric in kind.metrics {
            text.push_str(&format!(
                "| `comind_{}_{}` | {} |\n",
                kind.name, metric.name, metric.help
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_document_is_the_made_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kinds.md");
        let made = markdown();
        if std::env::var_os("COMIND_REGENERATE").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "docs/kinds.md is out of date: {}",
            HEAD.lines().nth(2).unwrap()
        );
    }

    /// A kind without a file, a peer to test it against, or an end-to-end test is not done.
    #[test]
    fn every_kind_has_its_file_and_its_end_to_end_test() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for kind in KINDS {
            let probe = format!("collector/src/probe/{}.rs", kind.name);
            let test = format!("tests/it/{}.rs", kind.name);
            for file in [probe, test] {
                assert!(root.join(&file).exists(), "kind {} lacks {file}", kind.name);
            }
        }
    }
}
