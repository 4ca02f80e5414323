//! What the collector says about the targets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::services::http;

/// It is on this machine: it answers soon or not at all.
const LIMIT: Duration = Duration::from_secs(2);

/// `/api/v1/state`. More may be in there than is read here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct State {
    /// How the platform is.
    pub health: String,
    /// Each target.
    pub targets: Vec<Target>,
}

/// One target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Whether the platform is down without it.
    pub required: bool,
    /// How it is: up, degraded, down or unknown.
    pub health: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub advice: String,
    /// Since when.
    pub since: Timestamp,
    /// How long the last look took, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What was seen besides.
    #[serde(default)]
    pub facts: BTreeMap<String, Value>,
}

/// A collector.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
}

impl Client {
    /// The one that listens there. One that listens on all addresses is asked on loopback.
    pub fn at(mut listen: SocketAddr) -> Self {
        if listen.ip().is_unspecified() {
            listen.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        Self {
            base: format!("http://{listen}"),
        }
    }

    /// Its live page.
    pub fn page(&self) -> String {
        format!("{}/", self.base)
    }

    /// Its stream of events.
    pub fn events(&self) -> String {
        format!("{}/api/v1/events", self.base)
    }

    /// How everything is.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn state(&self) -> Result<State> {
        let url = format!("{}/api/v1/state", self.base);
        let answer = http::get(&url, LIMIT).await?;
        if !answer.status.is_success() {
            bail!("{url} answered {}", answer.status);
        }
        serde_json::from_str(&answer.body)
            .with_context(|| format!("{url} did not answer as a collector does"))
    }

    /// `Ok` once it has looked at every target, else what it waits for.
    ///
    /// # Errors
    /// With what it waits for, or that it does not answer.
    pub async fn ready(&self) -> Result<()> {
        let answer = http::get(&format!("{}/readyz", self.base), LIMIT).await?;
        if !answer.status.is_success() {
            bail!("{}", answer.body.trim());
        }
        Ok(())
    }
}
