//! `doctor`: what stands in the way is named before anything is brought up.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::ops::{Done, Ops};

/// The findings of `--json doctor`, whose exit code has to agree with them.
async fn findings(ops: &Ops) -> Result<Vec<Value>> {
    let done = ops.run(&["--json", "doctor"]).await?;
    let answer: Value = serde_json::from_str(&done.out).with_context(|| done.said())?;
    let all = answer["findings"].as_array().context("no findings")?;
    let problem = all.iter().any(|one| one["level"] == "problem");
    assert_eq!(done.code, i32::from(problem), "{}", done.said());
    assert_eq!(answer["well"], !problem);
    Ok(all.clone())
}

fn problems<'a>(all: &'a [Value], check: &str) -> Vec<&'a Value> {
    all.iter()
        .filter(|one| one["check"] == check && one["level"] == "problem")
        .collect()
}

#[tokio::test]
async fn a_port_that_somebody_else_has_is_a_problem_until_it_is_free() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let port = ops.port("COMIND_REDIS_PORT")?;
    let own = format!("pid {}", std::process::id());
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let held = findings(&ops).await?;
    let found = problems(&held, "ports");
    assert_eq!(found.len(), 1, "{held:?}");
    let says = found[0]["says"].as_str().context("it says nothing")?;
    assert!(says.contains(&format!("port {port} ")), "{says}");
    assert!(says.contains(&own), "{says}");
    let fix = found[0]["fix"].as_str().context("nothing to do")?;
    assert!(fix.contains("--redis-port"), "{fix}");

    let table: Done = ops.run(&["doctor"]).await?;
    assert_eq!(table.code, 1, "{}", table.said());
    assert!(table.out.contains(&own), "{}", table.said());
    assert!(table.out.contains("--redis-port"), "{}", table.said());

    drop(listener);
    let free = findings(&ops).await?;
    assert_eq!(problems(&free, "ports"), Vec::<&Value>::new());
    Ok(())
}

#[tokio::test]
async fn our_own_services_are_in_nobodys_way() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    ops.good(&["services", "start", "redis"]).await?;
    let all = findings(&ops).await?;
    assert_eq!(problems(&all, "ports"), Vec::<&Value>::new());
    Ok(())
}

#[tokio::test]
async fn whatever_is_not_well_has_something_to_do_and_looking_makes_nothing() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let all = findings(&ops).await?;
    for one in &all {
        let level = one["level"].as_str().context("no level")?;
        let fix = one["fix"].as_str().unwrap_or_default();
        assert_eq!(level != "ok", !fix.is_empty(), "{one}");
        assert!(one["says"].as_str().is_some_and(|says| !says.is_empty()));
    }
    for check in ["tools", "runtime", "networks", "disk", "memory", "inotify"] {
        assert!(all.iter().any(|one| one["check"] == check), "no {check}");
    }
    assert!(!ops.home().exists(), "a look has made the home");
    Ok(())
}

#[tokio::test]
async fn settings_that_make_no_sense_are_told_before_anything_is_looked_at() -> Result<()> {
    let mut ops = Ops::new("host", &[])?;
    let file = ops.dir().join("wrong.yaml");
    std::fs::write(&file, "services:\n  redis: { prot: 1 }\n")?;
    ops.set("COMIND_SETTINGS", &file.display().to_string());
    let done = ops.run(&["doctor"]).await?;
    assert_eq!(done.code, 78, "{}", done.said());
    Ok(())
}
