//! A cluster with a service `web`: two pods of a real web server, the machine's own Node.js.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use comind_peers::node;
use comind_peers::wait::wait_for;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::ops::{START, pid};
use crate::platform_of::PlatformOf;

pub(super) struct Cluster(PlatformOf);

impl std::ops::Deref for Cluster {
    type Target = PlatformOf;

    fn deref(&self) -> &PlatformOf {
        &self.0
    }
}

impl Cluster {
    pub(super) async fn create() -> Result<Self> {
        let this = Self(PlatformOf::new("qa")?);
        this.ops.good(&["cluster", "create"]).await?;
        this.apply(&node::service(&this.image().await?, 2)).await?;
        this.rolled_out().await?;
        Ok(this)
    }

    /// The administrator's kubeconfig.
    pub(super) fn admin(&self) -> PathBuf {
        self.data().join("config/admin.kubeconfig")
    }

    pub(super) async fn apply(&self, objects: &Value) -> Result<()> {
        let done = self
            .kubectl(&["apply", "-f", "-"], &objects.to_string())
            .await?;
        ensure!(done.code == 0, "{}", done.said());
        Ok(())
    }

    pub(super) async fn rolled_out(&self) -> Result<()> {
        let rollout = ["rollout", "status", "deployment/web", "--timeout=120s"];
        self.ask(&rollout).await.map(drop)
    }

    pub(super) async fn pods(&self) -> Result<Vec<String>> {
        let list = [
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ];
        let names = self.ask(&list).await?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    pub(super) async fn row(&self, component: &str) -> Result<Value> {
        let done = self.ops.run(&["--json", "cluster", "status"]).await?;
        let status: Value = serde_json::from_str(&done.out)?;
        let rows = status["components"].as_array().context("no components")?;
        let row = rows.iter().find(|row| row["component"] == component);
        Ok(row
            .with_context(|| format!("no {component} in {status}"))?
            .clone())
    }

    /// Kills the API server; it is another process after that, once `another_api_server` returns.
    pub(super) async fn kill_api_server(&self) -> Result<Value> {
        let before = self.row("apiserver").await?;
        kill_process(pid(&before)?, Signal::KILL)?;
        Ok(before)
    }

    pub(super) async fn another_api_server(&self, before: &Value) -> Result<()> {
        wait_for("another API server", START, async || {
            let row = self.row("apiserver").await?;
            if row["state"] == "running" && row["pid"] != before["pid"] {
                return Ok(());
            }
            bail!("{row}")
        })
        .await
    }

    async fn image(&self) -> Result<String> {
        let name = self.name();
        let images = [
            "get",
            "node",
            &name,
            "-o",
            "jsonpath={.status.images[*].names[*]}",
        ];
        let images = self.ask(&images).await?;
        let found = images
            .split_whitespace()
            .find(|name| name.contains("busybox") && !name.contains('@'));
        Ok(found
            .with_context(|| format!("not among {images}"))?
            .to_owned())
    }
}
