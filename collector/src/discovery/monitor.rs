//! The resource `Monitor` (comind.pro/v1alpha1): its definition, and what one asks for.
//! Its definition in the chart is made from here. Must not know how it is read or written.

use std::collections::BTreeMap;

use kube::{CustomResource, CustomResourceExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wish::{SecretKey, Wish};

/// What is to be watched. The target is called NAME.NAMESPACE.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "comind.pro",
    version = "v1alpha1",
    kind = "Monitor",
    plural = "monitors",
    shortname = "mon",
    category = "monitoring",
    namespaced,
    status = "MonitorStatus",
    // By this `destroy` knows that it may go: Argo CD leaves definitions.
    label("app.kubernetes.io/managed-by", "comind-ops"),
    printcolumn = r#"{"name":"Kind","type":"string","jsonPath":".spec.kind"}"#,
    printcolumn = r#"{"name":"Required","type":"boolean","jsonPath":".spec.required"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Health","type":"string","jsonPath":".status.health"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Since","type":"date","jsonPath":".status.since"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MonitorSpec {
    /// The kind of service, as in the config file: postgresql, minio, redis, elasticmq, http, tcp,
    /// tls or dns.
    pub kind: String,
    /// Where it is. Its host must lie in the Monitor's own namespace, or be allowed by
    /// `discovery.kubernetes.allow` of the config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether the platform is down without it.
    #[serde(default)]
    pub required: bool,
    /// Time between looks, such as 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long a look may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Time between deep looks, which do the service's real work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deep_interval: Option<String>,
    /// How long a deep look may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deep_timeout: Option<String>,
    /// Targets without which this one cannot work: while one of them is down, nobody is told that
    /// this one is. Others of the cluster are called NAME.NAMESPACE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Which percentage of the time it should work, such as 99.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<f64>,
    /// Every other key of such a target, written as in the config file.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "anything")]
    pub settings: Map<String, Value>,
    /// Settings that stand in Secrets of the same namespace: `url`, `username`, `password`, or a
    /// key of the kind such as `secret_key`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretKey>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitorStatus {
    /// `Accepted`: whether it is watched, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// up, degraded, down or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Why, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "moment")]
    pub since: Option<String>,
}

/// A condition as Kubernetes has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why, in a word.
    pub reason: String,
    /// What was tried, what came back and what to do.
    pub message: String,
    /// Since when it is so.
    #[schemars(schema_with = "moment")]
    pub last_transition_time: String,
    /// Which version of the object it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn moment(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

impl MonitorSpec {
    /// As keys of the config file.
    pub fn wish(self) -> Result<Wish, String> {
        let mut keys = self.settings;
        let own = [
            ("kind", Some(Value::from(self.kind))),
            ("url", self.url.map(Value::from)),
            ("required", Some(Value::from(self.required))),
            ("interval", self.interval.map(Value::from)),
            ("timeout", self.timeout.map(Value::from)),
            ("deep_interval", self.deep_interval.map(Value::from)),
            ("deep_timeout", self.deep_timeout.map(Value::from)),
            (
                "depends_on",
                (!self.depends_on.is_empty()).then(|| Value::from(self.depends_on)),
            ),
            ("slo", self.slo.map(Value::from)),
        ];
        for (key, value) in own {
            if keys.contains_key(key) {
                return Err(format!(
                    "`settings` holds `{key}`, which stands in `spec` itself; take it out of `settings`"
                ));
            }
            if let Some(value) = value {
                keys.insert(key.to_owned(), value);
            }
        }
        Ok(Wish {
            keys,
            secrets: self.secrets,
        })
    }
}

/// The definition of the resource, for the chart.
pub fn definition() -> Value {
    serde_json::to_value(Monitor::crd()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_becomes_the_keys_of_a_target() {
        let spec: MonitorSpec = serde_json::from_str(
            r#"{"kind":"http","url":"http://web.shop.svc/","deepInterval":"1m","dependsOn":["db.shop"],
                "slo":99.5,"settings":{"expect_status":[204]}}"#,
        )
        .unwrap();
        let wish = spec.wish().unwrap();
        let wanted = serde_json::json!({
            "kind": "http", "url": "http://web.shop.svc/", "required": false, "deep_interval": "1m",
            "depends_on": ["db.shop"], "slo": 99.5, "expect_status": [204],
        });
        assert_eq!(Value::from(wish.keys), wanted);
    }

    #[test]
    fn nothing_is_said_twice() {
        let spec: MonitorSpec =
            serde_json::from_str(r#"{"kind":"tcp","settings":{"required":true}}"#).unwrap();
        assert!(spec.wish().unwrap_err().contains("`required`"));
    }

    #[test]
    fn the_chart_holds_the_definition() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../helm/comind-ops/crds/monitors.yaml"
        );
        let made = serde_saphyr::to_string(&definition()).unwrap();
        if std::env::var_os("COMIND_REGENERATE").is_some() {
            std::fs::create_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
            std::fs::write(file, &made).unwrap();
        }
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            made == kept,
            "run COMIND_REGENERATE=1 cargo test -p comind-collector"
        );
    }
}
