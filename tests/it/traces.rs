//! Traces by OTLP: what is delivered, and that a collector of them which is out harms nobody.

use anyhow::{Result, ensure};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;

use crate::receiver::Receiver;
use crate::serve::{BRISK, LATER, Serve, config};

async fn start(receiver: &Receiver, redis: &Redis) -> Result<Serve> {
    let item = format!("name: cache, kind: redis, url: \"{}\"", redis.url());
    let endpoint = format!("http://{}", receiver.addr());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("COMIND_LOG", "info"),
    ];
    Serve::start_in(&config(BRISK, &[item]), &environment).await
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_and_requests_are_spans() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut redis = Redis::builder().password("fathom").start().await?;
    let serve = start(&receiver, &redis).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    serve.until_is("cache", "down", "refused").await?;
    // Protobuf has its texts as they are.
    let wanted = [
        "service.name",
        "comind-ops",
        "deep look",
        "cache",
        "refused",
        "/api/v1/state",
    ];
    let waited = wait_for("the spans", LATER, async || {
        let posted = receiver.posted();
        let all: String = posted.iter().map(|posted| posted.text.as_str()).collect();
        let missing = wanted.iter().find(|text| !all.contains(**text));
        ensure!(
            missing.is_none(),
            "{missing:?} is missing in {} deliveries",
            posted.len()
        );
        ensure!(!all.contains("fathom"), "a password is in the spans");
        let kind = posted[0].headers.get("content-type");
        ensure!(
            kind.is_some_and(|kind| kind == "application/x-protobuf"),
            "{kind:?}"
        );
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))?;
    // Spans are no part of the log.
    ensure!(!serve.log()?.contains("deep look"), "{}", serve.log()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_traces_that_is_out_harms_nobody() -> Result<()> {
    let receiver = Receiver::start().await?;
    receiver.refuse(true);
    let redis = Redis::start().await?;
    let mut serve = start(&receiver, &redis).await?;
    serve.until_up("cache").await?;
    let waited = wait_for("a refused delivery", LATER, async || {
        ensure!(receiver.refused() > 0, "none so far");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))?;
    serve.until_looked("cache", 3).await?;
    receiver.refuse(false);
    receiver.until(1, LATER).await?;
    serve.stop()
}
