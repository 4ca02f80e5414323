//! `tf`: a cluster by Terraform, from its plan to its end.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::platform_of::PlatformOf;

/// The object with this key among the lines that a command has said.
fn answer(said: &str, key: &str) -> Result<Value> {
    let lines = said.lines();
    let mut all = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = all.find(|one| !one[key].is_null());
    Ok(found.with_context(|| format!("no {key} in {said}"))?[key].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_planned_made_told_of_and_removed() -> Result<()> {
    let platform = PlatformOf::new("stage")?;
    let ops = &platform.ops;

    let early = ops.run(&["tf", "output"]).await?;
    ensure!(
        early.code == 1 && early.err.contains("tf apply"),
        "{}",
        early.said()
    );
    let plan = ops.run(&["--json", "tf", "plan"]).await?;
    ensure!(plan.code == 2, "{}", plan.said());
    ensure!(answer(&plan.out, "changes")?["add"] == 1, "{}", plan.said());
    ensure!(!platform.data().exists(), "a plan has made something");

    let made = ops.good(&["tf", "apply"]).await?;
    // What the cluster's steps say comes through Terraform as theirs.
    ensure!(made.err.contains("apiserver"), "{}", made.said());
    ensure!(made.out.contains(&platform.name()), "{}", made.said());
    let nodes = platform.ask(&["get", "nodes", "-o", "name"]).await?;
    ensure!(nodes.contains(&platform.name()), "{nodes}");

    let plan = ops.run(&["tf", "plan"]).await?;
    ensure!(plan.code == 0, "{}", plan.said());
    let again = ops.good(&["tf", "apply"]).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );

    let told = ops.good(&["--json", "tf", "output"]).await?;
    let outputs = answer(&told.out, "outputs")?;
    ensure!(outputs["environment"] == "stage", "{outputs}");
    ensure!(
        outputs["cluster_name"] == platform.name().as_str(),
        "{outputs}"
    );
    ensure!(
        outputs["cluster_endpoint"] == "https://10.231.1.2:6443",
        "{outputs}"
    );
    ensure!(
        outputs["node_addresses"] == serde_json::json!(["10.231.1.2"]),
        "{outputs}"
    );
    ensure!(
        outputs["ingress_url"]
            .as_str()
            .is_some_and(|url| url.contains(":8082")),
        "{outputs}"
    );
    let kubeconfig = outputs["kubeconfig_path"].as_str().context("no path")?;
    ensure!(std::path::Path::new(kubeconfig).exists(), "{outputs}");

    // A cluster that went by another way is missed, and made again.
    ops.good(&["--yes", "cluster", "delete"]).await?;
    let plan = ops.run(&["tf", "plan"]).await?;
    ensure!(
        plan.code == 2 && plan.err.contains("not there any more"),
        "{}",
        plan.said()
    );

    let asked = ops.run(&["tf", "destroy"]).await?;
    ensure!(
        asked.code == 1 && asked.err.contains("--yes"),
        "{}",
        asked.said()
    );
    ops.good(&["tf", "apply"]).await?;
    ops.good(&["--yes", "tf", "destroy"]).await?;
    ensure!(!platform.data().exists(), "the cluster is still there");
    let after = ops.good(&["--yes", "tf", "destroy"]).await?;
    ensure!(after.err.contains("nothing of"), "{}", after.said());
    Ok(())
}
