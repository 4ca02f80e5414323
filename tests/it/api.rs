//! The HTTP API as its readers see it: readiness, events, probes, the end.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use comind_collector::api::{PATHS, STREAMS};
use comind_peers::redis::Redis;
use comind_peers::relay::{Mode, Relay};
use comind_peers::wait::{Hopeless, wait_for};
use serde_json::Value;

use crate::events::{Events, Seen};
use crate::serve::{BRISK, LATER, SOON, Serve, USUAL, config, run_to_end};

fn item(name: &str, redis: &Redis) -> String {
    format!(
        "name: {name}, kind: redis, required: true, url: \"{}\"",
        redis.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_only_after_the_first_looks() -> Result<()> {
    let redis = Redis::start().await?;
    let relay = Relay::start(redis.addr()).await?;
    relay.set(Mode::Blackhole).await?;
    let slow = format!(
        "name: slow, kind: redis, url: \"{}\", timeout: 3s",
        redis.url_via(relay.addr())
    );
    let serve = Serve::start(USUAL, &[item("quick", &redis), slow]).await?;
    ensure!(serve.ask("/livez", &[]).await?.status() == 200, "not alive");
    // First that the config is not in force, for a moment, then who was not looked at.
    wait_for("readiness to name the slow one", SOON, async || {
        let answer = serve.ask("/readyz", &[]).await?;
        if answer.status() != 503 {
            return Err(Hopeless("ready before the first looks".to_owned()).into());
        }
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        ensure!(text.contains("slow"), "{text}");
        Ok(())
    })
    .await?;
    wait_for("readiness", LATER, async || {
        serve.get("/readyz").await.map(drop)
    })
    .await?;
    ensure!(
        serve.target("slow").await?["health"] != "up",
        "a black hole is up"
    );
    ensure!(
        serve.target("quick").await?["health"] == "up",
        "not looked at"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_begin_whole_and_resume_exactly() -> Result<()> {
    let mut redis = Redis::start().await?;
    let serve = Serve::start(USUAL, &[item("cache", &redis)]).await?;
    serve.until_up("cache").await?;
    let mut first = serve.events().await?;
    let mut second = serve.events().await?;
    let begin = first.snapshot(SOON).await?;
    second.snapshot(SOON).await?;
    ensure!(begin.data["health"] == "up", "{begin:?}");
    ensure!(begin.data["targets"][0]["name"] == "cache", "{begin:?}");
    for _ in 0..2 {
        redis.kill()?;
        first.transition("cache", "down", SOON).await?;
        redis.restart().await?;
        first.transition("cache", "up", LATER).await?;
    }
    second.transition("cache", "up", LATER).await?;
    second.transition("cache", "up", LATER).await?;
    let ids = |events: &Events| {
        events
            .all()
            .iter()
            .map(|seen| seen.id.clone())
            .collect::<Vec<_>>()
    };
    ensure!(
        ids(&first) == ids(&second),
        "{:?} {:?}",
        ids(&first),
        ids(&second)
    );
    let transitions: Vec<Seen> = first.all().split_off(1);
    for pair in transitions.windows(2) {
        let seq = |seen: &Seen| seen.data["seq"].as_u64();
        ensure!(
            seq(&pair[1]) == seq(&pair[0]).map(|seq| seq + 1),
            "{pair:?}"
        );
    }
    ensure!(transitions.len() == 4, "{transitions:?}");

    // After the first of four, exactly three are missed.
    let last = transitions.first().context("no transition")?.id.clone();
    let mut resumed = Events::open(serve.addr(), Some(last.as_bytes())).await?;
    resumed.transition("cache", "up", SOON).await?;
    resumed.transition("cache", "up", SOON).await?;
    let missed: Vec<String> = transitions[1..]
        .iter()
        .map(|seen| seen.id.clone())
        .collect();
    ensure!(ids(&resumed) == missed, "{:?}", resumed.all());
    // After all of them none is, and the next one comes.
    let last = transitions.last().context("no transition")?.id.clone();
    let mut resumed = Events::open(serve.addr(), Some(last.as_bytes())).await?;
    redis.kill()?;
    resumed.transition("cache", "down", SOON).await?;
    ensure!(resumed.all().len() == 1, "{:?}", resumed.all());

    let future = format!("{}", u64::MAX);
    for garbage in [
        &b"-1"[..],
        b"1",
        b"nonsense",
        b"\xff\xfe",
        b"1e3",
        b"",
        future.as_bytes(),
    ] {
        let mut events = Events::open(serve.addr(), Some(garbage)).await?;
        let seen = events.next("any event", SOON, |_| true).await?;
        ensure!(seen.event == "snapshot", "{garbage:?}: {seen:?}");
        ensure!(seen.data["health"] == "down", "{seen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_in_number() -> Result<()> {
    let serve = Serve::start_with(&config(BRISK, &[])).await?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(serve.events().await?);
    }
    let answer = serve.ask("/api/v1/events", &[]).await?;
    ensure!(answer.status() == 503, "{}", answer.status());
    ensure!(
        serve.get("/livez").await? == "ok\n",
        "the rest is not served"
    );
    drop(streams);
    wait_for("room for a stream", LATER, async || {
        serve.events().await?.snapshot(SOON).await
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_comes_in_order() -> Result<()> {
    let redis = Redis::start().await?;
    let mut serve = Serve::start(USUAL, &[item("cache", &redis)]).await?;
    serve.until_up("cache").await?;
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut events = serve.events().await?;
        events.snapshot(SOON).await?;
        readers.push(events);
    }
    let begin = std::time::Instant::now();
    serve.stop()?;
    for mut events in readers {
        events.ended(SOON).await?;
        ensure!(
            events.since().is_empty(),
            "an end is no transition: {:?}",
            events.since()
        );
    }
    ensure!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    ensure!(
        tokio::net::TcpStream::connect(serve.addr()).await.is_err(),
        "it still listens"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() -> Result<()> {
    let serve = Serve::start_with(&config(BRISK, &[])).await?;
    let (code, text) = run_to_end(&["serve", "--config", text(&serve.config_file())?]).await?;
    ensure!(code == 1, "{code}: {text}");
    let addr = serve.addr().to_string();
    ensure!(
        text.contains(&addr) && text.contains("api.listen"),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_is_refused_with_its_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bad.yaml");
    std::fs::write(
        &file,
        "api: { listen: 127.0.0.1:1 }\ntargets:\n  - { name: a, kind: tcp, url: \"tcp://h:1\", colour: red }\n",
    )?;
    for args in [&["serve", "--config"][..], &["config", "check"]] {
        let file = text(&file)?;
        let (code, said) = run_to_end(&[args, &[file]].concat()).await?;
        ensure!(code == 78, "{args:?} ended with {code}: {said}");
        ensure!(said.contains(&format!("{file}:3:")), "{said}");
        ensure!(said.contains("colour"), "{said}");
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("not UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn single_probes_only_where_the_config_allows_them() -> Result<()> {
    let redis = Redis::start().await?;
    let addr = redis.addr();
    let path = format!("/probe?kind=redis&target=redis://{addr}");
    let closed = Serve::start(BRISK, &[item("cache", &redis)]).await?;
    ensure!(
        closed.ask(&path, &[]).await?.status() == 403,
        "allowed by default"
    );
    let config = format!(
        "{}probe: {{ allow: [\"redis://127.0.0.1:*\"] }}\n",
        config(BRISK, &[])
    );
    let open = Serve::start_with(&config).await?;
    let report: Value = serde_json::from_str(&open.get(&path).await?)?;
    ensure!(report["health"] == "up", "{report}");
    let secret = format!("/probe?kind=redis&target=redis://:fathom@{addr}.evil.test");
    let answer = open.ask(&secret, &[]).await?;
    ensure!(answer.status() == 403, "another host passed for 127.0.0.1");
    ensure!(
        !String::from_utf8_lossy(answer.body()).contains("fathom"),
        "a password is repeated"
    );
    let unknown = format!("/probe?kind=abacus&target=redis://{addr}");
    ensure!(
        open.ask(&unknown, &[]).await?.status() == 400,
        "an unknown kind"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_is_served_and_described() -> Result<()> {
    let redis = Redis::start().await?;
    let serve = Serve::start(BRISK, &[item("cache", &redis)]).await?;
    serve.until_up("cache").await?;
    let document: Value = serde_json::from_str(&serve.get("/api/v1/openapi.json").await?)?;
    let described = document["paths"].as_object().context("no paths")?;
    for path in PATHS {
        ensure!(described.contains_key(*path), "{path} is not described");
        match *path {
            // A stream has no end to wait for.
            "/api/v1/events" => drop(serve.events().await?.snapshot(SOON).await?),
            "/probe" => {
                let status = serve.ask(path, &[]).await?.status();
                ensure!(
                    status.is_client_error() && status != 404,
                    "{path}: {status}"
                );
            }
            _ => {
                let asked = path.replace("{badge}", "cache.svg");
                let asked = asked.replace("{target}", "cache");
                let answer = serve.ask(&asked, &[]).await?;
                ensure!(answer.status() == 200, "{path}: {}", answer.status());
                let bare = [
                    "content-security-policy",
                    "x-content-type-options",
                    "cache-control",
                ];
                let bare = bare
                    .iter()
                    .find(|name| !answer.headers().contains_key(**name));
                ensure!(bare.is_none(), "{path} has no header {bare:?}");
            }
        }
    }
    for path in described.keys() {
        let asked = path.replace("{path}", "page.css");
        if !PATHS.contains(&path.as_str()) {
            let status = serve.ask(&asked, &[]).await?.status();
            ensure!(status != 404, "{path} is described and not served");
        }
    }
    ensure!(
        serve.ask("/nothing", &[]).await?.status() == 404,
        "nothing is there"
    );
    Ok(())
}
