//! `up`, `status` and `down`: what a newcomer types first.

use anyhow::{Context as _, Result};
use comind_peers::wait::wait_for;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::ops::{Ops, START, pid};

#[tokio::test]
async fn up_shows_all_four_up_and_five_places_and_a_second_one_changes_nothing() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let first = ops.good(&["up"]).await?;
    assert_eq!(first.out.matches(" up ").count(), 4, "{}", first.said());
    let places = first
        .out
        .lines()
        .filter(|line| line.contains("://"))
        .count();
    assert_eq!(places, 5, "{}", first.said());

    let collector = ops.home().join("run/serve/server.pid.json");
    let before = std::fs::read_to_string(&collector)?;
    let second = ops.good(&["up"]).await?;
    assert!(
        second.err.contains("nothing was changed"),
        "{}",
        second.said()
    );
    assert_eq!(
        before,
        std::fs::read_to_string(&collector)?,
        "the same collector"
    );

    let row = ops.row("redis").await?;
    kill_process(pid(&row)?, Signal::KILL)?;
    seen_down_and_up(&ops).await?;

    ops.good(&["down"]).await?;
    let after = ops.run(&["status"]).await?;
    assert_eq!(after.code, 1, "{}", after.said());
    assert!(after.err.contains("comind-ops up"), "{}", after.said());
    Ok(())
}

/// The collector has seen Redis come back after the crash.
async fn seen_down_and_up(ops: &Ops) -> Result<()> {
    let log = ops.home().join("logs/serve.log");
    wait_for("the collector to see it", START, async || {
        let log = std::fs::read_to_string(&log)?;
        for change in ["from=up to=down", "from=down to=up"] {
            let seen = log
                .lines()
                .any(|line| line.contains("target=redis") && line.contains(change));
            anyhow::ensure!(seen, "no {change} in\n{log}");
        }
        Ok(())
    })
    .await?;
    let done = ops.good(&["--json", "status"]).await?;
    let state: Value = serde_json::from_str(&done.out)?;
    let targets = state["targets"].as_array().context("no targets")?;
    assert_eq!(targets.len(), 4);
    Ok(())
}

#[tokio::test]
async fn an_edited_configuration_is_kept_and_a_broken_one_exits_78_with_its_place() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    ops.good(&["up"]).await?;
    let file = ops.home().join("serve.yaml");
    let mut text = std::fs::read_to_string(&file)?;
    text.push_str("compat_metrics: true\n");
    std::fs::write(&file, &text)?;
    let kept = ops.good(&["up"]).await?;
    assert!(kept.err.contains("stays as it is"), "{}", kept.said());
    assert_eq!(std::fs::read_to_string(&file)?, text);
    text.push_str("nonsense: 1\n");
    std::fs::write(&file, &text)?;
    let broken = ops.run(&["up"]).await?;
    assert_eq!(broken.code, 78, "{}", broken.said());
    assert!(broken.err.contains("serve.yaml:"), "{}", broken.said());
    Ok(())
}

#[tokio::test]
async fn wrong_usage_is_64_and_wrong_settings_are_78() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    assert_eq!(ops.run(&["no-such-command"]).await?.code, 64);
    assert_eq!(ops.run(&["services", "start", "mysql"]).await?.code, 64);
    let file = ops.dir().join("wrong.yaml");
    std::fs::write(&file, "services:\n  redis: { prot: 1 }\n")?;
    let wrong = [
        "services",
        "setup",
        "--settings",
        &file.display().to_string(),
    ];
    let done = ops.run(&wrong).await?;
    assert_eq!(done.code, 78, "{}", done.said());
    assert!(done.err.contains("prot"), "{}", done.said());
    assert_eq!(ops.run(&["--version"]).await?.code, 0);
    Ok(())
}
