//! The platform from nothing: services, cluster, namespaces and Argo CD in one command; run again,
//! broken on purpose, and taken down.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::ops::{Ops, START};

const KUBECTL: Tool = Tool::built("kubectl");
const GIT: Tool = Tool::debian("git", "git");

struct Platform {
    ops: Ops,
}

impl Platform {
    fn new() -> Result<Self> {
        Ok(Self {
            ops: Ops::new("host", &[("ENV", "prod")])?,
        })
    }

    async fn kubectl(&self, args: &[&str], input: &str) -> Result<(bool, String)> {
        let kubeconfig = self
            .ops
            .home()
            .join("data/cluster-prod/config/admin.kubeconfig");
        let file = self.ops.dir().join("input.yaml");
        std::fs::write(&file, input)?;
        let output = Command::new(KUBECTL.find()?)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(args)
            .stdin(std::fs::File::open(&file)?)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    /// The API server's own account of what was changed by the administrator.
    fn writes(&self) -> Result<usize> {
        let audit = std::fs::read_to_string(self.ops.home().join("data/cluster-prod/audit.log"))?;
        Ok(audit.matches("\"username\":\"comind-ops-admin\"").count())
    }
}

const BOOTSTRAP: &[&str] = &["bootstrap", "--no-kubeconfig"];

fn pod(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: intruder, namespace: user-apps }}\nspec:\n  containers:\n    - {{ name: a, image: a, {more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_gitops_and_back() -> Result<()> {
    let platform = Platform::new()?;
    let ops = &platform.ops;

    // A port that is taken fails its step and what needs it, and says who has it.
    let port = ops.port("COMIND_POSTGRESQL_PORT")?;
    let taken = TcpListener::bind(("127.0.0.1", port)).await?;
    let failed = ops
        .run(&[BOOTSTRAP, &["--until", "postgresql"]].concat())
        .await?;
    ensure!(failed.code == 1, "{}", failed.said());
    ensure!(
        failed.err.contains(&port.to_string()) && failed.err.contains("pid"),
        "{}",
        failed.said()
    );
    drop(taken);

    // Two at once: one waits for the other, and says so.
    let mut first = ops.spawn(BOOTSTRAP)?;
    let held = ops.home().join("bootstrap-prod.jsonl");
    wait_for("the first run", START, async || {
        ensure!(std::fs::read_to_string(&held)?.matches("\"begun\"").count() > 1);
        Ok(())
    })
    .await?;
    let second = ops.good(BOOTSTRAP).await?;
    ensure!(second.err.contains("is at work here"), "{}", second.said());
    ensure!(
        second.err.contains("nothing was changed"),
        "{}",
        second.said()
    );
    ensure!(tokio::task::block_in_place(|| first.wait())?.success());

    let before = platform.writes()?;
    let again = ops.good(&[&["--json"], BOOTSTRAP].concat()).await?;
    let outcome = again
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let outcome = outcome.into_iter().find(|one| one["outcome"].is_object());
    let outcome = outcome.with_context(|| again.said())?;
    ensure!(
        outcome["outcome"]["changed"] == serde_json::json!({}),
        "{outcome}"
    );
    let plan = ops.run(&[BOOTSTRAP, &["--plan"]].concat()).await?;
    ensure!(plan.code == 0, "{}", plan.said());
    ensure!(platform.writes()? == before, "it wrote something");

    namespaces_are_closed(&platform).await?;
    a_push_is_followed(&platform).await?;
    what_is_wrong_is_said(&platform).await?;

    ops.good(&["destroy", "--yes"]).await?;
    ensure!(ops.home().join("data/postgresql").exists(), "data is kept");
    ensure!(!ops.home().join("data/cluster-prod").exists());
    ops.good(&["destroy", "--yes", "--volumes"]).await?;
    ensure!(!ops.home().join("data/postgresql").exists());
    Ok(())
}

async fn namespaces_are_closed(platform: &Platform) -> Result<()> {
    let (made, said) = platform
        .kubectl(
            &["apply", "-f", "-"],
            &pod("securityContext: { privileged: true }"),
        )
        .await?;
    ensure!(
        !made && said.contains("violates PodSecurity \"restricted"),
        "{said}"
    );
    let (_, quota) = platform
        .kubectl(
            &[
                "-n",
                "user-apps",
                "get",
                "resourcequota",
                "comind-ops",
                "-o",
                "jsonpath={.status.hard.pods}",
            ],
            "",
        )
        .await?;
    ensure!(quota == "100", "{quota}");
    let who = [
        "--as=someone",
        "--as-group=comind:app-deployers",
        "auth",
        "can-i",
    ];
    for (args, may) in [
        (["create", "deployments.apps", "-n", "user-apps"], true),
        (["get", "secrets", "-n", "user-apps"], false),
        (["create", "deployments.apps", "-n", "argocd"], false),
    ] {
        let (allowed, said) = platform.kubectl(&[&who[..], &args].concat(), "").await?;
        ensure!(allowed == may, "{args:?}: {said}");
    }
    Ok(())
}

/// A commit counts a moment after it was pushed, and is taken back as quickly; what somebody deletes
/// comes back; without a login there is nothing, and history is not rewritten.
async fn a_push_is_followed(platform: &Platform) -> Result<()> {
    let status = platform.ops.good(&["gitops", "status"]).await?;
    ensure!(
        status.out.matches("Healthy").count() == 2,
        "{}",
        status.said()
    );
    let login = platform.ops.good(&["--json", "gitops", "login"]).await?;
    let login: Value = serde_json::from_str(&login.out)?;
    let text = |key: &str| login["repository"][key].as_str().context("no login");
    let (url, user, password) = (text("url")?, text("user")?, text("password")?);
    let dir = platform.ops.dir().join("clone");
    let clone = dir.display().to_string();
    ensure!(
        !git(platform.ops.dir(), &["clone", "--quiet", url, &clone])
            .await?
            .0,
        "without a login"
    );
    let with_login = url.replace("http://", &format!("http://{user}:{password}@"));
    let (cloned, said) = git(
        platform.ops.dir(),
        &["clone", "--quiet", &with_login, &clone],
    )
    .await?;
    ensure!(cloned, "{said}");

    let values = dir.join("services/redis/values.yaml");
    let before = std::fs::read_to_string(&values)?;
    std::fs::write(
        &values,
        before.replace("maxmemory: 192mb", "maxmemory: 100mb"),
    )?;
    for args in [
        &["commit", "--quiet", "--all", "--message=Less memory"][..],
        &["push", "--quiet"],
    ] {
        let (done, said) = git(&dir, args).await?;
        ensure!(done, "{said}");
    }
    let until = async |memory: &str| {
        wait_for(memory, START, async || {
            let arguments = [
                "-n",
                "platform-prod",
                "get",
                "statefulset",
                "redis",
                "-o",
                "jsonpath={.spec.template.spec.containers[0].args}",
            ];
            let (_, said) = platform.kubectl(&arguments, "").await?;
            ensure!(said.contains(memory), "{said}");
            Ok(())
        })
        .await
    };
    until("100mb").await?;
    let (rewritten, said) = git(
        &dir,
        &["push", "--force", "--quiet", "origin", "HEAD^:main"],
    )
    .await?;
    ensure!(!rewritten, "{said}");
    platform.ops.good(&["gitops", "rollback", "redis"]).await?;
    until("192mb").await?;
    let history = platform.ops.good(&["gitops", "history", "redis"]).await?;
    ensure!(history.out.lines().count() >= 2, "{}", history.said());
    let again = platform
        .ops
        .run(&["gitops", "rollback", "redis", "HEAD"])
        .await?;
    ensure!(
        again.code == 1 && again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );

    let (deleted, said) = platform
        .kubectl(
            &["-n", "platform-prod", "delete", "statefulset", "redis"],
            "",
        )
        .await?;
    ensure!(deleted, "{said}");
    until("192mb").await?;
    // What users have pushed is theirs: bootstrap goes on to find nothing to do.
    let again = platform.ops.good(BOOTSTRAP).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    Ok(())
}

async fn git(dir: &std::path::Path, args: &[&str]) -> Result<(bool, String)> {
    let output = Command::new(GIT.find()?)
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(args)
        .current_dir(dir)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), said))
}

/// A repository's wrong password is told as that, and the step that waits for it fails by it.
async fn what_is_wrong_is_said(platform: &Platform) -> Result<()> {
    let wrong = "apiVersion: v1\nkind: Secret\nmetadata: { name: platform-repository, namespace: argocd }\nstringData: { password: wrong }\n";
    let patch = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let (made, said) = platform.kubectl(&patch, wrong).await?;
    ensure!(made, "{said}");
    let refresh = [
        "-n",
        "argocd",
        "annotate",
        "application",
        "platform",
        "argocd.argoproj.io/refresh=hard",
        "--overwrite",
    ];
    platform.kubectl(&refresh, "").await?;
    wait_for("the reason", START, async || {
        let status = platform.ops.run(&["gitops", "status"]).await?;
        let why = status.out.contains("authentication") || status.out.contains("credentials");
        ensure!(status.code == 1 && why, "{}", status.said());
        Ok(())
    })
    .await?;
    // It is one of ours, so the next run sets it right.
    let healed = platform.ops.good(BOOTSTRAP).await?;
    ensure!(
        healed
            .err
            .contains("set .data.password of Secret argocd/platform-repository"),
        "{}",
        healed.said()
    );
    Ok(())
}
