//! What a layer tells those who build upon it. Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::services::table::{Look, plain, trimmed};

/// The outputs that every profile has.
pub const NAMES: [&str; 6] = [
    "cluster_endpoint",
    "cluster_name",
    "environment",
    "ingress_url",
    "kubeconfig_path",
    "node_addresses",
];

/// Outputs by their names. What Terraform calls sensitive is not among them.
pub type Outputs = BTreeMap<String, Value>;

/// Reads what `terraform output -json` says.
///
/// # Errors
/// When it is something else.
pub fn read(text: &str) -> Result<Outputs> {
    let all: BTreeMap<String, Value> =
        serde_json::from_str(text).context("terraform's outputs cannot be understood")?;
    let plain = all
        .into_iter()
        .filter(|(_, output)| output["sensitive"] != true);
    Ok(plain
        .map(|(name, mut output)| (name, output["value"].take()))
        .collect())
}

/// The table.
pub fn table(outputs: &Outputs, look: Look) -> String {
    let mut table = plain(look);
    table.set_header(["OUTPUT", "VALUE"]);
    for (name, value) in outputs {
        table.add_row([name.clone(), words(value)]);
    }
    trimmed(&table)
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_and_secrets_are_not() -> Result<()> {
        let text = r#"{
            "cluster_name": { "sensitive": false, "type": "string", "value": "c" },
            "node_addresses": { "sensitive": false, "value": ["a", "b"] },
            "admin": { "sensitive": true, "value": "hidden" }
        }"#;
        let outputs = read(text)?;
        assert_eq!(
            outputs.keys().collect::<Vec<_>>(),
            ["cluster_name", "node_addresses"]
        );
        let table = table(&outputs, Look::default());
        assert!(
            table.contains("a, b") && !table.contains("hidden"),
            "{table}"
        );
        assert!(read("no").is_err());
        Ok(())
    }
}
