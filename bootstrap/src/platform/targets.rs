//! What the collector in the cluster watches: the platform's services, this machine's, Argo CD's
//! applications, the cluster, and what watches with it. Pure: settings in, configuration out, and
//! no password in it: those are files of a Secret.

use serde_json::{Value, json};

use crate::cluster::env::Env;
use crate::cluster::ways::Ways;
use crate::platform::source::Source;
use crate::services::catalog::Service;
use crate::services::settings::Settings;

/// Where the Secret's keys are files, as the chart mounts it.
const SECRETS: &str = "/run/secrets/comind-ops";

/// The configuration, as far as it is not the chart's.
pub fn config(
    env: Env,
    ways: &Ways,
    source: &Source,
    settings: &Settings,
    minio_user: &str,
) -> Value {
    let mut targets = platform(env, settings, minio_user);
    if ways.reach_this_machine() {
        let here = settings.wanted().into_iter();
        targets.extend(here.map(|service| on_this_machine(service, env, settings)));
    }
    targets.extend(around());
    if source.is_own() {
        targets.push(json!({ "name": "git", "kind": "tcp", "url": "tcp://git.platform:80" }));
    }
    json!({
        "defaults": { "interval": "1s", "timeout": "1s" },
        "targets": targets,
        "notify": { "alertmanager": ["http://alertmanager:9093"] },
    })
}

fn platform(env: Env, settings: &Settings, minio_user: &str) -> Vec<Value> {
    let at = |name: &str| format!("{name}.platform-{}", env.name());
    vec![
        json!({
            "name": "postgresql", "kind": "postgresql", "required": true,
            "url": format!("postgres://postgres@{}:5432/dev", at("postgresql")),
            "password_file": file("postgresql"),
        }),
        json!({
            "name": "minio", "kind": "minio", "required": true,
            "url": format!("http://{}:9000", at("minio")),
            "access_key": minio_user, "secret_key_file": file("minio"),
            "buckets": settings.services.minio.buckets,
        }),
        json!({
            "name": "redis", "kind": "redis",
            "url": format!("redis://{}:6379", at("redis")),
            "password_file": file("redis"),
        }),
    ]
}

fn on_this_machine(service: Service, env: Env, settings: &Settings) -> Value {
    let of = &settings.services;
    let name = service.name();
    let mut target = json!({
        "name": format!("host-{name}"), "kind": name, "required": service.required(),
    });
    let at = env.gateway();
    match service {
        Service::Postgresql => {
            let (user, database) = (&of.postgresql.user, &of.postgresql.database);
            let encoded = crate::services::http::encode;
            let (user, database) = (encoded(user), encoded(database));
            let port = of.postgresql.port;
            target["url"] = format!("postgres://{user}@{at}:{port}/{database}").into();
            target["password_file"] = file("host-postgresql").into();
        }
        Service::Minio => {
            target["url"] = format!("http://{at}:{}", of.minio.port).into();
            target["access_key"] = of.minio.access_key.clone().into();
            target["secret_key_file"] = file("host-minio").into();
            target["buckets"] = json!(of.minio.buckets);
        }
        Service::Redis => target["url"] = format!("redis://{at}:{}", of.redis.port).into(),
        Service::Elasticmq => {
            let queues = of.elasticmq.queues.iter().map(|queue| queue.name.clone());
            target["url"] = format!("http://{at}:{}", of.elasticmq.port).into();
            target["queues"] = queues.collect();
        }
    }
    target
}

fn around() -> Vec<Value> {
    let page = |name: &str, url: &str| json!({ "name": name, "kind": "http", "url": url });
    vec![
        json!({ "name": "argocd", "kind": "argocd", "namespace": "argocd" }),
        json!({ "name": "cluster", "kind": "kubernetes" }),
        page("prometheus", "http://prometheus:9090/-/ready"),
        page("alertmanager", "http://alertmanager:9093/-/ready"),
        page(
            "ingress",
            "http://comind-ingress-metrics.ingress:9600/readyz",
        ),
    ]
}

fn file(key: &str) -> String {
    format!("{SECRETS}/{key}")
}
