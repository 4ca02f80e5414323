//! The health of the whole, from the healths of its parts, end to end.

use anyhow::{Result, ensure};
use comind_peers::redis::Redis;

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
