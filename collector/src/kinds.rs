//! The kinds of service that can be watched: one line each.
//! Must not know what a kind does; its file in `probe/` does.

pub mod document;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::config::node::{Node, NodeError};
use crate::probe::{
    Probe, argocd, dns, docker, elasticmq, http, kubernetes, minio, postgresql, redis, tcp, tls,
};

/// Every kind. A new one is its file in `probe/` and a line here.
pub const KINDS: &[Kind] = &[
    postgresql::KIND,
    minio::KIND,
    redis::KIND,
    elasticmq::KIND,
    argocd::KIND,
    kubernetes::KIND,
    docker::KIND,
    http::KIND,
    tcp::KIND,
    tls::KIND,
    dns::KIND,
];

/// A number that a kind's looks learn, exported as `comind_KIND_NAME`.
#[derive(Debug)]
pub struct FactMetric {
    /// The fact's name without its label; also the metric's, behind `comind_KIND_`.
    pub name: &'static str,
    /// One sentence for the metric's help.
    pub help: &'static str,
}

/// What the config section of a kind brings with it.
pub trait Settings: DeserializeOwned + JsonSchema {
    /// The word in `kind:`.
    const NAME: &'static str;
    /// One sentence: what is checked.
    const ABOUT: &'static str;
    /// The numeric facts that become metrics.
    const METRICS: &'static [FactMetric];

    /// Makes the probe; an error says which setting is wrong and how to mend it.
    fn build(self) -> Result<Box<dyn Probe>, String>;
}

/// A kind of service.
pub struct Kind {
    /// The word in `kind:`.
    pub name: &'static str,
    /// One sentence: what is checked.
    pub about: &'static str,
    /// The numeric facts that become metrics.
    pub metrics: &'static [FactMetric],
    /// JSON Schema of its own settings.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Makes the probe from its own settings.
    pub build: fn(&Node) -> Result<Box<dyn Probe>, NodeError>,
}

impl Kind {
    /// The kind whose settings are `S`.
    pub const fn of<S: Settings>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            metrics: S::METRICS,
            schema: |generator| S::json_schema(generator),
            build: |node| {
                node.read::<S>()?
                    .build()
                    .map_err(|problem| node.error(problem))
            },
        }
    }
}

/// The kind with this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}
