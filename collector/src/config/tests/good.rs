//! What is right is read, with defaults applied; a reload sees what changed and nothing else.

use std::fs;
use std::time::Duration;

use super::{EXAMPLE, read};
use crate::config::sections::KEYS;
use crate::config::target::{COMMON, Common};
use crate::config::{load, schema};
use crate::kinds::KINDS;

#[test]
fn the_example_of_the_design_is_read() {
    let config = read(EXAMPLE).unwrap();
    let names: Vec<_> = config.targets.iter().map(|t| &*t.target.name).collect();
    assert_eq!(names, ["postgresql", "minio", "redis", "elasticmq"]);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:9600");
    let postgresql = &config.targets[0];
    assert!(postgresql.target.required);
    assert_eq!(postgresql.interval, Duration::from_secs(1));
    assert_eq!(postgresql.target.stale_after, Duration::from_secs(4));
    let redis = &config.targets[2];
    assert!(!redis.target.required);
    assert_eq!(redis.interval, Duration::from_secs(5));
    assert_eq!(redis.deep_interval, Duration::from_secs(30));
    assert_eq!(redis.deep_timeout, Duration::from_secs(5));
    assert_eq!(redis.heartbeat, Duration::from_secs(1));
    assert_eq!(redis.target.stale_after, Duration::from_secs(16));
    assert!(config.proxy.is_some() && config.notify.webhooks.len() == 1);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains("minioadmin"));
}

#[test]
fn defaults_hold_where_a_target_says_nothing() {
    let config = read(
        "defaults: { interval: 2s, timeout: 500ms, thresholds: { soft: 3, window: 4 } }
targets:
  - { name: a, kind: tcp, url: tcp://h:1 }
  - { name: b, kind: tcp, url: tcp://h:1, interval: 100ms, thresholds: { hard: 2 } }
",
    )
    .unwrap();
    let [a, b] = &config.targets[..] else {
        panic!("{config:?}");
    };
    assert_eq!(
        (a.interval, a.timeout),
        (Duration::from_secs(2), Duration::from_millis(500))
    );
    assert_eq!(
        (a.target.thresholds.soft, a.target.thresholds.window),
        (3, 4)
    );
    assert_eq!(b.interval, Duration::from_millis(100));
    assert_eq!((b.target.thresholds.hard, b.target.thresholds.soft), (2, 2));
    assert_eq!(b.target.stale_after, Duration::from_secs(3));
}

#[test]
fn an_open_door_is_told_loudly() {
    let config = read("api: { listen: 0.0.0.0:9600 }\ntargets: []\n").unwrap();
    assert!(config.warnings[0].starts_with("c.yaml:1:16: `api.listen` is not a loopback address"));
    assert!(config.warnings[0].contains("no TLS and no login"));
    assert!(config.warnings[1].contains("nothing is watched"));
    let token = "tokens: [{ name: robot, token: 0123456789abcdef }]";
    let config = read(&format!(
        "api: {{ listen: 0.0.0.0:9600, {token} }}\ntargets: []\n"
    ))
    .unwrap();
    assert!(config.warnings[0].contains("there is no TLS: passwords"));
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
    assert!(
        read("api: { listen: \"[::1]:9600\" }\ntargets: []\n")
            .unwrap()
            .warnings
            .len()
            == 1
    );
}

#[test]
fn the_environment_and_merge_keys_fill_in() {
    let config = read(
        "targets:
  - &first { name: a, kind: redis, url: \"redis://:${PASSWORD}@h:${PORT}/${EMPTY:-3}\", interval: 7s }
  - { <<: *first, name: b, interval: 8s }
",
    )
    .unwrap();
    let [a, b] = &config.targets[..] else {
        panic!("{config:?}");
    };
    assert_eq!(a.interval, Duration::from_secs(7));
    assert_eq!(b.interval, Duration::from_secs(8));
    assert_eq!(&*b.target.name, "b");
}

fn one(keys: &str) -> crate::config::target::TargetConfig {
    let text = format!("targets:\n  - {{ name: a, kind: redis, {keys} }}\n");
    read(&text).unwrap().targets.remove(0)
}

#[test]
fn what_did_not_change_is_known_as_the_same() {
    let before = one("url: redis://h, interval: 5s");
    // The default written out, the keys in another order and another place.
    let same = read("\n\ntargets:\n- url: redis://h\n  kind: redis\n  name: a\n").unwrap();
    assert!(before.identity == same.targets[0].identity);
    for changed in [
        "url: redis://h, interval: 6s",
        "url: redis://i",
        "url: redis://h, required: true",
        "url: redis://h, heartbeat: 2s",
        "url: redis://h, thresholds: { soft: 1 }",
    ] {
        assert!(before.identity != one(changed).identity, "{changed}");
    }
}

#[test]
fn a_changed_secret_file_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    let secret = folder.path().join("pw");
    fs::write(&secret, "one\n").unwrap();
    fs::write(
        &file,
        "targets: [{ name: a, kind: redis, url: redis://h, password_file: pw }]",
    )
    .unwrap();
    let before = load(&file).unwrap();
    assert_eq!(before.files, std::slice::from_ref(&secret));
    assert!(before.targets[0].identity == load(&file).unwrap().targets[0].identity);
    fs::write(&secret, "two\n").unwrap();
    assert!(before.targets[0].identity != load(&file).unwrap().targets[0].identity);
}

#[test]
fn secret_files_lose_one_line_break_and_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pw");
    let read = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        crate::config::secret_file::read(&path)
    };
    assert_eq!(read(b"hunter2\r\n").unwrap().reveal(), "hunter2");
    assert_eq!(read(b" a b \n\n").unwrap().reveal(), " a b \n");
    assert!(read(b"\n").unwrap_err().contains("is empty"));
    assert!(read(&[0xff]).unwrap_err().contains("UTF-8"));
    assert!(
        read(&[b'x'; 70_000])
            .unwrap_err()
            .contains("larger than 65536 bytes")
    );
    assert!(
        crate::config::secret_file::read(folder.path())
            .unwrap_err()
            .contains("regular file")
    );
}

#[test]
fn the_schema_has_the_keys_that_are_read() {
    let schema = schema::schema();
    let top: Vec<_> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(top, KEYS);
    let common = schemars::schema_for!(Common);
    let keys: Vec<_> = common
        .get("properties")
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, COMMON);
}

#[test]
fn the_schema_has_a_branch_for_every_kind() {
    let schema = schema::schema();
    let branches = schema["properties"]["targets"]["items"]["oneOf"]
        .as_array()
        .unwrap();
    assert_eq!(branches.len(), KINDS.len());
    for (branch, kind) in branches.iter().zip(KINDS) {
        assert_eq!(branch["properties"]["kind"]["const"], kind.name);
        assert_eq!(branch["additionalProperties"], false);
        let required = branch["required"].as_array().unwrap();
        assert!(required.contains(&"name".into()) && required.contains(&"kind".into()));
        for (key, property) in branch["properties"].as_object().unwrap() {
            let described = property["description"].is_string() || property["$ref"].is_string();
            assert!(described, "{}: `{key}` has no description", kind.name);
        }
    }
}

#[test]
fn every_reference_in_the_schema_leads_somewhere() {
    fn walk(node: &serde_json::Value, root: &serde_json::Value) {
        match node {
            serde_json::Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(|target| target.as_str()) {
                    let pointer = target.strip_prefix('#').unwrap();
                    assert!(root.pointer(pointer).is_some(), "{target} leads nowhere");
                }
                map.values().for_each(|value| walk(value, root));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, root)),
            _ => {}
        }
    }
    let schema = schema::schema();
    walk(&schema, &schema);
}

#[test]
fn the_schema_takes_the_example() {
    let schema = schema::schema();
    let branches = schema["properties"]["targets"]["items"]["oneOf"]
        .as_array()
        .unwrap();
    let root = super::super::yaml::read(EXAMPLE, "c.yaml", &|_| None).unwrap();
    for key in root.entries() {
        assert!(schema["properties"][&*key.key].is_object(), "{}", key.key);
    }
    for (index, kind) in ["postgresql", "minio", "redis", "elasticmq"]
        .into_iter()
        .enumerate()
    {
        let branch = branches
            .iter()
            .find(|branch| branch["title"] == kind)
            .unwrap();
        let item: std::collections::BTreeMap<String, serde_json::Value> = {
            let targets = root.get("targets").unwrap();
            let items: Vec<std::collections::BTreeMap<String, serde_json::Value>> =
                targets.read().unwrap();
            items[index].clone()
        };
        for key in item.keys() {
            assert!(branch["properties"][key].is_object(), "{kind}: {key}");
        }
        for key in branch["required"].as_array().unwrap() {
            assert!(item.contains_key(key.as_str().unwrap()), "{kind}: {key}");
        }
    }
}
