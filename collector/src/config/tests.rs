//! Whole configs: what is wrong is told with its place, what is good is read, nothing hostile harms.

mod access;
mod bad;
mod good;
mod hostile;
mod reader;

use super::{Config, ConfigError, parse};

/// Reads a config as if it stood in `c.yaml`, with `PASSWORD`, `PORT` and `EMPTY` in the environment.
fn read(text: &str) -> Result<Config, ConfigError> {
    parse(text, "c.yaml", &|name| match name {
        "PASSWORD" => Some("hunter2".to_owned()),
        "PORT" => Some("5432".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    })
}

/// Every problem, one per line.
fn problems(text: &str) -> String {
    read(text).map(|_| ()).unwrap_err().to_string()
}

/// The example of the design, without kinds that are not there.
const EXAMPLE: &str = r#"
api:   { listen: 127.0.0.1:9600 }
proxy:
  listen: 127.0.0.1:8081
  routes:
    - { host: grafana.127.0.0.1.nip.io, upstream: "http://127.0.0.1:3000" }
    - { host: "*", path: /argocd, upstream: "service://argocd/argocd-server:80" }
targets:
  - { name: postgresql, kind: postgresql, required: true, url: "postgres://postgres:postgres@127.0.0.1:5432/dev", interval: 1s, timeout: 1s }
  - { name: minio, kind: minio, required: true, url: "http://127.0.0.1:9000", access_key: minioadmin, secret_key: minioadmin, buckets: [backups] }
  - { name: redis, kind: redis, url: "redis://127.0.0.1:6379" }
  - { name: elasticmq, kind: elasticmq, url: "http://127.0.0.1:9324", queues: [jobs] }
notify:
  alertmanager: ["http://127.0.0.1:9093"]
  webhooks: ["http://127.0.0.1:8080/hook"]
data_dir: ./data
"#;
