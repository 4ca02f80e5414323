//! The services' settings: defaults, a YAML file, and amendments from flags and environment.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::services::catalog::{self, Service};
use crate::store;

/// What is wrong with settings, with the place where there is one.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct SettingsError {
    place: String,
    what: String,
}

impl SettingsError {
    /// A file that was named is not there.
    pub fn missing(path: &Path) -> Self {
        Self {
            place: path.display().to_string(),
            what: "there is no such file".into(),
        }
    }
}

/// Where services run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// Whichever can serve here; the answer says why.
    #[default]
    Auto,
    /// Plain processes.
    Host,
    /// Containers.
    Docker,
}

/// All settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the services run.
    pub runtime: RuntimeChoice,
    /// The collector.
    pub api: Api,
    /// Each service.
    pub services: Services,
}

/// The collector's settings.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// The port of its page, API and metrics on loopback.
    pub port: u16,
}

impl Default for Api {
    fn default() -> Self {
        Self { port: 9600 }
    }
}

/// Each service's settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    /// The database.
    pub postgresql: Postgresql,
    /// Object storage.
    pub minio: Minio,
    /// The cache.
    pub redis: Redis,
    /// Queues.
    pub elasticmq: Elasticmq,
}

/// PostgreSQL's settings.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Postgresql {
    /// Its port on loopback.
    pub port: u16,
    /// The superuser, made when the data directory is.
    pub user: String,
    /// That user's password.
    pub password: Secret,
    /// A database that is made.
    pub database: String,
    /// Another image, for the docker runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Default for Postgresql {
    fn default() -> Self {
        Self {
            port: 5432,
            user: "postgres".into(),
            password: Secret::new("postgres"),
            database: "dev".into(),
            image: None,
        }
    }
}

/// MinIO's settings.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Minio {
    /// Its port on loopback.
    pub port: u16,
    /// Its console's port on loopback.
    pub console_port: u16,
    /// The root user.
    pub access_key: String,
    /// The root user's password.
    pub secret_key: Secret,
    /// Buckets that are made.
    pub buckets: Vec<String>,
    /// Another image, for the docker runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Default for Minio {
    fn default() -> Self {
        Self {
            port: 9000,
            console_port: 9001,
            access_key: "minioadmin".into(),
            secret_key: Secret::new("minioadmin"),
            buckets: ["uploads", "backups", "logs", "app-data", "artifacts"]
                .map(str::to_owned)
                .to_vec(),
            image: None,
        }
    }
}

/// Redis's settings.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Whether there is one at all.
    pub enabled: bool,
    /// Its port on loopback.
    pub port: u16,
    /// Another image, for the docker runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 6379,
            image: None,
        }
    }
}

/// ElasticMQ's settings.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Elasticmq {
    /// Whether there is one at all.
    pub enabled: bool,
    /// Its port on loopback.
    pub port: u16,
    /// Queues that are made.
    pub queues: Vec<Queue>,
    /// Another image, for the docker runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Default for Elasticmq {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 9324,
            queues: vec![Queue {
                name: "jobs".into(),
                dead_letters: Some("jobs-dlq".into()),
                max_receives: default_receives(),
            }],
            image: None,
        }
    }
}

/// A queue that is made.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The queue that takes messages which were received too often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// How often a message is received before it goes there.
    #[serde(default = "default_receives")]
    pub max_receives: u32,
}

fn default_receives() -> u32 {
    3
}

/// What flags and environment say; each is `None` where they say nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amendments {
    /// Where the services run.
    pub runtime: Option<RuntimeChoice>,
    /// PostgreSQL's port.
    pub postgresql_port: Option<u16>,
    /// MinIO's port.
    pub minio_port: Option<u16>,
    /// The port of MinIO's console.
    pub minio_console_port: Option<u16>,
    /// Redis's port.
    pub redis_port: Option<u16>,
    /// ElasticMQ's port.
    pub elasticmq_port: Option<u16>,
    /// The collector's port.
    pub api_port: Option<u16>,
}

impl Settings {
    /// Reads a file; `None` where there is none.
    ///
    /// # Errors
    /// With line and column when the file cannot be understood.
    pub fn load(path: &Path) -> Result<Option<Self>, SettingsError> {
        let fail = |what: String| SettingsError {
            place: path.display().to_string(),
            what,
        };
        let Some(text) = store::read(path).map_err(|error| fail(format!("{error:#}")))? else {
            return Ok(None);
        };
        let settings: Self =
            serde_saphyr::from_str(&text).map_err(|error| fail(error.to_string()))?;
        settings.check().map_err(fail)?;
        Ok(Some(settings))
    }

    /// Puts amendments on top.
    ///
    /// # Errors
    /// When the outcome makes no sense, such as one port for two services.
    pub fn amended(mut self, by: &Amendments) -> Result<Self, SettingsError> {
        let services = &mut self.services;
        let set = |port: &mut u16, to: Option<u16>| *port = to.unwrap_or(*port);
        set(&mut services.postgresql.port, by.postgresql_port);
        set(&mut services.minio.port, by.minio_port);
        set(&mut services.minio.console_port, by.minio_console_port);
        set(&mut services.redis.port, by.redis_port);
        set(&mut services.elasticmq.port, by.elasticmq_port);
        set(&mut self.api.port, by.api_port);
        self.runtime = by.runtime.unwrap_or(self.runtime);
        self.check().map_err(|what| SettingsError {
            place: "settings".into(),
            what,
        })?;
        Ok(self)
    }

    /// The settings as YAML.
    ///
    /// # Errors
    /// When they cannot be written so.
    pub fn yaml(&self) -> anyhow::Result<String> {
        Ok(serde_saphyr::to_string(self)?)
    }

    /// The services that are wanted, in order.
    pub fn wanted(&self) -> Vec<Service> {
        Service::ALL
            .into_iter()
            .filter(|service| match service {
                Service::Postgresql | Service::Minio => true,
                Service::Redis => self.services.redis.enabled,
                Service::Elasticmq => self.services.elasticmq.enabled,
            })
            .collect()
    }

    /// The image of a service in the docker runtime.
    pub fn image(&self, service: Service) -> String {
        let of = &self.services;
        let named = match service {
            Service::Postgresql => &of.postgresql.image,
            Service::Minio => &of.minio.image,
            Service::Redis => &of.redis.image,
            Service::Elasticmq => &of.elasticmq.image,
        };
        named.clone().unwrap_or_else(|| service.image().to_owned())
    }

    fn check(&self) -> Result<(), String> {
        self.check_ports()?;
        let postgresql = &self.services.postgresql;
        for (key, name) in [
            ("user", &postgresql.user),
            ("database", &postgresql.database),
        ] {
            if name.is_empty() || name.len() > 63 || name.contains(['\0', '/', '@', ':']) {
                return Err(format!(
                    "services.postgresql.{key}: `{name}` is no name of 1 to 63 bytes without / @ and :"
                ));
            }
        }
        if self.services.minio.secret_key.expose().len() < 8 {
            return Err("services.minio.secret_key: MinIO wants 8 characters or more".into());
        }
        for bucket in &self.services.minio.buckets {
            if !bucket_name(bucket) {
                return Err(format!(
                    "services.minio.buckets: `{bucket}` is no bucket name (3 to 63 of a-z, 0-9, - and .)"
                ));
            }
        }
        for queue in &self.services.elasticmq.queues {
            for name in [Some(&queue.name), queue.dead_letters.as_ref()]
                .into_iter()
                .flatten()
            {
                if !queue_name(name) {
                    return Err(format!(
                        "services.elasticmq.queues: `{name}` is no queue name (1 to 80 of a-z, A-Z, 0-9, - and _)"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), String> {
        let mut taken = BTreeMap::from([(self.api.port, "api.port".to_owned())]);
        if self.api.port == 0 {
            return Err("api.port: 0 is no port that others can know".into());
        }
        for service in self.wanted() {
            for port in catalog::ports(service, self) {
                let key = format!("services.{}.{}", service.name(), port.key);
                if port.host == 0 {
                    return Err(format!("{key}: 0 is no port that others can know"));
                }
                if let Some(other) = taken.insert(port.host, key.clone()) {
                    return Err(format!(
                        "{key}: {} is the port of {other} already",
                        port.host
                    ));
                }
            }
        }
        Ok(())
    }
}

fn bucket_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(|c| plain(c) || c == '-' || c == '.')
        && name.starts_with(plain)
        && name.ends_with(plain)
}

fn queue_name(name: &str) -> bool {
    (1..=80).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::{Amendments, Settings};

    fn loaded(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = dir.path().join("services.yaml");
        std::fs::write(&path, text).expect("a file can be written");
        let settings = Settings::load(&path).map_err(|error| error.to_string())?;
        settings.ok_or_else(|| "no file".into())
    }

    #[test]
    fn defaults_are_the_documented_ones_and_survive_a_file() -> anyhow::Result<()> {
        let settings = Settings::default();
        let text = settings.yaml()?;
        insta::assert_snapshot!(text);
        assert_eq!(loaded(&text), Ok(settings));
        Ok(())
    }

    #[test]
    fn a_part_is_enough() {
        let settings = loaded("services:\n  redis: { port: 6380 }\n").expect("a part");
        assert_eq!(settings.services.redis.port, 6380);
        assert_eq!(settings.services.postgresql.port, 5432);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, place, what) in [
            ("services:\n  redis: { prot: 1 }\n", "services.yaml", "prot"),
            (
                "services:\n  redis: { port: many }\n",
                "services.yaml",
                "line 2",
            ),
            (
                "services:\n  redis: { port: 9000 }\n",
                "services.redis.port",
                "services.minio.port",
            ),
            (
                "services:\n  minio: { buckets: [A] }\n",
                "services.minio.buckets",
                "`A`",
            ),
        ] {
            let error = loaded(text).expect_err(text);
            assert!(error.contains(place) && error.contains(what), "{error}");
        }
    }

    #[test]
    fn amendments_are_checked_too() {
        let by = Amendments {
            redis_port: Some(5432),
            ..Amendments::default()
        };
        let error = Settings::default()
            .amended(&by)
            .expect_err("one port for two");
        assert!(
            error.to_string().contains("services.postgresql.port"),
            "{error}"
        );
    }
}
