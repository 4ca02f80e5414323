//! The health of the whole, from the healths of its parts, end to end.

use std::time::Duration;

use anyhow::{Result, ensure};
use comind_peers::elasticmq::ElasticMq;
use comind_peers::postgres::Postgres;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::events::Seen;
use crate::serve::{BRISK, LATER, SOON, Serve, config};

fn item(name: &str, required: bool, redis: &Redis) -> String {
    let url = redis.url();
    format!("name: {name}, kind: redis, required: {required}, url: \"{url}\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn required_and_optional_parts() -> Result<()> {
    let mut needed = Redis::start().await?;
    let mut extra = Redis::start().await?;
    let items = [item("needed", true, &needed), item("extra", false, &extra)];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_platform("up").await?;

    extra.kill()?;
    serve.until_is("extra", "down", "refused").await?;
    serve.until_platform("degraded").await?;
    needed.kill()?;
    serve.until_is("needed", "down", "refused").await?;
    serve.until_platform("down").await?;
    let page = serve.get("/").await?;
    ensure!(
        page.contains("needed") && page.contains("refused"),
        "{page}"
    );
    extra.restart().await?;
    serve.until_up("extra").await?;
    serve.until_platform("down").await?;
    needed.restart().await?;
    serve.until_platform("up").await?;

    // A part that works but asks for attention.
    extra
        .execute(&["CONFIG", "SET", "maxmemory", "4mb"])
        .await?;
    extra
        .execute(&["SETRANGE", "ballast", "2800000", "x"])
        .await?;
    let degraded =
        |target: &serde_json::Value| target["health"] == "degraded" || target["health"] == "down";
    serve.until("extra", "degraded", LATER, degraded).await?;
    serve.until_platform("degraded").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_delays_no_other() -> Result<()> {
    use comind_peers::relay::{Mode, Relay};
    let mut redis = Redis::start().await?;
    let relay = Relay::start(redis.addr()).await?;
    relay.set(Mode::Blackhole).await?;
    let mut items = vec![item("well", true, &redis)];
    for hole in 0..20 {
        let url = redis.url_via(relay.addr());
        items.push(format!("name: hole-{hole}, kind: redis, url: \"{url}\""));
    }
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("well").await?;
    for hole in 0..20 {
        serve
            .until_is(&format!("hole-{hole}"), "down", "timeout")
            .await?;
    }
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    let at = redis.kill()?;
    let down = events.transition("well", "down", SOON).await?;
    let heard = down.at.saturating_duration_since(at);
    ensure!(heard.as_secs() < 1, "heard after {heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_without_targets_is_unknown() -> Result<()> {
    let serve = Serve::start_with(&config(BRISK, &[])).await?;
    serve.until_platform("unknown").await
}

/// With too few open files most targets cannot be asked: that is our fault and no outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_prober_out_of_descriptors_calls_no_outage() -> Result<()> {
    let mut redis = Redis::start().await?;
    let name = |place: u32| format!("cache-{place}");
    let items: Vec<_> = (0..60)
        .map(|place| item(&name(place), true, &redis))
        .collect();
    let few = config(BRISK, &items[..1]);
    let serve = Serve::start_limited(&few, 50).await?;
    serve.until_up(&name(0)).await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    serve.write_config(&config(BRISK, &items))?;
    events
        .next("one more target", LATER, |seen| seen.data["to"] == "up")
        .await?;
    wait_for("the descriptors to run out", LATER, async || {
        let _visitor = TcpStream::connect(serve.addr()).await?;
        let log = serve.log()?;
        ensure!(log.contains("Too many open files"), "{log}");
        Ok(())
    })
    .await?;
    redis.kill()?;
    let down = events
        .next("a real outage", SOON, |seen| seen.data["to"] == "down")
        .await;
    let down = down.map_err(|error| serve.blame(error))?;
    // A dying server may still take a connection and drop it.
    let reason = down.data["reason"].as_str().unwrap_or_default();
    let real = ["refused", "connection_closed"].contains(&reason);
    ensure!(real, "{down:?}");
    for place in 0..60 {
        serve.until_is(&name(place), "down", "refused").await?;
    }
    let blamed = |seen: &Seen| seen.data["reason"] == "prober_fault" && seen.data["to"] == "down";
    let blamed = events.all().into_iter().find(blamed);
    ensure!(blamed.is_none(), "{blamed:?}");
    Ok(())
}

/// A laptop that slept, a machine that was paused: what the program missed meanwhile is unknown
/// at worst, and never an outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_prober_that_was_suspended_calls_no_outage() -> Result<()> {
    let redis = Redis::start().await?;
    let postgres = Postgres::start().await?;
    let mq = ElasticMq::builder().queue("jobs").start().await?;
    let items = [
        item("cache", true, &redis),
        format!("name: db, kind: postgresql, url: \"{}\"", postgres.url()),
        format!(
            "name: mq, kind: elasticmq, url: \"{}\", queues: [jobs]",
            mq.url()
        ),
    ];
    let serve = Serve::start("{ interval: 200ms, deep_interval: 300ms }", &items).await?;
    for name in ["cache", "db", "mq"] {
        serve.until_up(name).await?;
    }
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    for _ in 0..3 {
        serve.signal(Signal::STOP)?;
        // Longer than its patience (3 s).
        let pause = Duration::from_secs(4);
        let _ = events.next("a pause", pause, |_| false).await;
        serve.signal(Signal::CONT)?;
        for name in ["cache", "db", "mq"] {
            serve.until_looked(name, 4).await?;
            serve.until_up(name).await?;
        }
    }
    let down: Vec<_> = events
        .all()
        .into_iter()
        .filter(|seen| seen.data["to"] == "down")
        .collect();
    ensure!(down.is_empty(), "{down:?}");
    Ok(())
}
