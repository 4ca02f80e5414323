//! The platform's repository from outside: git's own program with the repository's login, where it has one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use tokio::process::Command;

use crate::platform::source::Login;
use crate::programs::Programs;
use crate::secret::Secret;

/// It is on this machine, and its files are few.
const LIMIT: Duration = Duration::from_secs(30);
const AUTHOR: [&str; 4] = [
    "-c",
    "user.name=comind-ops",
    "-c",
    "user.email=comind-ops@localhost",
];

/// The repository.
pub struct Repository {
    program: PathBuf,
    url: String,
    header: Option<Secret>,
}

impl Repository {
    /// At this URL, with this login where it wants one.
    ///
    /// # Errors
    /// When git is missing.
    pub fn new(programs: &Programs, url: String, login: Option<&Login>) -> Result<Self> {
        let header = login.map(|login| {
            let pair = format!("{}:{}", login.user, login.password.expose());
            let pair = base64::engine::general_purpose::STANDARD.encode(pair);
            Secret::new(format!("Authorization: Basic {pair}"))
        });
        Ok(Self {
            program: programs.find("git", "run `make setup-cluster`, or: apt-get install git")?,
            url,
            header,
        })
    }

    /// Runs git in a folder. The login is in its environment, which only its user can read.
    ///
    /// # Errors
    /// With git's own words when it fails or does not end.
    pub async fn git(&self, dir: &Path, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(header) = &self.header {
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env("GIT_CONFIG_VALUE_0", header.expose());
        }
        let what = args
            .iter()
            .find(|arg| !arg.starts_with('-') && !arg.contains('='));
        let what = what.copied().unwrap_or_default();
        let output = tokio::time::timeout(LIMIT, command.output())
            .await
            .with_context(|| format!("git {what} did not end within {} s", LIMIT.as_secs()))?
            .context("cannot run git")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("git {what} failed: {}", words.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The newest commit; nothing while nobody has pushed anything yet.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn head(&self) -> Result<Option<String>> {
        let dir = std::env::temp_dir();
        let heads = self.git(&dir, &["ls-remote", "--heads", &self.url]).await?;
        let main = heads
            .lines()
            .find_map(|line| line.strip_suffix("\trefs/heads/main"));
        Ok(main.map(str::to_owned))
    }

    /// A copy of it, in a folder that must not be there yet.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn clone_to(&self, dir: &Path) -> Result<()> {
        let to = dir.display().to_string();
        let parent = dir.parent().context("a folder has a parent")?;
        std::fs::create_dir_all(parent)?;
        self.git(parent, &["clone", "--quiet", &self.url, &to])
            .await?;
        Ok(())
    }

    /// Commits all that differs, and pushes it; gives the new revision.
    ///
    /// # Errors
    /// When nothing differs, or somebody was faster.
    pub async fn commit_and_push(&self, dir: &Path, message: &str) -> Result<String> {
        self.git(dir, &["add", "--all"]).await?;
        let message = format!("--message={message}");
        let commit = [&AUTHOR[..], &["commit", "--quiet", &message]].concat();
        self.git(dir, &commit).await?;
        self.git(dir, &["push", "--quiet", &self.url, "HEAD:main"])
            .await?;
        Ok(self
            .git(dir, &["rev-parse", "HEAD"])
            .await?
            .trim()
            .to_owned())
    }
}
