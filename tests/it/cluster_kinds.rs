//! Clusters that are no processes of ours: one that is there already, used and left as it was; k3d as
//! far as it goes without its nodes' image; and why `auto` chooses what it chooses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use comind_peers::dockerd::Dockerd;
use comind_peers::images;
use comind_peers::kube::KubeApi;
use comind_peers::wait::wait_for;
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::ops::{Done, Ops, START, finish};
use crate::platform_of::PlatformOf;

const CREATE: &[&str] = &["cluster", "create"];

/// A home that uses the cluster of another one as if it were somebody else's.
struct Guest {
    ops: Ops,
}

impl Guest {
    fn new(host: &PlatformOf, context: &str) -> Result<Self> {
        let mut ops = Ops::new("host", &[("ENV", "stage"), ("COMIND_CLUSTER", "existing")])?;
        ops.set("KUBECONFIG", &host.users().display().to_string());
        ops.set("COMIND_CONTEXT", context);
        Ok(Self { ops })
    }

    async fn refused(&self, args: &[&str], why: &str) -> Result<Done> {
        let done = self.ops.run(args).await?;
        ensure!(
            done.code == 1 && done.err.contains(why),
            "{why}: {}",
            done.said()
        );
        Ok(done)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_there_is_used_and_left_as_it_was() -> Result<()> {
    let host = PlatformOf::new("stage")?;
    host.ops.good(CREATE).await?;
    what_it_lacks_is_said(&host).await?;

    let guest = Guest::new(&host, "comind-ops-stage")?;
    let plan = guest.ops.run(&["cluster", "create", "--plan"]).await?;
    ensure!(
        plan.code == 2 && plan.out.contains("keep the context comind-ops-stage"),
        "{}",
        plan.said()
    );
    let made = guest.ops.good(CREATE).await?;
    ensure!(
        made.err.contains("cluster by existing, because it was asked for: context comind-ops-stage, Kubernetes v1."),
        "{}",
        made.said()
    );
    let again = guest.ops.good(CREATE).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    let status = guest.ops.good(&["--json", "cluster", "status"]).await?;
    let status: Value = serde_json::from_str(&status.out)?;
    ensure!(
        status["kind"] == "existing" && status["components"][0]["state"] == "running",
        "{status}"
    );
    // Without what was asked for at first: it is remembered.
    let other = guest
        .ops
        .run(&["cluster", "create", "--kind", "host"])
        .await?;
    ensure!(
        other.code == 1 && other.err.contains("made by existing, not by host"),
        "{}",
        other.said()
    );

    its_images_are_brought_by_hand(&host, &guest).await?;
    the_whole_platform_comes_up(&host, &guest).await?;
    nothing_of_ours_is_left(&host, &guest).await
}

async fn what_it_lacks_is_said(host: &PlatformOf) -> Result<()> {
    let nowhere = Guest::new(host, "nowhere")?;
    nowhere
        .refused(
            CREATE,
            "there is no context \"nowhere\" in the kubeconfig; there are: comind-ops-stage",
        )
        .await?;

    let guest = Guest::new(host, "comind-ops-stage")?;
    host.ask(&["create", "namespace", "monitoring"]).await?;
    guest
        .refused(
            CREATE,
            "room: there is Namespace monitoring, which is not ours",
        )
        .await?;
    host.ask(&["delete", "namespace", "monitoring"]).await?;

    host.ask(&["create", "serviceaccount", "weak"]).await?;
    let token = host.ask(&["create", "token", "weak"]).await?;
    let weak = ["config", "set-credentials", "weak", "--token", token.trim()];
    host.ask(&weak).await?;
    let context = [
        "config",
        "set-context",
        "weak",
        "--cluster=comind-ops-stage",
        "--user=weak",
    ];
    host.ask(&context).await?;
    let weak = Guest::new(host, "weak")?;
    let said = weak
        .refused(CREATE, "rights: its user may not patch namespaces")
        .await?;
    ensure!(
        said.err.contains("escalate clusterroles"),
        "{}",
        said.said()
    );
    ensure!(!said.err.contains(token.trim()), "a token is no news");
    Ok(())
}

fn archive(guest: &Guest, step: &str) -> PathBuf {
    let images = guest.ops.home().join("data/cluster-stage/images");
    images.join(format!("{step}.tar"))
}

/// Without a way to bring them in, it says which they are and where they lie.
async fn its_images_are_brought_by_hand(host: &PlatformOf, guest: &Guest) -> Result<()> {
    let steps = ["first-images", "images-of-services"];
    let only = ["bootstrap", "--only", steps[0], "--only", steps[1]];
    let refused = guest
        .refused(&only, "the nodes lack images: comind.local/argocd:")
        .await?;
    ensure!(
        refused.err.contains("--image-registry"),
        "{}",
        refused.said()
    );
    let socket = host
        .ops
        .home()
        .join("run/cluster-stage-containerd/containerd.sock");
    for step in steps {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(&socket);
        command
            .args(["-n", "k8s.io", "images", "import"])
            .arg(archive(guest, step));
        let done = finish(command).await?;
        ensure!(done.code == 0, "{}", done.said());
    }
    // The kubelet names what it has every few seconds.
    wait_for("the images", START, async || {
        let plan = guest.ops.run(&[&only[..], &["--plan"]].concat()).await?;
        ensure!(plan.code == 0, "{}", plan.said());
        Ok(())
    })
    .await
}

async fn the_whole_platform_comes_up(host: &PlatformOf, guest: &Guest) -> Result<()> {
    let done = guest.ops.good(&["bootstrap"]).await?;
    ensure!(
        done.err.contains("this machine's services are not watched"),
        "{}",
        done.said()
    );
    ensure!(
        done.out.contains("kubectl --context comind-ops-stage") && !done.out.contains("host-redis"),
        "{}",
        done.said()
    );
    let secret = [
        "-n",
        "monitoring",
        "get",
        "secret",
        "comind-ops-targets",
        "-o",
        "jsonpath={.data}",
    ];
    let secret = host.ask(&secret).await?;
    ensure!(
        !secret.contains("host-"),
        "nobody there has to know our passwords"
    );
    let login = guest.ops.good(&["--json", "gitops", "login"]).await?;
    ensure!(
        login.out.contains("http://10.231.1.2:30418/"),
        "{}",
        login.out
    );
    let again = guest.ops.good(&["bootstrap"]).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    Ok(())
}

async fn nothing_of_ours_is_left(host: &PlatformOf, guest: &Guest) -> Result<()> {
    host.ask(&["create", "namespace", "theirs"]).await?;
    guest.ops.good(&["destroy", "--yes"]).await?;
    let left = host
        .ask(&[
            "get",
            "namespaces,clusterroles,crds,ingressclasses",
            "-o",
            "name",
        ])
        .await?;
    for gone in [
        "namespace/argocd",
        "namespace/monitoring",
        "argoproj.io",
        "argocd-",
        "monitors.comind.pro",
        "sealedsecrets.bitnami.com",
        "comind-ops-sealed-secrets",
        "/comind-ingress",
        "/app-deployer",
    ] {
        ensure!(!left.contains(gone), "{gone}: {left}");
    }
    ensure!(
        left.contains("namespace/theirs") && left.contains("/comind-ops-coredns"),
        "{left}"
    );
    ensure!(!guest.ops.home().join("data/cluster-stage").exists());
    // It runs on, as whoever has made it left it.
    let plan = host.ops.run(&["cluster", "create", "--plan"]).await?;
    ensure!(plan.code == 0, "{}", plan.said());
    Ok(())
}

/// Stands for k3d, which cannot be had here: it writes down how it was called, and answers by files.
/// What it shows is which commands are run, and nothing of k3d itself.
const STAND_IN: &str = r#"#!/bin/sh
echo "$*" >> DIR/calls
case "$1 $2" in
"cluster list") if [ -e DIR/made ]; then cat DIR/running; else echo '[]'; fi ;;
"cluster create") touch DIR/made; cp "$4" DIR/config ;;
"cluster delete") rm DIR/made ;;
"kubeconfig get") echo ---; cat DIR/kubeconfig ;;
esac
"#;

/// The directory with it; its kubeconfig is that of a real API server.
fn stand_in(dir: &Path, api: &KubeApi) -> Result<PathBuf> {
    let dir = dir.join("k3d");
    std::fs::create_dir(&dir)?;
    let program = dir.join("k3d");
    std::fs::write(
        &program,
        STAND_IN.replace("DIR", &dir.display().to_string()),
    )?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    std::fs::copy(api.kubeconfig(), dir.join("kubeconfig"))?;
    let node = json!({
        "name": "k3d-comind-ops-stage-server-0", "role": "server",
        "runtimeLabels": { "k3d.role": "server" },
        "State": { "Running": true, "Status": "running" },
    });
    let all = json!([{ "name": "comind-ops-stage", "nodes": [node] }]);
    std::fs::write(dir.join("running"), all.to_string())?;
    Ok(dir)
}

/// What k3s runs for others, as far as our step looks at it.
async fn as_k3s_does(api: &KubeApi) -> Result<()> {
    let at = "/apis/apps/v1/namespaces/kube-system/deployments";
    for name in ["coredns", "local-path-provisioner", "metrics-server"] {
        let labels = json!({ "app": name });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "a", "image": "a" }] },
            } },
        });
        let made = api
            .request(Method::POST, at, &deployment.to_string())
            .await?;
        let mut made: Value = serde_json::from_str(&made)?;
        made["status"]["observedGeneration"] = made["metadata"]["generation"].clone();
        let status = format!("{at}/{name}/status");
        api.request(Method::PUT, &status, &made.to_string()).await?;
    }
    Ok(())
}

/// A home beside this Docker, with more in front of PATH.
fn beside(dockerd: &Dockerd, first: Option<&Path>) -> Result<Ops> {
    let path = std::env::var("PATH")?;
    let path = match first {
        Some(first) => format!("{}:{path}", first.display()),
        None => path,
    };
    let host = dockerd.host();
    let mut ops = Ops::new(
        "host",
        &[("ENV", "stage"), ("DOCKER_HOST", &host), ("PATH", &path)],
    )?;
    let users = ops.dir().join("users-kubeconfig").display().to_string();
    ops.set("KUBECONFIG", &users);
    Ok(ops)
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_says_why_and_k3d_is_told_what_is_wanted() -> Result<()> {
    let _alone = PlatformOf::new("stage")?;
    let dockerd = Dockerd::start().await?;
    let api = KubeApi::start().await?;
    let plan = ["cluster", "create", "--plan"];

    let without = beside(&dockerd, None)?.run(&plan).await?;
    let why = "cluster by host, because Docker answers, but k3d is not installed";
    ensure!(without.err.contains(why), "{}", without.said());

    let dir = tempfile::tempdir()?;
    let k3d = stand_in(dir.path(), &api)?;
    let ops = beside(&dockerd, Some(&k3d))?;
    let image = "comind.test/k3s:none";
    let nowhere = ops
        .run(&[&plan[..], &["--k3s-image", image]].concat())
        .await;
    let nowhere = nowhere?;
    ensure!(
        nowhere
            .err
            .contains("--k3s-image is of clusters of the kind k3d"),
        "{}",
        nowhere.said()
    );
    let nowhere = ops.run(&plan).await?;
    let why = "cluster by host, because Docker answers and k3d is here, but docker.io/rancher/k3s:";
    ensure!(nowhere.err.contains(why), "{}", nowhere.said());

    images::load_all(&dockerd).await?;
    dockerd.tag(images::REDIS, image).await?;
    let there = ops
        .run(&[&plan[..], &["--k3s-image", image]].concat())
        .await?;
    let why = "cluster by k3d, because Docker answers, k3d is here, and so is comind.test/k3s:none";
    ensure!(
        there.code == 2 && there.err.contains(why),
        "{}",
        there.said()
    );
    as_k3s_does(&api).await?;
    k3d_is_driven(&ops, &dockerd, &k3d, image).await
}

/// A container as k3d would make it for the cluster.
async fn container(dockerd: &Dockerd, name: &str, owner: Option<&str>) -> Result<()> {
    let mut labels = json!({ "k3d.cluster": "comind-ops-stage" });
    if let Some(owner) = owner {
        labels["pro.comind.owner"] = owner.into();
    }
    let body = json!({ "Image": images::REDIS, "Labels": labels }).to_string();
    let create = format!("/containers/create?name={name}");
    dockerd.request(Method::POST, &create, &body).await?;
    Ok(())
}

async fn k3d_is_driven(ops: &Ops, dockerd: &Dockerd, k3d: &Path, image: &str) -> Result<()> {
    container(dockerd, "k3d-comind-ops-stage-server-0", Some("comind-ops")).await?;
    let create = ["cluster", "create", "--k3s-image", image];
    let made = ops.good(&create).await?;
    ensure!(
        made.err.contains("the Docker network comind-ops-stage"),
        "{}",
        made.said()
    );
    let network = dockerd
        .request(Method::GET, "/networks/comind-ops-stage", "")
        .await?;
    let network: Value = serde_json::from_str(&network)?;
    ensure!(
        network["IPAM"]["Config"][0]["Gateway"] == "10.231.1.1",
        "{network}"
    );
    ensure!(
        network["Labels"]["pro.comind.owner"] == "comind-ops",
        "{network}"
    );
    ensure!(Path::new("/sys/class/net/comind-stage").exists());
    let config = std::fs::read_to_string(k3d.join("config"))?;
    for part in [
        "comind.test/k3s:none",
        "127.0.0.1:8082:30080",
        "--disable=traefik",
    ] {
        ensure!(config.contains(part), "{part}: {config}");
    }
    let users = std::fs::read_to_string(ops.dir().join("users-kubeconfig"))?;
    ensure!(users.contains("comind-ops-stage"), "{users}");

    // Remembered, and as wanted.
    let again = ops.good(CREATE).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    let other = ops.run(&[CREATE, &["--agents", "2"]].concat()).await?;
    ensure!(
        other.code == 1 && other.err.contains("k3d does not change clusters"),
        "{}",
        other.said()
    );
    ops.good(&["cluster", "status"]).await?;
    ops.good(&["cluster", "stop"]).await?;
    ops.good(&["cluster", "delete", "--yes"]).await?;
    let calls = std::fs::read_to_string(k3d.join("calls"))?;
    let calls: Vec<&str> = calls
        .lines()
        .filter(|call| !call.contains(" list "))
        .collect();
    let config = ops.home().join("data/cluster-stage/config/k3d.yaml");
    let create = format!(
        "cluster create --config {} --kubeconfig-update-default=false --kubeconfig-switch-context=false",
        config.display()
    );
    ensure!(calls.first() == Some(&create.as_str()), "{calls:?}");
    ensure!(
        calls.contains(&"kubeconfig get comind-ops-stage"),
        "{calls:?}"
    );
    ensure!(
        calls.contains(&"cluster stop comind-ops-stage"),
        "{calls:?}"
    );
    ensure!(
        calls.last() == Some(&"cluster delete comind-ops-stage"),
        "{calls:?}"
    );
    let networks = dockerd.request(Method::GET, "/networks", "").await?;
    ensure!(!networks.contains("comind-ops-stage"), "{networks}");
    let users = std::fs::read_to_string(ops.dir().join("users-kubeconfig"))?;
    ensure!(!users.contains("comind-ops-stage"), "{users}");

    // One of that name that is not ours is left alone.
    container(dockerd, "k3d-comind-ops-stage-agent-0", None).await?;
    std::fs::write(k3d.join("made"), "")?;
    let refused = ops.run(&["cluster", "create", "--kind", "k3d"]).await?;
    ensure!(
        refused.code == 1
            && refused
                .err
                .contains("k3d cluster comind-ops-stage which is not ours"),
        "{}",
        refused.said()
    );
    ensure!(k3d.join("made").exists(), "it was removed");
    std::fs::remove_file(k3d.join("made")).context("the stand-in's file")
}
