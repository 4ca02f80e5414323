//! A bootstrap that is killed at any moment: the next run goes on, and all of it ends the same as one
//! that was never killed, object by object.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::dice::Dice;
use crate::platform_of::PlatformOf;

/// How many runs are killed; `COMIND_BOOTSTRAP_KILLS` for another number.
fn kills() -> u64 {
    let wished = std::env::var("COMIND_BOOTSTRAP_KILLS").ok();
    wished.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A run takes about a minute, and what is left after a kill less: in milliseconds.
const LATEST: u64 = 30_000;

/// What is wanted of the cluster, by kind and name.
pub(crate) type Wanted = BTreeMap<String, Value>;

const KINDS: &str = "deployments,statefulsets,services,configmaps,ingresses,networkpolicies,roles,rolebindings,clusterroles,resourcequotas,poddisruptionbudgets,appprojects.argoproj.io,applicationsets.argoproj.io,applications.argoproj.io";

/// What the cluster's objects ask for, without what differs each time.
pub(crate) async fn wanted(platform: &PlatformOf) -> Result<Wanted> {
    let listed = platform.ask(&["get", KINDS, "-A", "-o", "json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let all = listed["items"].as_array().context("no list")?;
    Ok(all.iter().filter_map(read).collect())
}

fn read(object: &Value) -> Option<(String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&object["metadata"]["name"]);
    // The authority is made anew, Kubernetes' own roles are its own.
    if name == "kube-root-ca.crt"
        || name.starts_with("system:")
        || name == "extension-apiserver-authentication"
    {
        return None;
    }
    if object["aggregationRule"].is_object() {
        return None;
    }
    let title = [
        &text(&object["kind"]),
        &text(&object["metadata"]["namespace"]),
        &name,
    ]
    .map(String::as_str)
    .join(" ");
    let mut wanted = serde_json::json!({
        "spec": object["spec"], "data": object["data"], "rules": object["rules"], "roleRef": object["roleRef"],
    });
    if object["kind"] == "Service" {
        let spec = wanted["spec"].as_object_mut()?;
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    Some((title, wanted))
}

fn differing<'a>(one: &'a Wanted, other: &'a Wanted) -> Vec<&'a String> {
    one.keys()
        .chain(other.keys())
        .filter(|key| one.get(*key) != other.get(*key))
        .collect()
}

/// From nothing again and again, each time with kills until it is through.
pub(crate) async fn all_end_the_same(platform: &PlatformOf, as_wanted: &Wanted) -> Result<()> {
    let seed = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let ended = rounds(platform, as_wanted, Dice(seed)).await;
    ended.with_context(|| format!("killed by the seed {seed}"))
}

async fn rounds(platform: &PlatformOf, as_wanted: &Wanted, mut dice: Dice) -> Result<()> {
    let mut left = kills();
    while left > 0 {
        while left > 0 && !killed(platform, Duration::from_millis(dice.below(LATEST))).await? {
            left -= 1;
        }
        platform.ops.good(&["bootstrap"]).await?;
        let plan = platform.ops.run(&["bootstrap", "--plan"]).await?;
        ensure!(plan.code == 0, "{}", plan.said());
        let now = wanted(platform).await?;
        let differing = differing(as_wanted, &now);
        ensure!(
            differing.is_empty(),
            "{differing:?}: {:?}",
            differing
                .iter()
                .map(|key| (as_wanted.get(*key), now.get(*key)))
                .collect::<Vec<_>>()
        );
        platform
            .ops
            .good(&["destroy", "--yes", "--volumes"])
            .await?;
    }
    Ok(())
}

/// Runs it for so long; says whether it was through before.
async fn killed(platform: &PlatformOf, moment: Duration) -> Result<bool> {
    let command = platform.ops.command(&["--quiet", "bootstrap"]);
    let mut run = Command::from(command)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    match tokio::time::timeout(moment, run.wait()).await {
        Ok(ended) => {
            ensure!(ended?.success(), "a run that was not killed failed");
            Ok(true)
        }
        Err(_) => {
            run.kill().await?;
            Ok(false)
        }
    }
}
