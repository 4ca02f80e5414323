//! The config's JSON Schema, with a branch for every kind of target.
//! Must not know single kinds.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::discovery::Discovery;
use super::history::History;
use super::maintenance::Written;
use super::notify::Notify;
use super::probe_policy::ProbePolicy;
use super::proxy::Proxy;
use super::sections::{Api, Defaults};
use super::target::{COMMON, Common, MAX_TARGETS};
use crate::kinds::{KINDS, Kind};

/// The JSON Schema of a config file.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let properties = json!({
        "api": section::<Api>(&mut generator),
        "compat_metrics": {
            "type": "boolean",
            "default": false,
            "description": "Whether metrics are exported under the names of other exporters as well.",
        },
        "data_dir": {
            "type": "string",
            "default": "./data",
            "description": "The folder where history is kept.",
        },
        "defaults": section::<Defaults>(&mut generator),
        "discovery": section::<Discovery>(&mut generator),
        "history": section::<History>(&mut generator),
        "maintenance": section::<Vec<Written>>(&mut generator),
        "notify": section::<Notify>(&mut generator),
        "probe": section::<ProbePolicy>(&mut generator),
        "proxy": section::<Proxy>(&mut generator),
        "targets": targets(&mut generator),
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "comind-ops config",
        "description": "What is watched, how often, and where the result is served. \
            Any text may hold ${NAME} or ${NAME:-default} from the environment; $$ is a dollar.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "$defs": generator.take_definitions(true),
    })
}

fn section<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn targets(generator: &mut SchemaGenerator) -> Value {
    let branches: Vec<Value> = KINDS.iter().map(|kind| branch(kind, generator)).collect();
    json!({
        "type": "array",
        "maxItems": MAX_TARGETS,
        "description": "What is watched.",
        "items": { "oneOf": branches },
    })
}

/// One kind's target: the keys that all share, and its own.
fn branch(kind: &Kind, generator: &mut SchemaGenerator) -> Value {
    let common = Common::json_schema(generator);
    let own = (kind.schema)(generator);
    let mut properties = properties(&common);
    properties.extend(self::properties(&own));
    properties.insert(
        "kind".to_owned(),
        json!({ "const": kind.name, "description": kind.about }),
    );
    let mut required = required(&common);
    required.extend(self::required(&own));
    json!({
        "title": kind.name,
        "description": kind.about,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

fn properties(schema: &Schema) -> Map<String, Value> {
    let found = schema.get("properties").and_then(Value::as_object);
    found.cloned().unwrap_or_default()
}

fn required(schema: &Schema) -> Vec<Value> {
    let found = schema.get("required").and_then(Value::as_array);
    found.cloned().unwrap_or_default()
}

/// The keys that only this kind has.
pub(super) fn own_keys(kind: &Kind) -> Vec<String> {
    let schema = (kind.schema)(&mut SchemaGenerator::default());
    let keys = properties(&schema).into_iter().map(|(key, _)| key);
    keys.filter(|key| !COMMON.contains(&key.as_str())).collect()
}
