//! Kind `redis` against a real Redis.

use anyhow::{Context, Result, ensure};
use comind_peers::port::Port;
use comind_peers::redis::Redis;
use comind_peers::relay::Relay;

use crate::disk::SmallDisk;
use crate::faults;
use crate::serve::{BRISK, LATER, SOON, Serve, USUAL};

fn item(url: &str) -> String {
    format!("name: cache, kind: redis, url: \"{url}\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_process() -> Result<()> {
    let mut redis = Redis::start().await?;
    let serve = Serve::start(USUAL, &[item(&redis.url())]).await?;
    let target = serve.until_up("cache").await?;
    let facts = &target["facts"];
    ensure!(facts["role"] == "master", "{facts}");
    ensure!(facts["eviction"] == "noeviction", "{facts}");
    ensure!(facts["connected_clients"].as_f64() >= Some(1.0), "{facts}");
    ensure!(facts["memory_used_bytes"].as_f64() >= Some(1e5), "{facts}");
    faults::of_process(&serve, "cache", &mut redis).await
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_way() -> Result<()> {
    let redis = Redis::start().await?;
    let relay = Relay::start(redis.addr()).await?;
    let serve = Serve::start(USUAL, &[item(&redis.url_via(relay.addr()))]).await?;
    faults::of_the_way(&serve, "cache", &relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_rights() -> Result<()> {
    let redis = Redis::builder().password("fathom").start().await?;
    let addr = redis.addr();
    let items = [
        item(&redis.url()),
        format!("name: wrong, kind: redis, url: \"redis://:guess@{addr}\""),
        format!("name: none, kind: redis, url: \"redis://{addr}\""),
        format!("name: looker, kind: redis, url: \"redis://looker:lead@{addr}\""),
    ];
    redis
        .execute(&[
            "ACL", "SETUSER", "looker", "on", ">lead", "~*", "+ping", "+info", "+select", "+client",
        ])
        .await?;
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("cache").await?;
    serve.until_is("wrong", "down", "wrong_password").await?;
    serve.until_is("none", "down", "wrong_password").await?;
    serve
        .until_is("looker", "down", "permission_denied")
        .await?;
    redis
        .execute(&["ACL", "SETUSER", "looker", "+set", "+get", "+del"])
        .await?;
    serve.until_up("looker").await?;
    redis
        .execute(&["CONFIG", "SET", "requirepass", "changed"])
        .await?;
    serve.until_is("cache", "down", "wrong_password").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_idle_connections_is_no_outage() -> Result<()> {
    let redis = Redis::builder().setting("timeout", "1").start().await?;
    let rarely = "{ interval: 2s, heartbeat: 30s }";
    let serve = Serve::start(rarely, &[item(&redis.url())]).await?;
    serve.until_up("cache").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    serve.until_looked("cache", 8).await?;
    ensure!(events.since().is_empty(), "{:?}", events.since());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_runs_out() -> Result<()> {
    let redis = Redis::start().await?;
    let serve = Serve::start(BRISK, &[item(&redis.url())]).await?;
    serve.until_up("cache").await?;
    redis
        .execute(&["SETRANGE", "ballast", "16000000", "x"])
        .await?;
    let used = |target: &serde_json::Value| target["facts"]["memory_used_bytes"].as_f64();
    let filled = |target: &serde_json::Value| used(target) > Some(16e6);
    let target = serve.until("cache", "filled", LATER, filled).await?;
    // 6 % are left, far more than what a connection takes.
    let nearly = format!("{:.0}", used(&target).context("memory_used_bytes")? * 1.06);
    redis
        .execute(&["CONFIG", "SET", "maxmemory", &nearly])
        .await?;
    serve.until_is("cache", "degraded", "memory_high").await?;

    redis
        .execute(&["CONFIG", "SET", "maxmemory", "40mb"])
        .await?;
    serve.until_up("cache").await?;
    redis
        .execute(&["SETRANGE", "more", "50000000", "x"])
        .await?;
    serve.until_is("cache", "down", "out_of_memory").await?;

    // With eviction a full memory is the normal state of a cache: it works again.
    redis
        .execute(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await?;
    serve.until_up("cache").await?;
    Ok(())
}

/// Redis refuses writes while it cannot save.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() -> Result<()> {
    let redis = Redis::builder()
        .setting("enable-protected-configs", "local")
        .start()
        .await?;
    let disk = SmallDisk::new(None)?;
    let place = disk.place().to_str().context("not UTF-8")?;
    redis
        .execute(&["CONFIG", "SET", "appendonly", "no"])
        .await?;
    redis.execute(&["CONFIG", "SET", "dir", place]).await?;
    redis.execute(&["CONFIG", "SET", "save", "3600 1"]).await?;
    redis.execute(&["SET", "key", "value"]).await?;
    let serve = Serve::start(BRISK, &[item(&redis.url())]).await?;
    serve.until_up("cache").await?;
    disk.fill()?;
    redis.execute(&["BGSAVE"]).await?;
    serve.until_is("cache", "down", "disk_full").await?;
    disk.free()?;
    redis.execute(&["BGSAVE"]).await?;
    serve.until_up("cache").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_run_out() -> Result<()> {
    let redis = Redis::start().await?;
    let serve = Serve::start(BRISK, &[item(&redis.url())]).await?;
    serve.until_up("cache").await?;
    let mut admin = redis.admin().await?;
    let mut limit = async |clients: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxclients").arg(clients);
        command.exec_async(&mut admin).await
    };
    limit("2").await?;
    serve
        .until_is("cache", "down", "too_many_connections")
        .await?;
    limit("100").await?;
    serve.until_up("cache").await?;
    Ok(())
}

/// `key-load-delay` (microseconds a key) is there for tests of Redis itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_still_loads() -> Result<()> {
    let mut redis = Redis::builder()
        .setting("key-load-delay", "200")
        .start()
        .await?;
    let fill = "for i = 1, 15000 do redis.call('SET', 'key:' .. i, i) end";
    redis.execute(&["EVAL", fill, "0"]).await?;
    let serve = Serve::start(BRISK, &[item(&redis.url())]).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    serve.until_is("cache", "down", "refused").await?;
    redis.restart_unready()?;
    serve.until_is("cache", "down", "starting").await?;
    serve.until_up("cache").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_in_the_primarys_place() -> Result<()> {
    let primary = Redis::start().await?;
    let redis = Redis::start().await?;
    let reader = format!("{}, writable: false", item(&redis.url())).replace("cache,", "reader,");
    let serve = Serve::start(BRISK, &[item(&redis.url()), reader]).await?;
    serve.until_up("cache").await?;

    let dead = Port::free()?;
    follow(&redis, "127.0.0.1", &dead.number().to_string()).await?;
    serve
        .until_is("cache", "down", "replication_broken")
        .await?;
    follow(&redis, "127.0.0.1", &primary.addr().port().to_string()).await?;
    serve.until_is("cache", "down", "read_only").await?;
    let target = serve.until_up("reader").await?;
    ensure!(target["facts"]["role"] == "slave", "{target}");
    follow(&redis, "NO", "ONE").await?;
    serve.until_up("cache").await?;
    Ok(())
}

async fn follow(redis: &Redis, host: &str, port: &str) -> Result<()> {
    redis.execute(&["REPLICAOF", host, port]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deep_look_leaves_nothing_behind() -> Result<()> {
    let redis = Redis::start().await?;
    let serve = Serve::start(BRISK, &[item(&redis.url())]).await?;
    serve.until_up("cache").await?;
    serve.until_looked("cache", 8).await?;
    let mut admin = redis.admin().await?;
    // One look may be in the middle of its work.
    let left: i64 = redis::cmd("DBSIZE").query_async(&mut admin).await?;
    ensure!(left <= 1, "{left} keys are left");
    Ok(())
}
