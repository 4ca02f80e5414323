//! The docker runtime on a real daemon, with images made on the spot.

use anyhow::{Context as _, Result};
use comind_peers::dockerd::Dockerd;
use comind_peers::images;
use comind_peers::port::Port;
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::ops::{Ops, pid};

/// The services of `dockerd`, set up from a settings file that names the test images.
async fn set_up(dockerd: &Dockerd) -> Result<(Ops, String)> {
    images::load_all(dockerd).await?;
    let host = dockerd.host();
    let ops = Ops::new("docker", &[("DOCKER_HOST", &host)])?;
    let settings = json!({ "services": {
        "postgresql": { "image": images::POSTGRES },
        "minio": { "image": images::MINIO },
        "redis": { "image": images::REDIS },
        "elasticmq": { "image": images::ELASTICMQ },
    }});
    let file = ops.dir().join("settings.yaml");
    std::fs::write(&file, settings.to_string())?;
    let file = file.display().to_string();
    Ok((ops, file))
}

async fn names(dockerd: &Dockerd, path: &str, list: &str, name: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(&dockerd.request(Method::GET, path, "").await?)?;
    let all = if list.is_empty() {
        &answer
    } else {
        &answer[list]
    };
    let all = all.as_array().cloned().unwrap_or_default();
    Ok(all.iter().map(|one| format!("{} ", one[name])).collect())
}

#[tokio::test]
async fn the_whole_life_of_the_containers() -> Result<()> {
    let dockerd = Dockerd::start().await?;
    let (ops, settings) = set_up(&dockerd).await?;
    let first = ops
        .good(&["services", "setup", "--settings", &settings])
        .await?;
    for made in [
        "database dev",
        "bucket uploads",
        "queue jobs-dlq",
        "network comind-ops-network",
    ] {
        assert!(first.err.contains(made), "{}", first.said());
    }
    let again = ops
        .good(&["services", "setup", "--settings", &settings])
        .await?;
    assert!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );

    crash(&ops).await?;
    let mut redis = ops.redis().await?;
    redis::cmd("SET")
        .arg("kept")
        .arg("yes")
        .exec_async(&mut redis)
        .await?;
    ops.good(&["services", "stop"]).await?;
    ops.good(&["services", "start"]).await?;
    kept(&ops).await?;

    // Changed settings: a new container on the same volume.
    let port = Port::free()?;
    let moved = port.number().to_string();
    ops.good(&["services", "start", "minio", "--minio-port", &moved])
        .await?;
    let status = ["--json", "services", "status", "--minio-port", &moved];
    let status: Value = serde_json::from_str(&ops.good(&status).await?.out)?;
    assert_eq!(status["services"][1]["condition"], "ready", "{status}");
    clean(&ops, &dockerd).await
}

/// A killed server is started again by the daemon, and counted.
async fn crash(ops: &Ops) -> Result<()> {
    let before = ops.row("redis").await?;
    kill_process(seen_from_here(pid(&before)?)?, Signal::KILL)?;
    let after = ops
        .until("redis", |row| {
            row["condition"] == "ready" && row["restarts"] == 1
        })
        .await?;
    assert_ne!(before["pid"], after["pid"]);
    Ok(())
}

/// The daemon of a test lives in a process namespace of its own, and tells that one's pids. The
/// kernel lists a process's pids in all namespaces, ours first.
fn seen_from_here(pid: Pid) -> Result<Pid> {
    let inside = pid.as_raw_nonzero().to_string();
    let mut found = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let redis = status.starts_with("Name:\tredis-server\n");
        let pids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?;
        let pids: Vec<&str> = pids.split_whitespace().collect();
        let here = pids.first()?.parse().ok()?;
        (redis && pids.get(1) == Some(&inside.as_str())).then_some(here)
    });
    let here = found
        .next()
        .context("no Redis has this pid in a daemon's namespace")?;
    Pid::from_raw(here).context("no process has this pid")
}

async fn kept(ops: &Ops) -> Result<()> {
    let mut redis = ops.redis().await?;
    let kept: String = redis::cmd("GET")
        .arg("kept")
        .query_async(&mut redis)
        .await?;
    assert_eq!(kept, "yes");
    Ok(())
}

/// Only what is ours goes.
async fn clean(ops: &Ops, dockerd: &Dockerd) -> Result<()> {
    let foreign = json!({ "Image": images::REDIS }).to_string();
    dockerd
        .request(Method::POST, "/containers/create?name=foreign", &foreign)
        .await?;
    dockerd
        .request(Method::POST, "/volumes/create", r#"{"Name":"foreign"}"#)
        .await?;
    assert_eq!(
        ops.run(&["services", "clean"]).await?.code,
        1,
        "it asks first"
    );
    ops.good(&["services", "clean", "--yes"]).await?;
    let containers = names(dockerd, "/containers/json?all=1", "", "Names").await?;
    assert!(
        containers.contains("foreign") && !containers.contains("comind-ops"),
        "{containers}"
    );
    let volumes = names(dockerd, "/volumes", "Volumes", "Name").await?;
    assert!(
        volumes.contains("foreign") && !volumes.contains("comind-ops"),
        "{volumes}"
    );
    let networks = names(dockerd, "/networks", "", "Name").await?;
    assert!(!networks.contains("comind-ops"), "{networks}");
    Ok(())
}

#[tokio::test]
async fn conflicts_are_named() -> Result<()> {
    let dockerd = Dockerd::start().await?;
    let (ops, settings) = set_up(&dockerd).await?;
    let start = ["services", "start", "redis", "--settings", &settings];

    let stranger = json!({ "Image": images::REDIS }).to_string();
    let create = "/containers/create?name=comind-ops-redis";
    dockerd.request(Method::POST, create, &stranger).await?;
    let done = ops.good(&start).await?;
    assert!(done.err.contains("not ours"), "{}", done.said());
    assert!(done.err.contains("docker rename"), "{}", done.said());
    let remove = "/containers/comind-ops-redis?force=1";
    dockerd.request(Method::DELETE, remove, "").await?;

    let port = ops.port("COMIND_REDIS_PORT")?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let done = ops.good(&start).await?;
    let own = format!("pid {}", std::process::id());
    assert!(done.err.contains(&own), "{}", done.said());
    drop(listener);

    publish(&dockerd, port).await?;
    let done = ops.good(&start).await?;
    assert!(done.err.contains("container in-the-way"), "{}", done.said());
    Ok(())
}

/// A container of somebody else on our port.
async fn publish(dockerd: &Dockerd, port: u16) -> Result<()> {
    dockerd
        .request(Method::POST, "/networks/create", r#"{"Name":"theirs"}"#)
        .await?;
    let body = json!({
        "Image": images::REDIS,
        "ExposedPorts": { "6379/tcp": {} },
        "HostConfig": { "NetworkMode": "theirs", "PortBindings":
            { "6379/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }] } }
    });
    let create = "/containers/create?name=in-the-way";
    dockerd
        .request(Method::POST, create, &body.to_string())
        .await?;
    let start = "/containers/in-the-way/start";
    dockerd
        .request(Method::POST, start, "")
        .await
        .context("in-the-way")
        .map(drop)
}
