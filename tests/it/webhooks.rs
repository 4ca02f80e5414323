//! Webhooks against a real HTTP receiver: signed, in order, none lost, none doubled.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use tokio::net::TcpListener;

use crate::disk::SmallDisk;
use crate::receiver::{Posted, Receiver};
use crate::serve::{LATER, SOON, Serve, hides};

fn config(receiver: &Receiver, targets: &[String]) -> String {
    let mut text = format!(
        "api: {{ listen: \"LISTEN\" }}\ndata_dir: DATA\ndefaults: {{ interval: 500ms, timeout: 1s }}\n\
         notify: {{ webhooks: [{{ url: \"http://{}/hook/t0ken\", secret: sesame }}] }}\ntargets:\n",
        receiver.addr()
    );
    for target in targets {
        text.push_str(&format!("  - {{ {target} }}\n"));
    }
    text
}

fn words(posted: &[Posted]) -> Vec<String> {
    let word = |posted: &Posted| {
        let json = posted.json();
        let name = json["alert"]["target"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        format!("{name} {}", json["status"].as_str().unwrap_or_default())
    };
    posted.iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_and_so_is_its_end() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut redis = Redis::start().await?;
    let item = format!(
        "name: cache, kind: redis, required: true, url: \"{}\"",
        redis.url()
    );
    let serve = Serve::start_with(&config(&receiver, &[item])).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    let posted = receiver.until(1, SOON).await?;
    let told = posted[0].json();
    ensure!(told["status"] == "firing", "{told}");
    ensure!(told["alert"]["name"] == "RequiredServiceDown", "{told}");
    ensure!(told["alert"]["severity"] == "page", "{told}");
    // A dying server may still take a connection and drop it.
    let reason = told["alert"]["reason"].as_str().unwrap_or_default();
    ensure!(["refused", "connection_closed"].contains(&reason), "{told}");
    ensure!(
        told["alert"]["advice"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{told}"
    );
    let since = serve.target("cache").await?["since"].clone();
    ensure!(told["alert"]["starts_at"] == since, "{told} {since}");
    signed(&posted[0])?;
    redis.restart().await?;
    let posted = receiver.until(2, LATER).await?;
    ensure!(
        words(&posted) == ["cache firing", "cache resolved"],
        "{posted:?}"
    );
    let (first, second) = (posted[0].json(), posted[1].json());
    ensure!(first["alert"]["id"] == second["alert"]["id"], "{posted:?}");
    ensure!(second["alert"]["ends_at"].is_string(), "{second}");
    hides("the log", &serve.log()?, &["t0ken", "sesame"])?;
    hides(
        "the metrics",
        &serve.get("/metrics").await?,
        &["t0ken", "sesame"],
    )?;
    let alerts = serve.get("/api/v1/alerts").await?;
    hides("the alerts", &alerts, &["t0ken", "sesame"])
}

fn signed(posted: &Posted) -> Result<()> {
    let header = |name: &str| {
        let value = posted
            .headers
            .get(name)
            .with_context(|| format!("no {name}"))?;
        Ok::<_, anyhow::Error>(value.to_str()?.to_owned())
    };
    ensure!(header("comind-event-id")? == posted.json()["id"].as_str().unwrap_or_default());
    let signature = header("comind-signature")?;
    let (time, tag) = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .context("another form")?;
    let made = comind_peers::hmac::sha256_hex("sesame", &format!("{time}.{}", posted.text()))?;
    ensure!(made == tag, "{signature}, but openssl makes {made}");
    Ok(())
}

/// The program is killed in the middle of an outage: afterwards the outage is the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_an_outage_changes_neither_its_start_nor_its_id() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut redis = Redis::start().await?;
    let item = format!(
        "name: cache, kind: redis, required: true, url: \"{}\"",
        redis.url()
    );
    let mut serve = Serve::start_with(&config(&receiver, &[item])).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    let first = receiver.until(1, SOON).await?[0].json();
    serve.kill()?;
    serve.start_again().await?;
    serve.until_is("cache", "down", "refused").await?;
    serve.kill()?;
    redis.restart().await?;
    serve.start_again().await?;
    let posted = receiver.until(2, LATER).await?;
    ensure!(
        words(&posted) == ["cache firing", "cache resolved"],
        "{posted:?}"
    );
    let second = posted[1].json();
    for member in ["id", "starts_at"] {
        ensure!(
            first["alert"][member] == second["alert"][member],
            "{first} {second}"
        );
    }
    Ok(())
}

/// 500 targets go and come back while the receiver refuses everything and the program is killed
/// again and again: each of the 1,000 messages arrives, in order for its target.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_receiver_refuses_and_we_are_killed() -> Result<()> {
    const TARGETS: usize = 500;
    let receiver = Receiver::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let items: Vec<_> = (0..TARGETS)
        .map(|n| format!("name: t{n}, kind: tcp, url: \"tcp://{address}\""))
        .collect();
    let mut serve = Serve::start_with(&config(&receiver, &items)).await?;
    serve.until_platform("up").await?;
    receiver.refuse(true);
    accepting.abort();
    until_open(&serve, TARGETS).await?;
    serve.kill()?;
    serve.start_again().await?;
    serve.until_is("t0", "down", "refused").await?;
    serve.kill()?;
    let listener = TcpListener::bind(address).await?;
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    serve.start_again().await?;
    serve.until_platform("up").await?;
    until_open(&serve, 0).await?;
    ensure!(receiver.refused() > 0, "nothing was refused");
    serve.kill()?;
    receiver.refuse(false);
    serve.start_again().await?;
    let posted = receiver.until(2 * TARGETS, LATER).await?;
    accepting.abort();
    let ids: HashSet<_> = posted
        .iter()
        .map(|posted| posted.json()["id"].to_string())
        .collect();
    ensure!(ids.len() == 2 * TARGETS, "{} different ids", ids.len());
    for n in 0..TARGETS {
        let name = format!("t{n} ");
        let of: Vec<_> = words(&posted)
            .into_iter()
            .filter(|word| word.starts_with(&name))
            .collect();
        ensure!(
            of == [format!("t{n} firing"), format!("t{n} resolved")],
            "{of:?}"
        );
    }
    Ok(())
}

/// A message that the disk did not take is not forgotten: it is told when there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_what_is_told_and_loses_none_of_it() -> Result<()> {
    let disk = SmallDisk::new(None)?;
    let receiver = Receiver::start().await?;
    let mut redis = Redis::start().await?;
    let item = format!(
        "name: cache, kind: redis, required: true, url: \"{}\"",
        redis.url()
    );
    let data = disk.place().join("data").display().to_string();
    let text = config(&receiver, &[item]).replace("DATA", &data);
    let serve = Serve::start_with(&text).await?;
    serve.until_up("cache").await?;
    disk.fill()?;
    redis.kill()?;
    let waited = wait_for("the page to say that nothing is kept", LATER, async || {
        let page = serve.get("/").await?;
        ensure!(page.contains("would not survive a restart"), "it does not");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))?;
    ensure!(receiver.posted().is_empty(), "told before it was kept");
    disk.free()?;
    let posted = receiver.until(1, LATER).await?;
    ensure!(words(&posted) == ["cache firing"], "{posted:?}");
    redis.restart().await?;
    let posted = receiver.until(2, LATER).await?;
    ensure!(
        words(&posted) == ["cache firing", "cache resolved"],
        "{posted:?}"
    );
    Ok(())
}

async fn until_open(serve: &Serve, count: usize) -> Result<()> {
    let what = format!("{count} open alerts");
    let waited = wait_for(&what, LATER, async || {
        let alerts: serde_json::Value = serde_json::from_str(&serve.get("/api/v1/alerts").await?)?;
        let open = alerts["alerts"].as_array().map_or(0, Vec::len);
        ensure!(open == count, "{open}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_and_maintenance_are_muted_and_said_to_be() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut redis = Redis::start().await?;
    let url = redis.url();
    let addr = redis.addr();
    let items = [
        format!("name: cache, kind: redis, required: true, url: \"{url}\""),
        format!("name: shop, kind: tcp, url: \"tcp://{addr}\", depends_on: [cache]"),
        format!("name: lab, kind: tcp, url: \"tcp://{addr}\""),
    ];
    let text = config(&receiver, &items).replace(
        "targets:\n",
        "maintenance: [{ name: move, targets: [\"l*\"], from: \"2020-01-01T00:00:00Z\", until: \"2999-01-01T00:00:00Z\" }]\ntargets:\n",
    );
    let serve = Serve::start_with(&text).await?;
    serve.until_platform("up").await?;
    redis.kill()?;
    let posted = receiver.until(1, SOON).await?;
    ensure!(words(&posted) == ["cache firing"], "{posted:?}");
    until_open(&serve, 3).await?;
    let alerts: serde_json::Value = serde_json::from_str(&serve.get("/api/v1/alerts").await?)?;
    let muted = |name: &str| {
        let mut open = alerts["alerts"].as_array().into_iter().flatten();
        open.find(|open| open["alert"]["target"] == name)
            .map(|open| open["muted"].to_string())
    };
    ensure!(
        muted("shop").is_some_and(|m| m.contains("dependency") && m.contains("cache")),
        "{alerts}"
    );
    ensure!(
        muted("lab").is_some_and(|m| m.contains("maintenance") && m.contains("move")),
        "{alerts}"
    );
    let page = serve.get("/").await?;
    ensure!(
        page.contains("depends on") && page.contains("maintenance"),
        "the page says nothing of it"
    );
    redis.restart().await?;
    let posted = receiver.until(2, LATER).await?;
    ensure!(
        words(&posted) == ["cache firing", "cache resolved"],
        "{posted:?}"
    );
    until_open(&serve, 0).await
}
