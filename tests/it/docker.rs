//! Kind `docker` on a real daemon, with an image made on the spot.

use anyhow::{Context, Result, ensure};
use comind_peers::dockerd::Dockerd;
use comind_peers::images;
use http::Method;
use serde_json::{Value, json};

use crate::serve::{SOON, Serve};

const BRISK: &str = "{ interval: 500ms, timeout: 2s }";

/// A Redis in a container; its port is one of this machine.
async fn run(dockerd: &Dockerd, name: &str, labels: Value) -> Result<()> {
    let made = json!({
        "Image": images::REDIS,
        "Labels": labels,
        "HostConfig": { "NetworkMode": "host", "RestartPolicy": { "Name": "always" } },
        "Cmd": ["redis-server", "--port", port(name), "--save", ""],
        "Healthcheck": { "Test": ["CMD", "redis-cli", "-p", port(name), "ping"], "Interval": 1_000_000_000u64 },
    });
    let path = format!("/containers/create?name={name}");
    dockerd
        .request(Method::POST, &path, &made.to_string())
        .await?;
    act(dockerd, name, "start").await
}

/// Far from where the tests take their ports.
fn port(name: &str) -> &'static str {
    if name == "cache" { "61379" } else { "61380" }
}

async fn act(dockerd: &Dockerd, name: &str, what: &str) -> Result<()> {
    let path = format!("/containers/{name}/{what}");
    dockerd.request(Method::POST, &path, "").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_states_and_hints_for_what_is_in_them() -> Result<()> {
    let mut dockerd = Dockerd::start().await?;
    images::load(&dockerd, images::REDIS).await?;
    run(&dockerd, "cache", json!({ "comind.pro/target": "redis" })).await?;
    run(&dockerd, "other", json!({})).await?;
    let socket = dockerd.socket().display().to_string();
    let items = [
        format!(
            "name: docker, kind: docker, socket: {socket}, containers: [\"cac*\"], require: [cache]"
        ),
        // So rarely that only a hint can be the cause.
        "name: redis, kind: redis, url: \"redis://127.0.0.1:61379\", interval: 1h, heartbeat: 1h"
            .to_owned(),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    let cache = serve.until_up("docker/cache").await?;
    ensure!(
        cache["required"] == true && cache["kind"] == "docker_container",
        "{cache}"
    );
    serve.until_up("redis").await?;
    ensure!(
        serve.target("docker/other").await.is_err(),
        "it was not chosen"
    );

    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    act(&dockerd, "cache", "pause").await?;
    let paused = events.transition("docker/cache", "down", SOON).await?;
    ensure!(paused.data["reason"] == "suspended", "{paused:?}");
    let inside = events.transition("redis", "down", SOON).await?;
    let hint = inside.data["hint"].as_str().context("no hint")?.to_owned();
    ensure!(
        ["container_event", "connection_silent"].contains(&hint.as_str()),
        "{inside:?}"
    );
    act(&dockerd, "cache", "unpause").await?;
    serve.until_up("docker/cache").await?;
    serve.until_up("redis").await?;

    act(&dockerd, "cache", "stop?t=1").await?;
    serve.until_is("docker/cache", "down", "exited").await?;
    serve.until_platform("down").await?;
    act(&dockerd, "cache", "start").await?;
    serve.until_up("docker/cache").await?;

    // The daemon goes: nothing is known of its containers; it is back: so are they.
    dockerd.kill()?;
    serve
        .until_is("docker/cache", "unknown", "parent_out")
        .await?;
    dockerd.restart().await?;
    serve.until_up("docker").await?;
    serve.until_up("docker/cache").await?;

    dockerd
        .request(Method::DELETE, "/containers/cache?force=true", "")
        .await?;
    let gone = comind_peers::wait::wait_for("the part to be gone", SOON, async || {
        ensure!(
            serve.target("docker/cache").await.is_err(),
            "it is still there"
        );
        Ok(())
    });
    gone.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_not_there_is_named() -> Result<()> {
    let item = "name: docker, kind: docker, socket: /run/no-such-docker.sock".to_owned();
    let serve = Serve::start(BRISK, &[item]).await?;
    let down = serve.until_is("docker", "down", "refused").await?;
    let told = down["message"].as_str().unwrap_or_default();
    ensure!(told.contains("/run/no-such-docker.sock"), "{told}");
    Ok(())
}
