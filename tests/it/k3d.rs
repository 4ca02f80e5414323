//! Clusters by k3d: when `auto` chooses it, and one from its making to its end. Its nodes play k3s
//! (`comind_peers::k3s`). k3d itself is the real one where `COMIND_TEST_K3D` names it; else a script
//! does what k3d does.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use comind_bootstrap::cluster::k3d::config::IMAGE;
use comind_peers::dockerd::Dockerd;
use comind_peers::images;
use comind_peers::k3s::{self, K3S};
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use http::Method;
use serde_json::Value;
use tokio::process::Command;

use crate::ops::{Done, Ops, START, finish};
use crate::platform_of::PlatformOf;

const CURL: Tool = Tool::debian("curl", "curl");

const SERVER: &str = "k3d-comind-ops-stage-server-0";
/// How k3d is told which image it looks around with.
const TOOLS: (&str, &str) = ("K3D_IMAGE_TOOLS", "comind-ops-test/k3d-tools:1");

/// A home beside this Docker, with k3d in front of PATH if it is there. The user's kubeconfig is that of
/// the platform whose turn it is.
fn beside(dockerd: &Dockerd, k3d: Option<&Path>, turn: &PlatformOf) -> Result<Ops> {
    let path = std::env::var("PATH")?;
    let path = match k3d {
        Some(k3d) => format!("{}:{path}", k3d.display()),
        None => path,
    };
    let (host, users) = (dockerd.host(), turn.users().display().to_string());
    let env = [
        ("ENV", "stage"),
        ("DOCKER_HOST", &host),
        ("PATH", &path),
        ("KUBECONFIG", &users),
        TOOLS,
    ];
    Ops::new("host", &env)
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_chooses_it_where_it_can_and_says_why_where_not() -> Result<()> {
    let turn = PlatformOf::new("stage")?;
    let dockerd = Dockerd::start().await?;
    images::load(&dockerd, images::REDIS).await?;
    let says = async |ops: &Ops, why: &str| {
        let done = ops.run(&["cluster", "create", "--plan"]).await?;
        ensure!(done.code == 2 && done.err.contains(why), "{}", done.said());
        anyhow::Ok(())
    };
    let without = beside(&dockerd, None, &turn)?;
    let why = "cluster by host, because Docker answers, but k3d is not installed";
    says(&without, why).await?;

    let dir = tempfile::tempdir()?;
    let ops = beside(&dockerd, Some(&k3s::command_line(dir.path())?), &turn)?;
    let lacks = |image| {
        format!(
            "cluster by host, because Docker answers and k3d is here, but {image} is neither here nor to be pulled"
        )
    };
    says(&ops, &lacks(IMAGE)).await?;
    let refused = ops
        .run(&["cluster", "create", "--plan", "--k3s-image", "a"])
        .await?;
    let why = "--k3s-image is of clusters of the kind k3d";
    ensure!(refused.err.contains(why), "{}", refused.said());

    // Its helper has to be there as well.
    dockerd.tag(images::REDIS, IMAGE).await?;
    says(&ops, &lacks(TOOLS.1)).await?;
    dockerd.tag(images::REDIS, TOOLS.1).await?;
    let why = format!("cluster by k3d, because Docker answers, k3d is here, and so is {IMAGE}");
    says(&ops, &why).await
}

/// A cluster by k3d, and what it is made with.
struct ByK3d {
    // Dropped in this order: what was made needs the daemon to be removed.
    ops: Ops,
    dockerd: Dockerd,
    turn: PlatformOf,
    _dir: tempfile::TempDir,
}

impl ByK3d {
    async fn new() -> Result<Self> {
        let turn = PlatformOf::new("stage")?;
        let dockerd = Dockerd::start_for_nodes().await?;
        k3s::load(&dockerd).await?;
        // It only has to be there and to stay.
        dockerd.tag(K3S, TOOLS.1).await?;
        let dir = tempfile::tempdir()?;
        let k3d = k3s::command_line(dir.path())?;
        Ok(Self {
            ops: beside(&dockerd, Some(&k3d), &turn)?,
            dockerd,
            turn,
            _dir: dir,
        })
    }

    async fn docker(&self, method: Method, path: &str) -> Result<Value> {
        let answer = self.dockerd.request(method, path, "").await?;
        Ok(serde_json::from_str(&answer).unwrap_or_default())
    }

    async fn create(&self, more: &[&str]) -> Result<Done> {
        self.ops.run(&[&["cluster", "create"], more].concat()).await
    }

    async fn refused(&self, more: &[&str], why: &str) -> Result<()> {
        let done = self.create(more).await?;
        let refused = done.code == 1 && done.err.contains(why);
        ensure!(refused, "{why}: {}", done.said());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_filled_stopped_and_removed() -> Result<()> {
    let it = ByK3d::new().await?;
    a_run_that_is_cut_off_is_gone_on_with(&it).await?;
    it_is_as_wanted(&it).await?;
    images_come_in_and_pods_run(&it).await?;
    it_stops_and_starts(&it).await?;
    nothing_is_left(&it).await
}

/// Killed as soon as a node is there: k3d goes on, and the next run waits for what that comes to.
async fn a_run_that_is_cut_off_is_gone_on_with(it: &ByK3d) -> Result<()> {
    let create = ["--kind", "k3d", "--k3s-image", K3S, "--agents", "1"];
    let mut cut_off = it
        .ops
        .spawn(&[&["cluster", "create"], &create[..]].concat())?;
    wait_for("the first node", START, async || {
        it.docker(Method::GET, &format!("/containers/{SERVER}/json"))
            .await
    })
    .await?;
    cut_off.kill()?;
    cut_off.wait()?;
    let made = it.create(&create).await?;
    ensure!(made.code == 0, "{}", made.said());
    Ok(())
}

async fn it_is_as_wanted(it: &ByK3d) -> Result<()> {
    let nodes = ["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"];
    let nodes = it.turn.ask(&nodes).await?;
    ensure!(
        nodes == "k3d-comind-ops-stage-agent-0 k3d-comind-ops-stage-server-0",
        "{nodes}"
    );
    let network = it.docker(Method::GET, "/networks/comind-ops-stage").await?;
    ensure!(
        network["IPAM"]["Config"][0]["Gateway"] == "10.231.1.1"
            && network["Labels"]["pro.comind.owner"] == "comind-ops",
        "{network}"
    );
    ensure!(Path::new("/sys/class/net/comind-stage").exists());
    // Remembered.
    let again = it.ops.good(&["cluster", "create"]).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    let why = "k3d does not change clusters";
    it.refused(&["--agents", "2"], why).await
}

/// As much of the platform as shows it: images that were made here run on its nodes, and a port of the
/// nodes is on this machine.
async fn images_come_in_and_pods_run(it: &ByK3d) -> Result<()> {
    let some = ["bootstrap", "--until", "git"];
    it.ops.good(&some).await?;
    let mut git = Command::new(CURL.find()?);
    git.args(["-sS", "--max-time", "10", "-o", "/dev/null"])
        .args(["-w", "%{http_code}"])
        .arg("http://127.0.0.1:8182/git/platform.git/info/refs?service=git-upload-pack");
    let git = finish(git).await?;
    ensure!(git.out == "401", "it asks who is there: {}", git.said());
    let again = it.ops.good(&some).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    Ok(())
}

async fn rows(it: &ByK3d) -> Result<Vec<(String, String)>> {
    let status = it.ops.run(&["--json", "cluster", "status"]).await?;
    let status: Value = serde_json::from_str(&status.out).with_context(|| status.said())?;
    ensure!(status["kind"] == "k3d", "{status}");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = status["components"].as_array().context("no components")?;
    Ok(rows
        .iter()
        .map(|row| (text(row, "state"), text(row, "reason")))
        .collect())
}

async fn it_stops_and_starts(it: &ByK3d) -> Result<()> {
    it.ops.good(&["cluster", "stop"]).await?;
    for (state, reason) in rows(it).await? {
        ensure!(
            state == "stopped" && reason == "its container is exited",
            "{state}: {reason}"
        );
    }
    it.ops.good(&["cluster", "start"]).await?;
    let all = rows(it).await?;
    ensure!(
        all.len() == 2 && all.iter().all(|(state, _)| state == "running"),
        "{all:?}"
    );
    it.turn
        .ask(&["-n", "platform", "rollout", "status", "deployment/git"])
        .await
        .map(drop)
}

async fn nothing_is_left(it: &ByK3d) -> Result<()> {
    it.ops.good(&["cluster", "delete", "--yes"]).await?;
    let left = it.docker(Method::GET, "/containers/json?all=true").await?;
    ensure!(left == serde_json::json!([]), "{left}");
    let left = it.docker(Method::GET, "/volumes").await?;
    ensure!(
        left["Volumes"].as_array().is_none_or(Vec::is_empty),
        "{left}"
    );
    let left = it.docker(Method::GET, "/networks").await?.to_string();
    ensure!(!left.contains("comind-ops-stage"), "{left}");
    let users = std::fs::read_to_string(it.turn.users())?;
    ensure!(!users.contains("comind-ops-stage"), "{users}");
    ensure!(!it.ops.home().join("data/cluster-stage").exists());
    theirs_is_left_alone(it).await
}

/// One of that name that is not ours.
async fn theirs_is_left_alone(it: &ByK3d) -> Result<()> {
    let node = serde_json::json!({ "Image": K3S, "Labels": {
        "app": "k3d", "k3d.cluster": "comind-ops-stage", "k3d.role": "server",
    } });
    let create = format!("/containers/create?name={SERVER}");
    it.dockerd
        .request(Method::POST, &create, &node.to_string())
        .await?;
    let why = "k3d cluster comind-ops-stage which is not ours";
    it.refused(&["--kind", "k3d"], why).await?;
    it.ops.run(&["cluster", "delete", "--yes"]).await?;
    it.docker(Method::GET, &format!("/containers/{SERVER}/json"))
        .await
        .map(drop)
}
