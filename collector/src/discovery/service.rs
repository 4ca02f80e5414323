//! What the annotations of a Service ask for. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::wish::Wish;

/// What our annotations begin with.
const PREFIX: &str = "comind.pro/";

/// Its presence asks for the Service to be watched.
const KIND: &str = "kind";

/// The annotations, without what they begin with.
const KNOWN: &[&str] = &[
    KIND,
    "depends-on",
    "interval",
    "path",
    "port",
    "required",
    "scheme",
    "secrets",
    "settings",
    "slo",
    "timeout",
];

/// Whether a Service asks to be watched.
pub fn asks(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("comind.pro/kind"))
}

/// What it asks for.
///
/// # Errors
/// Which annotation cannot be understood, and what to write.
pub fn wish(service: &Service) -> Result<Wish, String> {
    let annotations = service.metadata.annotations.clone().unwrap_or_default();
    let said: BTreeMap<&str, &str> = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())))
        .collect();
    if let Some(unknown) = said.keys().find(|key| !KNOWN.contains(key)) {
        return Err(format!(
            "unknown annotation `{PREFIX}{unknown}`; known are {}",
            KNOWN.join(", ")
        ));
    }
    let kind = said.get(KIND).copied().unwrap_or_default();
    let mut keys: Map<String, Value> = parsed(&said, "settings")?.unwrap_or_default();
    keys.insert("kind".to_owned(), kind.into());
    keys.insert("url".to_owned(), url(service, kind, &said)?.into());
    for key in ["interval", "timeout"] {
        if let Some(value) = said.get(key) {
            keys.insert(key.to_owned(), (*value).into());
        }
    }
    if let Some(required) = parsed::<bool>(&said, "required")? {
        keys.insert("required".to_owned(), required.into());
    }
    if let Some(slo) = parsed::<f64>(&said, "slo")? {
        keys.insert("slo".to_owned(), slo.into());
    }
    if let Some(list) = said.get("depends-on") {
        let names: Vec<&str> = list.split(',').map(str::trim).collect();
        keys.insert("depends_on".to_owned(), names.into());
    }
    Ok(Wish {
        keys,
        secrets: parsed(&said, "secrets")?.unwrap_or_default(),
    })
}

/// An annotation in YAML, of which JSON is a part.
fn parsed<T: DeserializeOwned>(
    said: &BTreeMap<&str, &str>,
    key: &str,
) -> Result<Option<T>, String> {
    let Some(text) = said.get(key) else {
        return Ok(None);
    };
    serde_saphyr::from_str(text)
        .map(Some)
        .map_err(|error| format!("the annotation `{PREFIX}{key}` cannot be read as YAML: {error}"))
}

fn url(service: &Service, kind: &str, said: &BTreeMap<&str, &str>) -> Result<String, String> {
    let scheme = said.get("scheme").copied().unwrap_or(match kind {
        "postgresql" => "postgres",
        "minio" | "elasticmq" => "http",
        kind => kind,
    });
    let port = port(service, said.get("port").copied())?;
    let path = said.get("path").copied().unwrap_or_default();
    let slash = if path.is_empty() || path.starts_with('/') {
        ""
    } else {
        "/"
    };
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    Ok(format!(
        "{scheme}://{name}.{namespace}.svc:{port}{slash}{path}"
    ))
}

/// The port that was named, by number or by name; or the only one.
fn port(service: &Service, named: Option<&str>) -> Result<u16, String> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref());
    let ports = ports.unwrap_or_default();
    let shown = |port: &ServicePort| match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    };
    let all = || ports.iter().map(shown).collect::<Vec<_>>().join(", ");
    let found = match (named, ports) {
        (Some(named), _) => ports
            .iter()
            .find(|port| port.name.as_deref() == Some(named) || port.port.to_string() == named)
            .ok_or_else(|| {
                format!(
                    "the annotation `{PREFIX}port` names `{named}`; the Service has {}",
                    all()
                )
            })?,
        (None, [only]) => only,
        (None, []) => return Err("the Service has no ports".to_owned()),
        (None, _) => {
            return Err(format!(
                "the Service has several ports: {}; say which by the annotation `{PREFIX}port`",
                all()
            ));
        }
    };
    u16::try_from(found.port).map_err(|_| format!("port {} is none", found.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(ports: &str, annotations: &str) -> Service {
        serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"db","namespace":"shop","annotations":{annotations}}},"spec":{{"ports":{ports}}}}}"#
        ))
        .unwrap()
    }

    const ONE: &str = r#"[{"port":6379}]"#;
    const TWO: &str = r#"[{"port":9000,"name":"api"},{"port":9001,"name":"console"}]"#;

    #[test]
    fn annotations_become_the_keys_of_a_target() {
        let service = service(
            TWO,
            r#"{"comind.pro/kind":"minio","comind.pro/port":"api","comind.pro/required":"true",
                "comind.pro/depends-on":"net, dns","comind.pro/slo":"99","other/x":"y",
                "comind.pro/settings":"buckets: [logs]",
                "comind.pro/secrets":"{\"secret_key\":{\"name\":\"minio\",\"key\":\"password\"}}"}"#,
        );
        assert!(asks(&service));
        let wish = wish(&service).unwrap();
        let wanted = serde_json::json!({
            "kind": "minio", "url": "http://db.shop.svc:9000", "required": true, "slo": 99.0,
            "depends_on": ["net", "dns"], "buckets": ["logs"],
        });
        assert_eq!(Value::from(wish.keys), wanted);
        assert_eq!(wish.secrets["secret_key"].name, "minio");
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let cases = [
            (
                TWO,
                r#"{"comind.pro/kind":"http"}"#,
                "several ports: 9000 (api), 9001 (console)",
            ),
            ("[]", r#"{"comind.pro/kind":"http"}"#, "no ports"),
            (
                ONE,
                r#"{"comind.pro/kind":"redis","comind.pro/port":"x"}"#,
                "the Service has 6379",
            ),
            (
                ONE,
                r#"{"comind.pro/kind":"redis","comind.pro/ports":"x"}"#,
                "unknown annotation `comind.pro/ports`",
            ),
            (
                ONE,
                r#"{"comind.pro/kind":"redis","comind.pro/required":"maybe"}"#,
                "`comind.pro/required`",
            ),
            (
                ONE,
                r#"{"comind.pro/kind":"redis","comind.pro/settings":"[a"}"#,
                "`comind.pro/settings`",
            ),
        ];
        for (ports, annotations, word) in cases {
            let error = wish(&service(ports, annotations)).unwrap_err();
            assert!(error.contains(word), "{annotations}: {error}");
        }
        assert!(!asks(&service(ONE, r#"{"other/kind":"redis"}"#)));
    }

    #[test]
    fn schemes_follow_the_kind_unless_said() {
        let url = |annotations| wish(&service(ONE, annotations)).unwrap().keys["url"].clone();
        assert_eq!(
            url(r#"{"comind.pro/kind":"postgresql","comind.pro/path":"dev"}"#),
            "postgres://db.shop.svc:6379/dev"
        );
        assert_eq!(
            url(
                r#"{"comind.pro/kind":"http","comind.pro/scheme":"https","comind.pro/path":"/ok"}"#
            ),
            "https://db.shop.svc:6379/ok"
        );
    }
}
