//! A running `comind-ops access` before the service `web`, as a test asks it.

use anyhow::{Context as _, Result, bail, ensure};
use comind_peers::http::send;
use comind_peers::port::Port;
use comind_peers::process::{Launch, Process};
use comind_peers::wait::wait_for;
use serde_json::Value;

use super::cluster::Cluster;
use super::{PATIENCE, for_host};
use crate::serve::PROGRAM;

pub(super) struct Access {
    pub(super) port: Port,
    pub(super) process: Process,
}

impl Access {
    /// `ingress` is what the program is told to be one. `more` are further arguments, and `env` is
    /// for its process alone.
    pub(super) fn start(
        cluster: &Cluster,
        ingress: &Port,
        more: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let port = Port::free()?;
        let dir = cluster.ops.dir().join(format!("access-{}", port.number()));
        std::fs::create_dir_all(&dir)?;
        let mut launch = Launch::new(PROGRAM.into(), &dir)
            .args(["access", "web=default/web:http", "gone=default/gone:80"])
            .arg("--kubeconfig")
            .arg(cluster.admin())
            .args(["--context", &cluster.name()])
            .args(["--ingress", &ingress.addr().to_string()])
            .args(["--port", &port.number().to_string()])
            .args(more)
            .env("COMIND_HOME", cluster.ops.home().display().to_string())
            .env("NO_COLOR", "1");
        for (name, value) in env {
            launch = launch.env(name, *value);
        }
        Ok(Self {
            process: Process::spawn(&launch)?,
            port,
        })
    }

    /// What its start page says of a service.
    pub(super) async fn row(&self, name: &str) -> Result<Value> {
        let answer = send(self.port.addr(), for_host("/state.json", "localhost")?).await?;
        let board: Value = serde_json::from_slice(answer.body())?;
        let rows = board["rows"].as_array().context("no rows")?;
        let row = rows.iter().find(|row| row["name"] == name);
        Ok(row
            .with_context(|| format!("no {name} in {board}"))?
            .clone())
    }

    /// Waits until a service is reached so; returns why.
    pub(super) async fn until(&self, name: &str, way: &Value) -> Result<String> {
        let what = format!("{name} by {way}");
        let waited = wait_for(&what, PATIENCE, async || {
            let row = self.row(name).await?;
            let why = row["why"].as_str().unwrap_or_default();
            if row["way"] == *way && !why.contains("not looked at") && !why.contains("looked for") {
                return Ok(why.to_owned());
            }
            bail!("{row}")
        });
        waited.await.with_context(|| self.process.log_tail())
    }

    /// Who has answered: the header that the ingress sets.
    pub(super) async fn by(&self) -> Result<Option<String>> {
        let answer = send(self.port.addr(), for_host("/count", "web.localhost")?).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let by = answer.headers().get("x-by");
        Ok(by.map(|by| by.to_str().map(str::to_owned)).transpose()?)
    }
}
