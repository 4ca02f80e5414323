//! A cluster that is there already: used, and left as it was.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use comind_peers::registry::Registry;
use comind_peers::wait::wait_for;
use serde_json::Value;
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
    let (guest, registry) = by_a_registry(&host, guest).await?;
    the_whole_platform_comes_up(&host, &guest).await?;
    what_runs_was_pulled(&host, &registry).await?;
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

/// From here on they come from a registry, which its nodes speak to as their owner has told them.
async fn by_a_registry(host: &PlatformOf, mut guest: Guest) -> Result<(Guest, Registry)> {
    // This machine's end of the link to the node, which is nobody else's.
    let registry = Registry::builder().address([10, 231, 1, 1].into());
    let registry = registry.start().await?;
    let url = format!("http://{}", registry.host());
    let folder = host.data().join("config/registries");
    let folder = folder.join(registry.host().to_string());
    std::fs::create_dir_all(&folder)?;
    let told =
        format!("server = {url:?}\n[host.{url:?}]\ncapabilities = [\"pull\", \"resolve\"]\n");
    std::fs::write(folder.join("hosts.toml"), told)?;
    let named = format!("{url}/team");
    guest.ops.set("COMIND_IMAGE_REGISTRY", &named);
    Ok((guest, registry))
}

/// Every container of ours that runs in a namespace of ours is of an image that was pulled by its digest.
async fn what_runs_was_pulled(host: &PlatformOf, registry: &Registry) -> Result<()> {
    let format = "jsonpath={range .items[*].spec.containers[*]}{.image}{\"\\n\"}{end}";
    let mut seen = 0;
    for namespace in ["argocd", "monitoring", "platform-dev", "ingress"] {
        let images = host
            .ask(&["-n", namespace, "get", "pods", "-o", format])
            .await?;
        for image in images.lines() {
            let from = format!("{}/team/", registry.host());
            ensure!(
                image.starts_with(&from) && image.contains("@sha256:"),
                "{namespace}: {image}"
            );
            seen += 1;
        }
    }
    ensure!(seen >= 10, "{seen} containers");
    Ok(())
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
