//! k3d's command line: which commands are run, and what is read of its answers.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use crate::cluster::host::command::run_with;
use crate::cluster::kind::Row;
use crate::lock::Lock;
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
    #[serde(default)]
    role: String,
    #[serde(default, rename = "State")]
    state: State,
}

/// What Docker says of a container. One that ends again and again is `running` there, so that only the
/// status tells.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    status: String,
}

#[derive(Deserialize)]
struct Version {
    k3d: String,
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
        self.run_with(Stdio::null(), limit, args).await
    }

    async fn run_with(&self, input: Stdio, limit: Duration, args: &[&str]) -> Result<String> {
        let done = run_with(input, limit, &self.program, args).await;
        done.map_err(|error| anyhow!("{}", plain(&format!("{error:#}"))))
    }

    /// The image of the container by which it looks around before it makes or starts a cluster.
    ///
    /// # Errors
    /// When k3d fails, or answers otherwise than we know it.
    pub async fn tools_image(&self) -> Result<String> {
        let set = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        if let Some(image) = set("K3D_IMAGE_TOOLS") {
            return Ok(image);
        }
        let tag = match set("K3D_HELPER_IMAGE_TAG") {
            Some(tag) => tag,
            None => version(&self.run(SHORT, &["version", "--output", "json"]).await?)?,
        };
        Ok(format!("ghcr.io/k3d-io/k3d-tools:{tag}"))
    }

    /// The cluster of that name, if there is one.
    ///
    /// # Errors
    /// When k3d fails, or answers otherwise than we know it.
    pub async fn look(&self, name: &str) -> Result<Option<Listed>> {
        let args = ["cluster", "list", "--output", "json"];
        read(&self.run(SHORT, &args).await?, name)
    }

    /// Makes a cluster by a configuration file, and waits for its servers. k3d holds the lock for as
    /// long as it is at it, whatever becomes of us.
    ///
    /// # Errors
    /// When k3d fails, with its words.
    pub async fn create(&self, config: &Path, lock: &Lock) -> Result<()> {
        let config = config.display().to_string();
        let args = [
            &["cluster", "create", "--config", &config][..],
            &LEAVE_KUBECONFIG,
        ]
        .concat();
        self.run_with(lock.shared()?, LONG, &args).await.map(drop)
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
        // Straight to the nodes, and not through a volume.
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

/// k3d colours its words whoever reads them.
fn plain(words: &str) -> String {
    let mut pieces = words.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        all + piece.split_once('m').map_or(piece, |(_, rest)| rest)
    })
}

fn version(answer: &str) -> Result<String> {
    let version: Version =
        serde_json::from_str(answer).context("`k3d version` answers otherwise than known")?;
    Ok(version.k3d.trim_start_matches('v').to_owned())
}

fn read(answer: &str, name: &str) -> Result<Option<Listed>> {
    let all: Vec<Listed> =
        serde_json::from_str(answer).context("`k3d cluster list` answers otherwise than known")?;
    Ok(all.into_iter().find(|one| one.name == name))
}

impl Listed {
    /// Whether all of its nodes run.
    pub fn runs(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(Node::runs)
    }

    /// Whether it has as many nodes as are wanted: a server and its agents.
    pub fn has(&self, agents: u32) -> bool {
        let of = |role: &str| self.nodes.iter().filter(|node| node.role == role).count();
        of("server") == 1 && u32::try_from(of("agent")).is_ok_and(|there| there == agents)
    }

    /// A line for each node.
    pub fn rows(&self) -> Vec<Row> {
        let row = |node: &Node| match node.runs() {
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

impl Node {
    fn runs(&self) -> bool {
        self.state.status == "running"
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
            { "name": "k3d-comind-ops-dev-agent-0", "role": "agent", "State": { "Running": true, "Status": "restarting" } } ] }
    ]"#;

    #[test]
    fn a_cluster_is_read_by_its_name() -> Result<()> {
        assert_eq!(read("[]", "a")?, None);
        let theirs = read(LIST, "other")?.context("it is listed")?;
        assert!(theirs.runs());
        let ours = read(LIST, "comind-ops-dev")?.context("it is listed")?;
        assert!(!ours.runs());
        let rows = ours.rows();
        let reason = rows[1].reason.as_deref();
        assert_eq!(reason, Some("its container is restarting"));
        assert!(ours.has(1) && !ours.has(0) && !ours.has(2));
        assert!(read("no", "a").is_err());
        Ok(())
    }

    #[test]
    fn its_words_are_without_colours_and_its_version_is_that_of_its_images() -> Result<()> {
        let said = "failed: \u{1b}[31mERRO\u{1b}[0m[0001] no\n\u{1b}[31mFATA\u{1b}[0m[0001] over";
        assert_eq!(plain(said), "failed: ERRO[0001] no\nFATA[0001] over");
        assert_eq!(version(r#"{"k3d":"v5.9.0","k3s":"v1.35"}"#)?, "5.9.0");
        Ok(())
    }
}
