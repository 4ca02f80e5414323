//! A platform broken on purpose: each time bootstrap says why, and fails. And one that moves to a
//! repository of its users' own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::bootstrap::{GIT, git};
use crate::ops::{Ops, START};
use crate::platform_of::PlatformOf;

/// A copy of the platform's repository that may push.
pub(crate) struct Copy(PathBuf);

impl Copy {
    /// In a folder of this name.
    pub(crate) async fn of(platform: &PlatformOf, name: &str) -> Result<Self> {
        let login = platform.ops.good(&["--json", "gitops", "login"]).await?;
        let login: Value = serde_json::from_str(&login.out)?;
        let text = |key: &str| login["repository"][key].as_str().context("no login");
        let with_login = format!("http://{}:{}@", text("user")?, text("password")?);
        let url = text("url")?.replace("http://", &with_login);
        let dir = platform.ops.dir().join(name);
        let to = dir.display().to_string();
        let (cloned, said) = git(platform.ops.dir(), &["clone", "--quiet", &url, &to]).await?;
        ensure!(cloned, "{said}");
        Ok(Self(dir))
    }

    pub(crate) async fn push(&self, file: &str, text: &str) -> Result<()> {
        let file = self.0.join(file);
        std::fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
        std::fs::write(file, text)?;
        self.commit(&["add", "--all"]).await?;
        self.commit(&["commit", "--quiet", "--message=A change"])
            .await?;
        self.commit(&["push", "--quiet"]).await
    }

    pub(crate) async fn take_back(&self) -> Result<()> {
        self.commit(&["revert", "--no-edit", "HEAD"]).await?;
        self.commit(&["push", "--quiet"]).await
    }

    async fn commit(&self, args: &[&str]) -> Result<()> {
        let (done, said) = git(&self.0, args).await?;
        ensure!(done, "git {args:?}: {said}");
        Ok(())
    }
}

/// What is wrong in the repository is said by whoever suffers from it.
pub(crate) async fn in_the_repository(platform: &PlatformOf) -> Result<()> {
    let copy = Copy::of(platform, "broken").await?;
    for (file, text, says) in [
        (
            "environments/prod/redis.yaml",
            "image: { name: \"comind.local/redis:nowhere\" }\n",
            "ErrImageNeverPull",
        ),
        (
            "services/redis/templates/more.yaml",
            "apiVersion: example.org/v1\nkind: Nothing\nmetadata: { name: more }\n",
            "CRD",
        ),
        // It begins, and ends again and again: never healthy.
        (
            "environments/prod/redis.yaml",
            "maxmemory: plenty\n",
            "its last line: ",
        ),
    ] {
        copy.push(file, text).await?;
        broken(platform, says).await?;
        copy.take_back().await?;
        let well = platform.ops.run(&["bootstrap"]).await?;
        ensure!(well.code == 0, "{}", well.said());
    }
    Ok(())
}

/// What bootstrap says of the newest commit, which breaks the application redis. A crash may pass, so that
/// it is waited for; on a machine that has much else to do that may need longer than one run waits.
async fn broken(platform: &PlatformOf, says: &str) -> Result<()> {
    let mut said = String::new();
    for _ in 0..3 {
        let done = platform
            .ops
            .run(&["bootstrap", "--step-timeout", "40s"])
            .await?;
        said = done.said();
        ensure!(done.code == 1, "{said}");
        if done.err.contains(says) && done.err.contains("application redis") {
            return Ok(());
        }
    }
    bail!("in none of three runs `{says}`: {said}")
}

/// Before there is a cluster: no room, and no program of a service that is required.
pub(crate) async fn before_the_cluster(ops: &Ops) -> Result<()> {
    let empty = ops.dir().join("no-tools");
    std::fs::create_dir_all(&empty)?;
    let mut command = ops.command(&["bootstrap", "--until", "minio"]);
    command.env("COMIND_TOOLS", &empty);
    let lacking = crate::ops::finish(Command::from(command)).await?;
    ensure!(
        lacking.code == 1 && lacking.err.contains("make setup"),
        "{}",
        lacking.said()
    );
    let small = ops.dir().join("small");
    std::fs::create_dir_all(&small)?;
    let mounted = Mounted::tmpfs(&small, "8m").await?;
    let mut command = ops.command(&["bootstrap", "--until", "postgresql"]);
    command.env("COMIND_HOME", &small);
    let full = crate::ops::finish(Command::from(command)).await?;
    ensure!(
        full.code == 1 && full.err.contains("No space left"),
        "{}",
        full.said()
    );
    drop(mounted);
    Ok(())
}

/// A small file system, gone with this.
struct Mounted(PathBuf);

impl Mounted {
    async fn tmpfs(at: &Path, size: &str) -> Result<Self> {
        let mut command = Command::new("mount");
        command.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size},mode=755"),
            "tmpfs",
        ]);
        command.arg(at);
        let done = crate::ops::finish(command).await?;
        ensure!(done.code == 0, "{}", done.said());
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whatever runs in there may still write: it goes when that has ended.
        let lazily = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .status();
        drop(lazily);
    }
}

/// git's own server, at an address that pods reach; it ends with this.
struct Daemon {
    _process: Child,
    url: String,
    bare: PathBuf,
}

impl Daemon {
    async fn start(platform: &PlatformOf) -> Result<Self> {
        let base = platform.ops.dir().join("theirs");
        let bare = base.join("platform.git");
        std::fs::create_dir_all(&bare)?;
        let (made, said) = git(
            &bare,
            &["init", "--quiet", "--bare", "--initial-branch=main"],
        )
        .await?;
        ensure!(made, "{said}");
        // The gateway's address, where only the port has to be free.
        let port = Port::free()?.addr().port();
        // Not by `git daemon`, whose child would outlive it.
        let mut programs = Command::new(GIT.find()?);
        programs.arg("--exec-path");
        let programs = crate::ops::finish(programs).await?.out;
        let process = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--reuseaddr", "--export-all", "--enable=receive-pack"])
            .args(["--listen=10.231.3.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", base.display()))
            .arg(&base)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            _process: process,
            url: format!("git://10.231.3.1:{port}/platform.git"),
            bare,
        })
    }
}

/// The platform goes on from a repository of its users' own, which is filled, kept in mind and obeyed.
pub(crate) async fn a_repository_of_ones_own(platform: &PlatformOf) -> Result<()> {
    let ops = &platform.ops;
    let with_login = [
        "bootstrap",
        "--repo-url",
        "https://me:hidden@git.example.org/a.git",
    ];
    let refused = ops.run(&with_login).await?;
    ensure!(
        refused.code == 1
            && refused.err.contains("REPO_PASSWORD_FILE")
            && !refused.err.contains("hidden"),
        "{}",
        refused.said()
    );
    let daemon = Daemon::start(platform).await?;
    let moved = ops.good(&["bootstrap", "--repo-url", &daemon.url]).await?;
    ensure!(
        moved.err.contains("fill the empty repository"),
        "{}",
        moved.said()
    );
    let again = ops.good(&["bootstrap"]).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    let (there, said) = git(&daemon.bare, &["log", "--oneline", "main"]).await?;
    ensure!(there, "{said}");
    wait_for("all of it from there", START, async || {
        let urls = platform
            .ask(&[
                "-n",
                "argocd",
                "get",
                "applications",
                "-o",
                "jsonpath={.items[*].spec.source.repoURL}",
            ])
            .await?;
        ensure!(
            urls.split_whitespace().all(|url| url == daemon.url) && !urls.is_empty(),
            "{urls}"
        );
        Ok(())
    })
    .await?;
    let status = ops.run(&["gitops", "status"]).await?;
    ensure!(status.code == 0, "{}", status.said());
    Ok(())
}
