//! The platform from nothing: services, cluster, namespaces and Argo CD in one command; run again,
//! broken on purpose, and taken down.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::ops::{START, finish};
use crate::platform_of::PlatformOf;
use crate::{bootstrap_broken, bootstrap_kills, bootstrap_login};

pub(crate) const GIT: Tool = Tool::debian("git", "git");
const CURL: Tool = Tool::debian("curl", "curl");

const BOOTSTRAP: &[&str] = &["bootstrap"];

fn pod(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: intruder, namespace: user-apps }}\nspec:\n  containers:\n    - {{ name: a, image: a, {more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_gitops_and_back() -> Result<()> {
    let platform = PlatformOf::new("prod")?;
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
    bootstrap_broken::before_the_cluster(ops).await?;

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

    let as_wanted = bootstrap_kills::wanted(&platform).await?;
    again_it_writes_nothing(&platform)
        .await
        .context("run again")?;

    namespaces_are_closed(&platform)
        .await
        .context("namespaces are closed")?;
    it_watches_itself(&platform)
        .await
        .context("it watches itself")?;
    a_backup_is_made(&platform)
        .await
        .context("a backup is made")?;
    a_push_is_followed(&platform)
        .await
        .context("a push is followed")?;
    bootstrap_login::the_cluster_decides_who_comes_in(&platform)
        .await
        .context("the cluster decides who comes in")?;
    what_is_wrong_is_said(&platform)
        .await
        .context("what is wrong is said")?;
    bootstrap_broken::in_the_repository(&platform)
        .await
        .context("broken in the repository")?;
    bootstrap_broken::a_repository_of_ones_own(&platform)
        .await
        .context("a repository of one's own")?;

    ops.good(&["destroy", "--yes"]).await?;
    ensure!(ops.home().join("data/postgresql").exists(), "data is kept");
    ensure!(!ops.home().join("data/cluster-prod").exists());
    ops.good(&["destroy", "--yes", "--volumes"]).await?;
    ensure!(!ops.home().join("data/postgresql").exists());
    bootstrap_kills::all_end_the_same(&platform, &as_wanted).await
}

/// Where nothing has changed there is nothing to write, by the API server's own account.
async fn again_it_writes_nothing(platform: &PlatformOf) -> Result<()> {
    let before = platform.writes()?;
    let again = platform
        .ops
        .good(&[&["--json"], BOOTSTRAP].concat())
        .await?;
    let mut lines = again
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let outcome = lines.find(|one| one["outcome"].is_object());
    let outcome = outcome.with_context(|| again.said())?;
    ensure!(
        outcome["outcome"]["changed"] == serde_json::json!({}),
        "{outcome}"
    );
    let plan = platform.ops.run(&[BOOTSTRAP, &["--plan"]].concat()).await?;
    ensure!(plan.code == 0, "{}", plan.said());
    ensure!(platform.writes()? == before, "it wrote something");
    Ok(())
}

async fn namespaces_are_closed(platform: &PlatformOf) -> Result<()> {
    let refused = platform
        .kubectl(
            &["apply", "-f", "-"],
            &pod("securityContext: { privileged: true }"),
        )
        .await?;
    ensure!(
        refused.code != 0 && refused.err.contains("violates PodSecurity \"restricted"),
        "{}",
        refused.said()
    );
    let quota = platform
        .ask(&[
            "-n",
            "user-apps",
            "get",
            "resourcequota",
            "comind-ops",
            "-o",
            "jsonpath={.status.hard.pods}",
        ])
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
        let asked = platform.kubectl(&[&who[..], &args].concat(), "").await?;
        ensure!((asked.code == 0) == may, "{args:?}: {}", asked.said());
    }
    Ok(())
}

/// A page behind the ingress, by its name; every environment has a port of its own.
async fn page(name: &str, path: &str) -> Result<String> {
    let mut command = Command::new(CURL.find()?);
    command.args(["--silent", "--show-error", "--fail", "--max-time", "10"]);
    command.arg(format!("http://{name}.localhost:8084{path}"));
    let done = finish(command).await?;
    ensure!(done.code == 0, "{name}{path}: {}", done.said());
    Ok(done.out)
}

/// The collector in the cluster sees the platform's services and this machine's, tells Alertmanager,
/// and is asked by Prometheus; all of it behind the ingress.
async fn it_watches_itself(platform: &PlatformOf) -> Result<()> {
    let health = async |target: &str| -> Result<String> {
        let state: Value = serde_json::from_str(&page("comind", "/api/v1/state").await?)?;
        let mut all = state["targets"].as_array().into_iter().flatten();
        let one = all.find(|one| one["name"] == target);
        let one = one.with_context(|| format!("{target} is not watched: {state}"))?;
        Ok(one["health"].as_str().unwrap_or_default().to_owned())
    };
    for target in [
        "postgresql",
        "minio",
        "redis",
        "host-postgresql",
        "argocd/redis",
        "git",
    ] {
        // A look that had to wait for a core is given up, and no outage of what it looked at.
        wait_for(target, START, async || {
            let now = health(target).await?;
            ensure!(now == "up", "{now}");
            Ok(())
        })
        .await?;
    }
    for (name, path, says) in [
        // Its module has no pages; its API answers.
        ("argocd", "/api/version", "v3."),
        ("minio", "/", "MinIO"),
        ("prometheus", "/api/v1/rules", "RequiredServiceDown"),
    ] {
        wait_for(name, START, async || {
            let answer = page(name, path).await?;
            ensure!(answer.contains(says), "{name}{path}: {answer}");
            Ok(())
        })
        .await?;
    }
    platform.ops.good(&["services", "stop", "redis"]).await?;
    wait_for("the outage, and the alert of it", START, async || {
        ensure!(health("host-redis").await? == "down");
        let alerts = page("alertmanager", "/api/v2/alerts").await?;
        ensure!(alerts.contains("host-redis"), "{alerts}");
        let seen = page("prometheus", "/api/v1/query?query=comind_target_up==0").await?;
        ensure!(seen.contains("host-redis"), "{seen}");
        Ok(())
    })
    .await?;
    platform.ops.good(&["services", "start", "redis"]).await?;
    wait_for("its end", START, async || {
        ensure!(health("host-redis").await? == "up");
        Ok(())
    })
    .await
}

/// The nightly dump, now: it lies in the object store.
async fn a_backup_is_made(platform: &PlatformOf) -> Result<()> {
    let of = ["-n", "platform-prod"];
    let begin = ["create", "job", "--from=cronjob/postgresql-backup", "now"];
    platform.ask(&[&of[..], &begin].concat()).await?;
    let done = [
        "wait",
        "--for=condition=complete",
        "job/now",
        "--timeout=120s",
    ];
    platform.ask(&[&of[..], &done].concat()).await?;
    let list = ["exec", "minio-0", "--", "ls", "/data/backups/postgresql"];
    let there = platform.ask(&[&of[..], &list].concat()).await?;
    ensure!(there.contains("day.sql.gz"), "{there}");
    Ok(())
}

/// A commit counts a moment after it was pushed, and is taken back as quickly; what somebody deletes
/// comes back; without a login there is nothing, and history is not rewritten.
async fn a_push_is_followed(platform: &PlatformOf) -> Result<()> {
    wait_for("all applications", START, async || {
        let status = platform.ops.good(&["gitops", "status"]).await?;
        let healthy = status.out.matches("Healthy").count();
        ensure!(healthy == 8, "{}", status.said());
        Ok(())
    })
    .await?;
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
            let said = platform.ask(&arguments).await?;
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

    platform
        .ask(&["-n", "platform-prod", "delete", "statefulset", "redis"])
        .await?;
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

pub(crate) async fn git(dir: &std::path::Path, args: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(GIT.find()?);
    command
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(args)
        .current_dir(dir)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null());
    let done = finish(command).await?;
    Ok((done.code == 0, done.err))
}

/// A repository's wrong password is told as that, and the step that waits for it fails by it.
async fn what_is_wrong_is_said(platform: &PlatformOf) -> Result<()> {
    let wrong = "apiVersion: v1\nkind: Secret\nmetadata: { name: platform-repository, namespace: argocd }\nstringData: { password: wrong }\n";
    let patch = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let patched = platform.kubectl(&patch, wrong).await?;
    ensure!(patched.code == 0, "{}", patched.said());
    let refresh = [
        "-n",
        "argocd",
        "annotate",
        "application",
        "platform",
        "argocd.argoproj.io/refresh=hard",
        "--overwrite",
    ];
    platform.ask(&refresh).await?;
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
