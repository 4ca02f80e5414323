//! A platform of one environment, or only its cluster: a home of its own, and all that was made
//! gone with the test.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use comind_peers::tool::Tool;
use tokio::process::Command;

use crate::ops::{Done, Ops, finish};

const KUBECTL: Tool = Tool::built("kubectl");

/// One of them.
pub(crate) struct PlatformOf {
    pub(crate) ops: Ops,
    env: &'static str,
    /// Held until all that was made is gone.
    _turn: File,
}

impl PlatformOf {
    /// An environment's name is the machine's: tests that have the same one take turns.
    pub(crate) fn new(env: &'static str) -> Result<Self> {
        let turn = File::create(std::env::temp_dir().join(format!("comind-ops-test-{env}.lock")))?;
        turn.lock()?;
        let mut ops = Ops::new("host", &[("ENV", env)])?;
        let users = ops.dir().join("users-kubeconfig");
        ops.set("KUBECONFIG", &users.display().to_string());
        Ok(Self {
            ops,
            env,
            _turn: turn,
        })
    }

    /// The name of its cluster.
    pub(crate) fn name(&self) -> String {
        format!("comind-ops-{}", self.env)
    }

    /// What its cluster keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.ops.home().join(format!("data/cluster-{}", self.env))
    }

    /// The user's kubeconfig, as the program believes.
    pub(crate) fn users(&self) -> PathBuf {
        self.ops.dir().join("users-kubeconfig")
    }

    /// kubectl as its user has it, with this on its standard input.
    pub(crate) async fn kubectl(&self, args: &[&str], input: &str) -> Result<Done> {
        let file = self.ops.dir().join("input.yaml");
        std::fs::write(&file, input)?;
        let mut command = Command::new(KUBECTL.find()?);
        command
            .args(["--context", &self.name()])
            .args(args)
            .env("KUBECONFIG", self.users())
            .stdin(std::fs::File::open(&file)?);
        finish(command).await
    }

    /// What kubectl answers, which has to succeed.
    pub(crate) async fn ask(&self, args: &[&str]) -> Result<String> {
        let done = self.kubectl(args, "").await?;
        ensure!(done.code == 0, "kubectl {args:?}: {}", done.said());
        Ok(done.out)
    }

    /// How many changes its administrator has made, by the API server's own account.
    pub(crate) fn writes(&self) -> Result<usize> {
        let audit = std::fs::read_to_string(self.data().join("audit.log"))?;
        Ok(audit.matches("\"username\":\"comind-ops-admin\"").count())
    }
}
