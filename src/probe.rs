//! `comind-ops probe KIND URL`: one look at one target.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use comind_collector::once;

use crate::output::Output;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Probe {
    /// What it is: postgresql, minio, redis, elasticmq, http, tcp, tls or dns
    kind: String,
    /// Where it is, with user and password if it wants them
    url: String,
    /// Another setting of the target, as in a configuration
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
    /// A setting whose value is in an environment variable, as secrets should be
    #[arg(long = "set-env", value_name = "KEY=NAME", value_parser = pair)]
    settings_env: Vec<(String, String)>,
    /// How long the look may take, in milliseconds
    #[arg(long, default_value_t = 5000, value_name = "MS")]
    timeout_ms: u64,
}

impl Probe {
    /// Looks once; whether the target is up.
    pub(crate) async fn run(self, out: &Output) -> Result<bool> {
        let limit = Duration::from_millis(self.timeout_ms);
        let mut settings = vec![("url", self.url.as_str())];
        settings.extend(self.settings.iter().map(|(key, value)| (&**key, &**value)));
        let mut secrets = Vec::new();
        for (key, name) in &self.settings_env {
            let value = std::env::var(name)
                .with_context(|| format!("--set-env {key}={name}: ${name} is not set"))?;
            secrets.push((key, value));
        }
        settings.extend(secrets.iter().map(|(key, value)| (key.as_str(), &**value)));
        let report = once::look_with(&self.kind, &settings, limit)
            .await
            .map_err(|error| anyhow!("{error}"))?;
        out.answer(&format!("{report}\n"), &serde_json::to_value(&report)?)?;
        Ok(report.up())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it has to look like KEY=VALUE".to_owned()),
    }
}
