//! What a container is to be: settings in, a plain description out, and that as the API wants it.
//!
//! Facts about the images (entry points, environment, where data lies) are from their own
//! documentation: postgres, minio/minio, redis, softwaremill/elasticmq.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, Mount, MountType, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use serde::Serialize;

use crate::fingerprint;
use crate::services::catalog::{self, Service};
use crate::services::host::units::elasticmq_config;
use crate::services::settings::Settings;

/// The network of all our containers.
pub const NETWORK: &str = "comind-ops-network";
/// The label of all that is ours, and its value.
pub const OWNER: (&str, &str) = ("pro.comind.owner", "comind-ops");
/// The label with the service's name.
pub const SERVICE: &str = "pro.comind.service";
/// The label with the fingerprint of what the container was made from.
pub const FINGERPRINT: &str = "pro.comind.fingerprint";

/// What a container is to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    /// Its image.
    pub image: String,
    /// Its environment. May hold passwords: not for logs.
    pub env: Vec<String>,
    /// Its command, where the image's own does not do.
    pub command: Option<Vec<String>>,
    /// Its user, where the image's own does not do.
    pub user: Option<String>,
    /// The volume with its data.
    pub volume: String,
    /// Where the volume is inside.
    pub data: String,
    /// Ports inside to ports on loopback.
    pub ports: BTreeMap<u16, u16>,
    /// A shell command that succeeds while the service answers.
    pub health: String,
    /// How it is asked to end.
    pub stop_signal: String,
    /// How long it may take to end, in seconds.
    pub stop_seconds: i64,
    /// Files put into it before its first start: path and text.
    pub files: BTreeMap<String, String>,
}

/// The container of a service.
pub fn of(service: Service, settings: &Settings) -> Spec {
    let ports = catalog::ports(service, settings)
        .into_iter()
        .map(|port| (port.container, port.host))
        .collect();
    let plain = Spec {
        image: settings.image(service),
        env: Vec::new(),
        command: None,
        user: None,
        volume: service.volume().to_owned(),
        data: "/data".to_owned(),
        ports,
        health: String::new(),
        stop_signal: "SIGTERM".to_owned(),
        stop_seconds: i64::try_from(service.stop_grace().as_secs()).unwrap_or(i64::MAX),
        files: BTreeMap::new(),
    };
    match service {
        Service::Postgresql => postgresql(plain, settings),
        Service::Minio => minio(plain, settings),
        Service::Redis => redis(plain),
        Service::Elasticmq => elasticmq(plain, settings),
    }
}

fn postgresql(plain: Spec, settings: &Settings) -> Spec {
    let of = &settings.services.postgresql;
    Spec {
        env: vec![
            format!("POSTGRES_USER={}", of.user),
            format!("POSTGRES_PASSWORD={}", of.password.expose()),
            // A volume's root may hold a lost+found, which initdb refuses.
            "PGDATA=/var/lib/postgresql/data/pgdata".to_owned(),
        ],
        data: "/var/lib/postgresql/data".to_owned(),
        // While it makes its files the server listens on its socket only: ask by TCP.
        health: format!("pg_isready -h 127.0.0.1 -U '{}'", of.user.replace('\'', "")),
        stop_signal: "SIGINT".to_owned(),
        ..plain
    }
}

fn minio(plain: Spec, settings: &Settings) -> Spec {
    let of = &settings.services.minio;
    let command = [
        "server",
        "/data",
        "--address",
        ":9000",
        "--console-address",
        ":9001",
    ];
    Spec {
        env: vec![
            format!("MINIO_ROOT_USER={}", of.access_key),
            format!("MINIO_ROOT_PASSWORD={}", of.secret_key.expose()),
            "MINIO_UPDATE=off".to_owned(),
        ],
        command: Some(command.map(str::to_owned).to_vec()),
        health: http_health("http://127.0.0.1:9000/minio/health/ready", 9000),
        ..plain
    }
}

fn redis(plain: Spec) -> Spec {
    // Protected mode refuses whoever is not inside: what keeps strangers out is that the port is
    // published on loopback only.
    let command = [
        "redis-server",
        "--appendonly",
        "yes",
        "--dir",
        "/data",
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
    ];
    Spec {
        command: Some(command.map(str::to_owned).to_vec()),
        health: "redis-cli -h 127.0.0.1 ping | grep -q PONG".to_owned(),
        ..plain
    }
}

fn elasticmq(plain: Spec, settings: &Settings) -> Spec {
    let port = settings.services.elasticmq.port;
    let config = elasticmq_config("0.0.0.0", 9324, port, Path::new("/data"));
    Spec {
        // The image's own user cannot write to a fresh volume. Root in there has no capabilities.
        user: Some("0:0".to_owned()),
        health: http_health("http://127.0.0.1:9324/?Action=ListQueues", 9324),
        files: BTreeMap::from([("/opt/elasticmq.conf".to_owned(), config)]),
        ..plain
    }
}

/// Images lose and gain tools: whichever is there asks; with none, a connection has to do.
fn http_health(url: &str, port: u16) -> String {
    format!(
        "if command -v curl >/dev/null; then curl -fsS -m 2 -o /dev/null '{url}'; \
         elif command -v wget >/dev/null; then wget -q -T 2 -O /dev/null '{url}'; \
         else exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'; fi"
    )
}

impl Spec {
    /// Changes when the container would have to be made anew to be as wanted.
    pub fn fingerprint(&self) -> String {
        fingerprint::of(self)
    }

    /// The container as the API wants it.
    pub fn body(&self, service: Service) -> ContainerCreateBody {
        let ports = self.ports.iter().map(|(inside, outside)| {
            let binding = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                host_port: Some(outside.to_string()),
            };
            (format!("{inside}/tcp"), Some(vec![binding]))
        });
        let host = HostConfig {
            port_bindings: Some(ports.collect()),
            network_mode: Some(NETWORK.to_owned()),
            mounts: Some(vec![Mount {
                typ: Some(MountType::VOLUME),
                source: Some(self.volume.clone()),
                target: Some(self.data.clone()),
                ..Mount::default()
            }]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            cap_drop: self.user.as_ref().map(|_| vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            ..HostConfig::default()
        };
        let mut labels = labels(service);
        labels.insert(FINGERPRINT.to_owned(), self.fingerprint());
        ContainerCreateBody {
            image: Some(self.image.clone()),
            env: Some(self.env.clone()),
            cmd: self.command.clone(),
            user: self.user.clone(),
            exposed_ports: Some(
                self.ports
                    .keys()
                    .map(|port| format!("{port}/tcp"))
                    .collect(),
            ),
            labels: Some(labels),
            healthcheck: Some(self.healthcheck()),
            stop_signal: Some(self.stop_signal.clone()),
            stop_timeout: Some(self.stop_seconds),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }

    fn healthcheck(&self) -> HealthConfig {
        let nanos = |limit: Duration| i64::try_from(limit.as_nanos()).ok();
        HealthConfig {
            test: Some(vec!["CMD-SHELL".to_owned(), self.health.clone()]),
            interval: nanos(Duration::from_secs(5)),
            timeout: nanos(Duration::from_secs(3)),
            retries: Some(3),
            start_period: nanos(Duration::from_secs(30)),
            start_interval: None,
        }
    }
}

/// The labels of all that belongs to a service.
pub fn labels(service: Service) -> HashMap<String, String> {
    HashMap::from([
        (OWNER.0.to_owned(), OWNER.1.to_owned()),
        (SERVICE.to_owned(), service.name().to_owned()),
    ])
}

/// Whether something with these labels is ours.
pub fn ours(labels: Option<&HashMap<String, String>>) -> bool {
    labels.is_some_and(|labels| labels.get(OWNER.0).is_some_and(|owner| owner == OWNER.1))
}

#[cfg(test)]
mod tests {
    use super::{of, ours};
    use crate::services::catalog::Service;
    use crate::services::settings::Settings;
    use std::collections::HashMap;

    #[test]
    fn the_containers_are_as_documented() {
        let settings = Settings::default();
        let specs = Service::ALL.map(|service| of(service, &settings));
        insta::assert_json_snapshot!(specs);
    }

    #[test]
    fn any_change_of_settings_that_matters_changes_the_fingerprint() {
        let before = Settings::default();
        let print = |settings: &Settings| of(Service::Redis, settings).fingerprint();
        let mut after = before.clone();
        after.services.minio.port = 9100;
        assert_eq!(print(&before), print(&after), "another service's port");
        after.services.redis.port = 6380;
        assert_ne!(print(&before), print(&after), "its own port");
        after.services.redis = before.services.redis.clone();
        after.services.redis.image = Some("redis:other".into());
        assert_ne!(print(&before), print(&after), "its image");
    }

    #[test]
    fn everything_is_published_on_loopback_only() {
        let settings = Settings::default();
        for service in Service::ALL {
            let body = of(service, &settings).body(service);
            let bindings = body.host_config.and_then(|host| host.port_bindings);
            for binding in bindings
                .expect("there are ports")
                .into_values()
                .flatten()
                .flatten()
            {
                assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
            }
            assert!(ours(body.labels.as_ref()));
        }
        assert!(!ours(None));
        assert!(!ours(Some(&HashMap::from([("a".into(), "b".into())]))));
    }
}
