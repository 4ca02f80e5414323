//! The host runtime on the real servers: the whole life of the services, crashes of a server and
//! of its supervisor, and a port that is taken.

use anyhow::{Context as _, Result, ensure};
use comind_peers::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ops::{Ops, START, pid};

#[tokio::test]
async fn the_whole_life_of_the_services() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let first = ops.good(&["services", "setup"]).await?;
    for made in ["database dev", "bucket uploads", "queue jobs-dlq"] {
        assert!(first.err.contains(made), "{}", first.said());
    }
    let again = ops.good(&["services", "setup"]).await?;
    assert!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );

    let mut redis = ops.redis().await?;
    redis::cmd("SET")
        .arg("kept")
        .arg("yes")
        .exec_async(&mut redis)
        .await?;
    ops.good(&["services", "stop"]).await?;
    for service in ["postgresql", "minio", "redis", "elasticmq"] {
        assert_eq!(ops.row(service).await?["condition"], "stopped");
    }
    let started = ops.good(&["services", "start"]).await?;
    assert!(
        !started.err.contains("made "),
        "all was kept: {}",
        started.said()
    );
    let mut redis = ops.redis().await?;
    let kept: String = redis::cmd("GET")
        .arg("kept")
        .query_async(&mut redis)
        .await?;
    assert_eq!(kept, "yes");

    let refused = ops.run(&["services", "clean"]).await?;
    assert_eq!(refused.code, 1, "{}", refused.said());
    assert!(refused.err.contains("--yes"), "{}", refused.said());
    let stranger = ops.home().join("data/stranger");
    std::fs::write(&stranger, "not ours")?;
    ops.good(&["services", "clean", "--yes"]).await?;
    assert!(stranger.exists(), "only what is ours is removed");
    assert!(!ops.home().join("data/postgresql").exists());
    assert_eq!(ops.row("postgresql").await?["condition"], "absent");
    Ok(())
}

#[tokio::test]
async fn a_crash_is_repaired_and_counted_a_stop_is_not_undone() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    ops.good(&["services", "start", "redis"]).await?;
    let before = ops.row("redis").await?;
    kill_process(pid(&before)?, Signal::KILL)?;
    let after = ops
        .until("redis", |row| {
            row["condition"] == "ready" && row["restarts"] == 1
        })
        .await?;
    assert_ne!(before["pid"], after["pid"]);
    assert_eq!(after["reason"], "last crash: killed by signal 9");

    // Somebody ends it politely from outside: that was meant.
    kill_process(pid(&after)?, Signal::TERM)?;
    ops.until("redis", |row| row["condition"] == "stopped")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_dead_supervisors_server_is_taken_over_and_a_strangers_pid_is_safe() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    ops.good(&["services", "start", "redis"]).await?;
    let server = ops.row("redis").await?;
    let run = ops.home().join("run/redis");
    kill_process(noted(&run.join("supervisor.pid.json"), "")?, Signal::KILL)?;
    let died = |row: &Value| {
        row["reason"]
            .as_str()
            .is_some_and(|why| why.contains("supervisor"))
    };
    ops.until("redis", died).await?;
    let taken = ops.good(&["services", "start", "redis"]).await?;
    assert!(taken.err.contains("taken over"), "{}", taken.said());
    assert_eq!(ops.row("redis").await?["pid"], server["pid"]);

    // A process which was killed together with its supervisor, and whose pid a stranger has now.
    ops.good(&["services", "stop", "redis"]).await?;
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn()?;
    let note = serde_json::json!({
        "process": { "pid": stranger.id(), "start_ticks": 1, "boot_id": boot_id()? },
        "fingerprint": "x"
    });
    std::fs::write(run.join("server.pid.json"), note.to_string())?;
    std::fs::write(run.join("supervisor.pid.json"), note["process"].to_string())?;
    let stopped = ops.good(&["services", "stop", "redis"]).await;
    let started = ops.good(&["services", "start", "redis"]).await;
    let alive = stranger.try_wait()?.is_none();
    stranger.kill()?;
    stranger.wait()?;
    assert!(alive, "the stranger was left alone");
    stopped?;
    started?;
    Ok(())
}

#[tokio::test]
async fn a_setup_killed_while_it_makes_the_data_directory_is_made_good_by_the_next() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let mut setup = ops.spawn(&["services", "start", "postgresql"])?;
    let data = ops.home().join("data");
    let begun = wait_for("initdb to begin", START, async || {
        let made = std::fs::read_dir(&data)?.flatten().count();
        ensure!(made > 0, "nothing in {} yet", data.display());
        Ok(())
    });
    let begun = begun.await;
    setup.kill()?;
    setup.wait()?;
    begun?;
    assert!(
        !data.join("postgresql").exists(),
        "killed before it was whole"
    );
    ops.good(&["services", "start", "postgresql"]).await?;
    assert_eq!(ops.row("postgresql").await?["condition"], "ready");
    Ok(())
}

#[tokio::test]
async fn a_taken_port_names_its_holder_and_the_required_decide() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let own = format!("pid {}", std::process::id());
    let redis = std::net::TcpListener::bind(("127.0.0.1", ops.port("COMIND_REDIS_PORT")?))?;
    let optional = ops.good(&["services", "start", "redis"]).await?;
    assert!(optional.err.contains(&own), "{}", optional.said());
    assert!(optional.err.contains("--redis-port"), "{}", optional.said());
    drop(redis);
    let _minio = std::net::TcpListener::bind(("127.0.0.1", ops.port("COMIND_MINIO_PORT")?))?;
    let required = ops.run(&["services", "start", "minio"]).await?;
    assert_eq!(required.code, 1, "{}", required.said());
    assert!(required.err.contains(&own), "{}", required.said());
    Ok(())
}

fn noted(path: &std::path::Path, pointer: &str) -> Result<Pid> {
    let note: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let note = note.pointer(pointer).context("no such note")?;
    pid(note)
}

fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}
