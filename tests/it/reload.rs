//! A changed config takes effect without a restart; what did not change is not touched.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use rustix::process::Signal;
use serde_json::Value;

use crate::serve::{BRISK, LATER, SOON, Serve, config, value};

fn item(name: &str, redis: &Redis) -> String {
    format!("name: {name}, kind: redis, url: \"{}\"", redis.url())
}

async fn metric(serve: &Serve, name: &str) -> Result<Option<f64>> {
    Ok(value(&serve.get("/metrics").await?, name, &[]))
}

async fn until_reloads(serve: &Serve, count: f64) -> Result<()> {
    let waited = wait_for("a reload", LATER, async || {
        let now = metric(serve, "comind_config_reloads_total").await?;
        ensure!(now >= Some(count), "{now:?} reloads");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

async fn until_successful(serve: &Serve, wanted: f64) -> Result<()> {
    let waited = wait_for("the outcome of a reload", LATER, async || {
        let now = metric(serve, "comind_config_last_reload_successful").await?;
        ensure!(now == Some(wanted), "{now:?}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

async fn names(serve: &Serve) -> Result<Vec<String>> {
    let state = serve.state().await?;
    let targets = state["targets"].as_array().cloned().unwrap_or_default();
    let name = |target: &Value| target["name"].as_str().unwrap_or_default().to_owned();
    Ok(targets.iter().map(name).collect())
}

async fn until_names(serve: &Serve, wanted: &[&str]) -> Result<()> {
    let waited = wait_for("the targets of the new config", LATER, async || {
        let now = names(serve).await?;
        ensure!(now == wanted, "{now:?}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_targets_keep_their_state() -> Result<()> {
    let redis = Redis::start().await?;
    let (kept, gone) = (item("kept", &redis), item("gone", &redis));
    let serve = Serve::start(BRISK, &[kept.clone(), gone]).await?;
    let before = serve.until_up("kept").await?;
    serve.until_up("gone").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    let looks = async || {
        let text = serve.get("/metrics").await?;
        let looks = value(&text, "comind_probes_total", &[("target", "kept")]);
        Ok::<_, anyhow::Error>(looks)
    };
    let counted = looks().await?;

    // By a change of the file alone.
    serve.write_config(&config(BRISK, &[item("fresh", &redis), kept.clone()]))?;
    until_names(&serve, &["fresh", "kept"]).await?;
    serve.until_up("fresh").await?;
    let after = serve.target("kept").await?;
    ensure!(after["since"] == before["since"], "{before} {after}");
    ensure!(looks().await? >= counted, "the counters began anew");
    let text = serve.get("/metrics").await?;
    ensure!(!text.contains("\"gone\""), "{text}");
    ensure!(text.contains("\"fresh\""), "{text}");
    let flapped = events
        .since()
        .into_iter()
        .find(|seen| seen.data["target"] == "kept");
    ensure!(flapped.is_none(), "{flapped:?}");

    // A target of the same name that became another one starts afresh.
    let other = Redis::builder().password("fathom").start().await?;
    let changed = format!("name: kept, kind: redis, url: \"redis://{}\"", other.addr());
    serve.write_config(&config(BRISK, &[changed]))?;
    serve.until_is("kept", "down", "wrong_password").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reloads_too() -> Result<()> {
    let redis = Redis::start().await?;
    let serve = Serve::start(BRISK, &[item("cache", &redis)]).await?;
    let before = serve.until_up("cache").await?;
    serve.signal(Signal::HUP)?;
    until_reloads(&serve, 1.0).await?;
    until_successful(&serve, 1.0).await?;
    serve.until_looked("cache", 2).await?;
    let after = serve.target("cache").await?;
    ensure!(after["since"] == before["since"], "{before} {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_changes_nothing_and_says_so() -> Result<()> {
    let redis = Redis::start().await?;
    let cache = item("cache", &redis);
    let serve = Serve::start(BRISK, std::slice::from_ref(&cache)).await?;
    serve.until_up("cache").await?;
    until_successful(&serve, 1.0).await?;

    serve.write_config(&config(BRISK, &[format!("{cache}, colour: red")]))?;
    until_successful(&serve, 0.0).await?;
    ensure!(names(&serve).await? == ["cache"], "the old config is gone");
    serve.until_looked("cache", 2).await?;
    let log = serve.log()?;
    let place = format!("{}:4:", serve.config_file().display());
    ensure!(log.contains(&place) && log.contains("colour"), "{log}");

    serve.write_config(&config(BRISK, &[cache, item("fresh", &redis)]))?;
    until_successful(&serve, 1.0).await?;
    serve.until_up("fresh").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_file_reloads() -> Result<()> {
    let redis = Redis::builder().password("fathom").start().await?;
    let dir = tempfile::tempdir()?;
    let secret = dir.path().join("password");
    std::fs::write(&secret, "guess\n")?;
    let (addr, file) = (redis.addr(), secret.display());
    let item =
        format!("name: cache, kind: redis, url: \"redis://{addr}\", password_file: \"{file}\"");
    let serve = Serve::start(BRISK, &[item]).await?;
    serve.until_is("cache", "down", "wrong_password").await?;
    std::fs::write(&secret, "fathom\n")?;
    serve.until_up("cache").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_nothing_is_read_over_and_over() -> Result<()> {
    let redis = Redis::start().await?;
    let serve = Serve::start(BRISK, &[item("cache", &redis)]).await?;
    serve.until_up("cache").await?;
    let more = config(BRISK, &[item("cache", &redis), item("more", &redis)]);
    serve.write_config(&more)?;
    until_names(&serve, &["cache", "more"]).await?;
    let used = async || {
        let used = metric(&serve, "process_cpu_seconds_total").await?;
        used.context("no process_cpu_seconds_total")
    };
    let (began, before) = (Instant::now(), used().await?);
    serve.until_looked("cache", 20).await?;
    let share = (used().await? - before) / began.elapsed().as_secs_f64();
    // Two targets cost hundredths; a loop that wakes itself costs a core or more.
    ensure!(share < 0.5, "{share:.2} of a core is used at rest");
    Ok(())
}
