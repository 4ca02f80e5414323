//! What the services are, as data: names, images, ports, what must exist in them.
//!
//! Must not know how anything is started.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::services::settings::{Queue, Settings};

/// One of the services.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The database.
    Postgresql,
    /// Object storage.
    Minio,
    /// The cache.
    Redis,
    /// Queues.
    Elasticmq,
}

impl Service {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Postgresql, Self::Minio, Self::Redis, Self::Elasticmq];

    /// Its name, as in settings, targets and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Minio => "minio",
            Self::Redis => "redis",
            Self::Elasticmq => "elasticmq",
        }
    }

    /// The service of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// Whether nothing works without it.
    pub fn required(self) -> bool {
        matches!(self, Self::Postgresql | Self::Minio)
    }

    /// The container's name.
    pub fn container(self) -> &'static str {
        match self {
            Self::Postgresql => "comind-ops-postgres",
            Self::Minio => "comind-ops-minio",
            Self::Redis => "comind-ops-redis",
            Self::Elasticmq => "comind-ops-elasticmq",
        }
    }

    /// The volume that keeps what the container writes.
    pub fn volume(self) -> &'static str {
        match self {
            Self::Postgresql => "comind-ops-postgres-data",
            Self::Minio => "comind-ops-minio-data",
            Self::Redis => "comind-ops-redis-data",
            Self::Elasticmq => "comind-ops-elasticmq-data",
        }
    }

    /// The image, unless settings name another one (a mirror, or one pinned by digest).
    pub fn image(self) -> &'static str {
        match self {
            Self::Postgresql => "postgres:16.9-alpine",
            Self::Minio => "minio/minio:RELEASE.2025-04-22T22-12-26Z",
            Self::Redis => "redis:7.4.3-alpine",
            // Not the -native one: messages on disk need Java's database drivers.
            Self::Elasticmq => "softwaremill/elasticmq:1.6.12",
        }
    }

    /// How long its start may take, until it answers. A first start also makes its files.
    pub fn start_limit(self) -> Duration {
        match self {
            Self::Postgresql | Self::Minio => Duration::from_secs(90),
            Self::Redis | Self::Elasticmq => Duration::from_secs(60),
        }
    }

    /// How long it may take to end before it is killed.
    pub fn stop_grace(self) -> Duration {
        match self {
            Self::Postgresql => Duration::from_secs(30),
            Self::Minio | Self::Redis | Self::Elasticmq => Duration::from_secs(10),
        }
    }
}

/// A port that people and programs connect to, on loopback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Port {
    /// What it is for, as in the settings' key.
    pub key: &'static str,
    /// On this machine.
    pub host: u16,
    /// Inside a container.
    pub container: u16,
}

/// The ports of a service; the first one is the service itself.
pub fn ports(service: Service, settings: &Settings) -> Vec<Port> {
    let of = &settings.services;
    let port = |key, host, container| Port {
        key,
        host,
        container,
    };
    match service {
        Service::Postgresql => vec![port("port", of.postgresql.port, 5432)],
        Service::Minio => vec![
            port("port", of.minio.port, 9000),
            port("console_port", of.minio.console_port, 9001),
        ],
        Service::Redis => vec![port("port", of.redis.port, 6379)],
        Service::Elasticmq => vec![port("port", of.elasticmq.port, 9324)],
    }
}

/// Where people reach the service: the console where there is one.
pub fn url(service: Service, settings: &Settings) -> String {
    let of = &settings.services;
    match service {
        Service::Postgresql => format!(
            "postgres://{}@127.0.0.1:{}/{}",
            of.postgresql.user, of.postgresql.port, of.postgresql.database
        ),
        Service::Minio => format!("http://127.0.0.1:{}", of.minio.console_port),
        Service::Redis => format!("redis://127.0.0.1:{}", of.redis.port),
        Service::Elasticmq => format!("http://127.0.0.1:{}", of.elasticmq.port),
    }
}

/// Something that must exist inside a service once it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Creation {
    /// A database.
    Database(String),
    /// A bucket.
    Bucket(String),
    /// A queue, with the one for its dead letters.
    Queue(Queue),
}

/// What must exist inside a service once it runs.
pub fn creations(service: Service, settings: &Settings) -> Vec<Creation> {
    let of = &settings.services;
    match service {
        Service::Postgresql => vec![Creation::Database(of.postgresql.database.clone())],
        Service::Minio => of
            .minio
            .buckets
            .iter()
            .cloned()
            .map(Creation::Bucket)
            .collect(),
        Service::Redis => Vec::new(),
        Service::Elasticmq => of
            .elasticmq
            .queues
            .iter()
            .cloned()
            .map(Creation::Queue)
            .collect(),
    }
}
