//! `comind-ops probe KIND URL`: one look at one target.

use std::time::Duration;

use anyhow::{Result, anyhow};
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
    /// How long the look may take, in milliseconds
    #[arg(long, default_value_t = 5000, value_name = "MS")]
    timeout_ms: u64,
}

impl Probe {
    /// Looks once; whether the target is up.
    pub(crate) async fn run(self, out: &Output) -> Result<bool> {
        let limit = Duration::from_millis(self.timeout_ms);
        let report = once::look(&self.kind, &self.url, limit)
            .await
            .map_err(|error| anyhow!("{error}"))?;
        out.answer(&format!("{report}\n"), &serde_json::to_value(&report)?)?;
        Ok(report.up())
    }
}
