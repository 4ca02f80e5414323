//! k3d's command line: which commands are run, and what is read of its answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::cluster::host::command::run_within;
use crate::cluster::kind::Row;
use crate::programs::Programs;

/// k3d waits for its servers itself, and pulls images before that.
const LONG: Duration = Duration::from_secs(600);
/// Everything else.
const SHORT: Duration = Duration::from_secs(60);
/// Without it k3d would write into the user's kubeconfig, and choose a context in there.
const LEAVE_KUBECONFIG: [&str; 2] = [
    "--kubeconfig-update-default=false",
    "--kubeconfig-switch-context=false",
];

/// The program.
#[derive(Clone, Debug)]
pub struct K3d {
    program: PathBuf,
}

/// A cluster as k3d lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
struct Node {
    name: String,
    #[serde(default, rename = "State")]
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    status: String,
}

impl K3d {
    /// The one of this machine.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(programs: &Programs) -> Result<Self> {
        let install = "see https://k3d.io, or use --cluster host";
        let program = programs.find("k3d", install)?;
        Ok(Self { program })
    }

    async fn run(&self, limit: Duration, args: &[&str]) -> Result<String> {
        run_within(limit, &self.program, args).await
    }

    /// The cluster of that name, if there is one.
    ///
    /// # Errors
    /// When k3d fails, or answers otherwise than we know it.
    pub async fn look(&self, name: &str) -> Result<Option<Listed>> {
        let args = ["cluster", "list", "--output", "json"];
        read(&self.run(SHORT, &args).await?, name)
    }

    /// Makes a cluster by a configuration file, and waits for its servers.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn create(&self, config: &Path) -> Result<()> {
        let config = config.display().to_string();
        let args = [
            &["cluster", "create", "--config", &config][..],
            &LEAVE_KUBECONFIG,
        ]
        .concat();
        self.run(LONG, &args).await.map(drop)
    }

    /// Starts one that was stopped.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn start(&self, name: &str) -> Result<()> {
        let args = ["cluster", "start", name, "--wait"];
        self.run(LONG, &args).await.map(drop)
    }

    /// Stops one.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn stop(&self, name: &str) -> Result<()> {
        let args = ["cluster", "stop", name];
        self.run(LONG, &args).await.map(drop)
    }

    /// Removes one.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let args = ["cluster", "delete", name];
        self.run(LONG, &args).await.map(drop)
    }

    /// Its administrator's kubeconfig.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn kubeconfig(&self, name: &str) -> Result<String> {
        self.run(SHORT, &["kubeconfig", "get", name]).await
    }

    /// Brings the images of an archive to its nodes.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn import(&self, archive: &Path, name: &str) -> Result<()> {
        let archive = archive.display().to_string();
        // Straight to the nodes: without a container of tools, whose image would have to be pulled.
        let args = [
            "image",
            "import",
            &archive,
            "--cluster",
            name,
            "--mode",
            "direct",
        ];
        self.run(LONG, &args).await.map(drop)
    }
}

fn read(answer: &str, name: &str) -> Result<Option<Listed>> {
    let all: Vec<Listed> =
        serde_json::from_str(answer).context("`k3d cluster list` answers otherwise than known")?;
    Ok(all.into_iter().find(|one| one.name == name))
}

impl Listed {
    /// Whether all of its nodes run.
    pub fn runs(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|node| node.state.running)
    }

    /// A line for each node.
    pub fn rows(&self) -> Vec<Row> {
        let row = |node: &Node| match node.state.running {
            true => Row::new(&node.name, "running", None),
            false => Row::new(
                &node.name,
                "stopped",
                Some(format!("its container is {}", node.state.status)),
            ),
        };
        self.nodes.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As k3d 5 writes it; what we do not read is left out.
    const LIST: &str = r#"[
        { "name": "other", "nodes": [{ "name": "k3d-other-server-0", "role": "server", "State": { "Running": true, "Status": "running" } }] },
        { "name": "comind-ops-dev", "nodes": [
            { "name": "k3d-comind-ops-dev-server-0", "role": "server", "runtimeLabels": { "k3d.role": "server" }, "State": { "Running": true, "Status": "running", "Started": "" } },
            { "name": "k3d-comind-ops-dev-agent-0", "role": "agent", "State": { "Running": false, "Status": "exited" } } ] }
    ]"#;

    #[test]
    fn a_cluster_is_read_by_its_name() -> Result<()> {
        assert_eq!(read("[]", "a")?, None);
        let theirs = read(LIST, "other")?.context("it is listed")?;
        assert!(theirs.runs());
        let ours = read(LIST, "comind-ops-dev")?.context("it is listed")?;
        assert!(!ours.runs());
        let rows = ours.rows();
        assert_eq!(rows[1].reason.as_deref(), Some("its container is exited"));
        assert!(read("no", "a").is_err());
        Ok(())
    }
}
