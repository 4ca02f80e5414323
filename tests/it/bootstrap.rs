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
async fn from_nothing_to_argocd_and_back() -> Result<()> {
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
    argocd_works(&platform).await?;

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

/// It has rendered nothing yet; but an application that is wrong is judged, which needs all its parts.
async fn argocd_works(platform: &Platform) -> Result<()> {
    let application = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: { name: nowhere, namespace: argocd }\nspec:\n  project: default\n  source: { repoURL: 'http://127.0.0.1:1/x.git', path: ., targetRevision: HEAD }\n  destination: { server: 'https://kubernetes.default.svc', namespace: user-apps }\n";
    let (made, said) = platform.kubectl(&["apply", "-f", "-"], application).await?;
    ensure!(made, "{said}");
    wait_for("a verdict", START, async || {
        let query = [
            "-n",
            "argocd",
            "get",
            "application",
            "nowhere",
            "-o",
            "jsonpath={.status.conditions[*].message}",
        ];
        let (_, said) = platform.kubectl(&query, "").await?;
        ensure!(said.contains("connection refused"), "{said}");
        Ok(())
    })
    .await
}
