//! JSON schemas of a cluster's objects, made from what its API server says of itself (OpenAPI 2), as
//! kubeconform reads them. Strict: a field that is not known is an error. Must not know our charts.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// How kubeconform finds one, below their folder.
pub(super) const LAYOUT: &str = "{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json";
const REFERENCE: &str = "#/definitions/";

/// Writes one for each kind of object, with all that it refers to; says how many.
pub(super) fn write(openapi: &Value, dir: &Path) -> Result<usize> {
    let definitions = openapi["definitions"].as_object();
    let mut definitions = definitions.context("there are no definitions")?.clone();
    for (name, definition) in &mut definitions {
        match name.ends_with(".Quantity") {
            // Written without quotes it is a number to YAML.
            true => *definition = json!({ "type": ["string", "number"] }),
            false => make_strict(definition),
        }
    }
    let mut count = 0;
    for (name, definition) in &definitions {
        let Some(file) = file_of(definition) else {
            continue;
        };
        let schema = json!({
            "$ref": format!("{REFERENCE}{name}"),
            "definitions": with_all_it_needs(name, &definitions)?,
        });
        std::fs::write(dir.join(file), schema.to_string())?;
        count += 1;
    }
    Ok(count)
}

/// The file of a kind. What belongs to several groups, such as options, is no object.
fn file_of(definition: &Value) -> Option<String> {
    let [of] = definition["x-kubernetes-group-version-kind"]
        .as_array()?
        .as_slice()
    else {
        return None;
    };
    let (kind, version) = (of["kind"].as_str()?.to_lowercase(), of["version"].as_str()?);
    // kubeconform takes what stands before a slash, or all of it.
    let group = of["group"].as_str().filter(|group| !group.is_empty());
    let group = group.unwrap_or(version);
    Some(format!("{kind}-{group}-{version}.json"))
}

/// A schema and those inside it. Properties may have names that are words of schemas, so that
/// only places of schemas are visited.
fn make_strict(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let says = |key: &str| schema.get(key).is_some_and(|value| value == true);
    let open =
        says("x-kubernetes-preserve-unknown-fields") || says("x-kubernetes-embedded-resource");
    if schema
        .get("format")
        .is_some_and(|format| format == "int-or-string")
    {
        schema.remove("format");
        schema.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(make_strict);
        if !open && !schema.contains_key("additionalProperties") {
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            make_strict(inner);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let inner = schema.get_mut(key).and_then(Value::as_array_mut);
        inner.into_iter().flatten().for_each(make_strict);
    }
}

/// The definition of this name and all that it refers to, however indirectly.
fn with_all_it_needs(name: &str, all: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut needed = Map::new();
    let mut open = BTreeSet::from([name.to_owned()]);
    while let Some(name) = open.pop_first() {
        let definition = all.get(&name);
        let definition = definition.with_context(|| format!("{name} is not defined"))?;
        references(definition, &mut open);
        needed.insert(name, definition.clone());
        open.retain(|name| !needed.contains_key(name));
    }
    Ok(needed)
}

fn references(value: &Value, to: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            to.extend(
                reference
                    .and_then(|text| text.strip_prefix(REFERENCE))
                    .map(ToOwned::to_owned),
            );
            fields.values().for_each(|inner| references(inner, to));
        }
        Value::Array(values) => values.iter().for_each(|inner| references(inner, to)),
        _ => {}
    }
}
