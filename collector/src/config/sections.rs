//! The sections of the config but `targets`: their keys, their defaults, their words in the schema.
//! Must not know how they are read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use comind_model::thresholds::Thresholds;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::access::{RateLimit, Tls, Token};
use super::duration::Span;
use super::suggest::shown;
use super::target::Schedule;
use crate::secret::Secret;

/// The top-level keys.
pub(super) const KEYS: &[&str] = &[
    "api",
    "compat_metrics",
    "data_dir",
    "defaults",
    "discovery",
    "history",
    "maintenance",
    "notify",
    "probe",
    "proxy",
    "targets",
];

/// What to tell who listens beyond this machine without TLS and a login; what is missing follows.
pub(super) const OPEN_TO_ALL: &str = "`api.listen` is not a loopback address, and ";

/// Where the API, the page and the metrics are served.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address and port. Beyond loopback it wants `tls` and a login.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String", extend("examples" = ["127.0.0.1:9600"]))]
    pub listen: SocketAddr,
    /// With which certificate TLS is spoken; plain HTTP without it.
    pub tls: Option<Tls>,
    /// Names with the bcrypt or argon2 hashes of their passwords; `comind-ops hash-password`
    /// makes them. With a user or a token, nothing but the health is told without login.
    pub users: BTreeMap<String, Secret>,
    /// Bearer tokens.
    pub tokens: Vec<Token>,
    /// Names of users and tokens that may look and change nothing: no maintenance, no end of sessions.
    pub read_only: Vec<String>,
    /// TLS, users, headers and limits in the form of Prometheus' web config file, in place of
    /// `tls` and `users`.
    pub web_config_file: Option<PathBuf>,
    /// `/livez` and `/readyz` are answered without login, as kubelets need it.
    pub open_health: bool,
    /// How often one client may ask; then it is answered 429.
    pub rate_limit: RateLimit,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9600)),
            tls: None,
            users: BTreeMap::new(),
            tokens: Vec::new(),
            read_only: Vec::new(),
            web_config_file: None,
            open_health: true,
            rate_limit: RateLimit::default(),
        }
    }
}

/// What holds for every target that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Time between looks.
    pub interval: Span,
    /// How long a look may take.
    pub timeout: Span,
    /// Time between deep looks, which do the target's real work.
    pub deep_interval: Span,
    /// How long a deep look may take.
    pub deep_timeout: Span,
    /// How often a held connection is asked for a sign of life.
    pub heartbeat: Span,
    /// How many looks make a verdict.
    pub thresholds: Thresholds,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            interval: Span(Duration::from_secs(5)),
            timeout: Span(Duration::from_secs(1)),
            deep_interval: Span(Duration::from_secs(30)),
            deep_timeout: Span(Duration::from_secs(5)),
            heartbeat: Span(Duration::from_secs(1)),
            thresholds: Thresholds::default(),
        }
    }
}

impl Defaults {
    /// The schedule of a target that says nothing about it.
    pub(super) fn schedule(&self) -> Schedule {
        Schedule {
            interval: self.interval,
            timeout: self.timeout,
            deep_interval: self.deep_interval,
            deep_timeout: self.deep_timeout,
            heartbeat: self.heartbeat,
            thresholds: self.thresholds,
        }
    }
}

/// An address with its port, or what to write instead.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let shown = shown(&text);
        D::Error::custom(format!(
            "`{shown}` is no address; write IP:PORT such as 127.0.0.1:9600, or [::1]:9600"
        ))
    })
}
