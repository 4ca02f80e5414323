//! What an object of the cluster asks for: to be watched, and how. Plain values.
//! Must not know the Kubernetes API.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::secret::Secret;

/// Which kind of object asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A `Monitor`; where a Service asks under the same name, the Monitor is heard.
    Monitor,
    /// An annotated Service.
    Service,
}

impl Origin {
    /// A word for a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Service => "service",
        }
    }
}

/// Which object asks. They are heard in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// Its kind.
    pub origin: Origin,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Asker {
    /// The name of its target: as the DNS of a cluster has it, and so never that of a part.
    pub fn target(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            namespace,
            name,
        } = self;
        write!(f, "{} {namespace}/{name}", origin.as_str())
    }
}

/// A key of a Secret in the asker's own namespace.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What is asked for: the keys of a target in the config file, without its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// As the config file would have it.
    pub keys: Map<String, Value>,
    /// Further settings, and where they stand: `url`, `username`, `password`, or a kind's own key.
    pub secrets: BTreeMap<String, SecretKey>,
}

/// An object that asks, as it was last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// What it asks for; or why that cannot be understood.
    pub wish: Result<Wish, String>,
    /// What its Secrets held; or why they cannot be read.
    pub secrets: Result<BTreeMap<String, Secret>, String>,
    /// Which version of its wish this is (`metadata.generation`).
    pub generation: Option<i64>,
    /// When it was made, in seconds since the Unix epoch: the older is heard first.
    pub made: i64,
}
