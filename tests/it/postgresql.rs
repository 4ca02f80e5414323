//! Kind `postgresql` against a real PostgreSQL.

use anyhow::{Context, Result, ensure};
use comind_peers::postgres::Postgres;
use comind_peers::relay::Relay;
use comind_peers::user::User;
use comind_peers::wait::wait_for;

use crate::disk::SmallDisk;
use crate::faults;
use crate::serve::{BRISK, LATER, SOON, Serve, USUAL};

fn item(url: &str) -> String {
    format!("name: db, kind: postgresql, required: true, url: \"{url}\"")
}

/// A server with a login `probe` that has no privileges, and the item that uses it.
async fn with_plain_user() -> Result<(Postgres, String)> {
    let postgres = Postgres::builder()
        .setting("max_connections", "20")
        .start()
        .await?;
    postgres
        .execute("CREATE ROLE probe LOGIN PASSWORD 'fathom'")
        .await?;
    let item = item(&postgres.url_as("probe", "fathom"));
    Ok((postgres, item))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_process() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let serve = Serve::start(USUAL, &[item(&postgres.url())]).await?;
    let target = serve.until_up("db").await?;
    let facts = &target["facts"];
    ensure!(facts["role"] == "primary", "{facts}");
    ensure!(facts["read_only"] == false, "{facts}");
    ensure!(facts["in_recovery"] == false, "{facts}");
    ensure!(facts["connections_max"] == 97.0, "{facts}");
    ensure!(facts["connections"].as_f64() >= Some(1.0), "{facts}");
    ensure!(facts["replicas"] == 0.0, "only a deep look tells: {facts}");
    ensure!(target["latency_ms"].is_f64(), "{target}");
    faults::of_process(&serve, "db", &mut postgres).await
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_way() -> Result<()> {
    let postgres = Postgres::start().await?;
    let relay = Relay::start(postgres.addr()).await?;
    let serve = Serve::start(USUAL, &[item(&postgres.url_via(relay.addr()))]).await?;
    faults::of_the_way(&serve, "db", &relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_rights() -> Result<()> {
    let (postgres, item) = with_plain_user().await?;
    let wrong = format!(
        "name: wrong, kind: postgresql, url: \"{}\"",
        postgres.url_as("probe", "guess")
    );
    let serve = Serve::start(BRISK, &[item, wrong]).await?;
    serve.until_up("db").await?;
    serve.until_is("wrong", "down", "wrong_password").await?;

    postgres
        .execute("ALTER ROLE probe PASSWORD 'changed'")
        .await?;
    serve.until_is("db", "down", "wrong_password").await?;
    postgres
        .execute("ALTER ROLE probe PASSWORD 'fathom'")
        .await?;
    serve.until_up("db").await?;

    postgres
        .execute("REVOKE CONNECT ON DATABASE dev FROM PUBLIC")
        .await?;
    serve.until_is("db", "down", "permission_denied").await?;
    postgres
        .execute("GRANT CONNECT ON DATABASE dev TO PUBLIC")
        .await?;
    serve.until_up("db").await?;

    postgres.execute("ALTER ROLE probe NOLOGIN").await?;
    serve.until_is("db", "down", "permission_denied").await?;
    postgres.execute("ALTER ROLE probe LOGIN").await?;
    serve.until_up("db").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url().replace("/dev", "/ledger");
    let serve = Serve::start(BRISK, &[item(&url)]).await?;
    let target = serve.until_is("db", "down", "missing_database").await?;
    let message = target["message"].as_str().unwrap_or_default();
    ensure!(message.contains("ledger"), "{message}");
    postgres.execute("CREATE DATABASE ledger").await?;
    serve.until_up("db").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_run_out() -> Result<()> {
    let (postgres, item) = with_plain_user().await?;
    let serve = Serve::start(BRISK, &[item]).await?;
    let target = serve.until_up("db").await?;
    ensure!(target["facts"]["connections_max"] == 17.0, "{target}");

    // 17 may be used: one is the program's held one, one is left for its deep look.
    let mut others = Vec::new();
    while others.len() < 15 {
        others.push(postgres.admin().await?);
    }
    serve.until_is("db", "degraded", "connections_high").await?;
    others.push(postgres.admin().await?);
    others.push(postgres.admin().await?);
    serve.until_is("db", "down", "too_many_connections").await?;
    drop(others);
    serve.until_up("db").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_turned_read_only() -> Result<()> {
    let postgres = Postgres::start().await?;
    let reader = format!("{}, writable: false", item(&postgres.url())).replace("db,", "reader,");
    let serve = Serve::start(BRISK, &[item(&postgres.url()), reader]).await?;
    serve.until_up("db").await?;
    set(&postgres, "default_transaction_read_only = on").await?;
    let target = serve.until_is("db", "down", "read_only").await?;
    ensure!(target["facts"]["read_only"] == true, "{target}");
    serve.until_up("reader").await?;
    set(&postgres, "default_transaction_read_only = off").await?;
    serve.until_up("db").await?;
    Ok(())
}

/// After SIGTERM the server waits for its clients: ours must not be the one that it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_us() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let serve = Serve::start(BRISK, &[item(&postgres.url())]).await?;
    serve.until_up("db").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    tokio::task::block_in_place(|| postgres.terminate(LATER))?;
    let down = events.transition("db", "down", SOON).await?;
    ensure!(down.data["reason"] == "shutting_down", "{down:?}");
    serve.until_is("db", "down", "refused").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_in_the_primarys_place() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let reader = format!("{}, writable: false", item(&postgres.url())).replace("db,", "reader,");
    let serve = Serve::start(BRISK, &[item(&postgres.url()), reader]).await?;
    serve.until_up("db").await?;
    postgres.kill()?;
    std::fs::write(postgres.dir().join("data/standby.signal"), "")?;
    postgres.restart().await?;
    let target = serve.until_is("db", "down", "read_only").await?;
    let message = target["message"].as_str().unwrap_or_default();
    ensure!(message.contains("in recovery"), "{message}");
    let target = serve.until_up("reader").await?;
    ensure!(target["facts"]["role"] == "replica", "{target}");
    postgres.execute("SELECT pg_promote()").await?;
    serve.until_up("db").await?;
    Ok(())
}

async fn set(postgres: &Postgres, setting: &str) -> Result<()> {
    postgres
        .execute(&format!("ALTER SYSTEM SET {setting}"))
        .await?;
    postgres.execute("SELECT pg_reload_conf()").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_connection_is_no_outage() -> Result<()> {
    let postgres = Postgres::start().await?;
    let serve = Serve::start(USUAL, &[item(&postgres.url())]).await?;
    serve.until_up("db").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    for _ in 0..3 {
        let before = backend(&postgres).await?;
        postgres
            .execute(&format!("SELECT pg_terminate_backend({before})"))
            .await?;
        wait_for("a new held connection", LATER, async || {
            let now = backend(&postgres).await?;
            ensure!(now != before, "{before} is still there");
            Ok(())
        })
        .await?;
        serve.until_looked("db", 2).await?;
    }
    ensure!(events.since().is_empty(), "{:?}", events.since());
    Ok(())
}

/// The timeout is that of the looks, so that the server hangs up right when it is asked; it is long enough for
/// a new session not to be ended before a busy machine has used it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_idle_sessions_is_no_outage() -> Result<()> {
    let postgres = Postgres::builder()
        .setting("idle_session_timeout", "600ms")
        .start()
        .await?;
    let often = "{ interval: 600ms, heartbeat: 100ms }";
    let rarely = item(&postgres.url()).replace("name: db", "name: rarely");
    let rarely = format!("{rarely}, interval: 610ms, heartbeat: 30s");
    let serve = Serve::start(often, &[item(&postgres.url()), rarely]).await?;
    serve.until_up("db").await?;
    serve.until_up("rarely").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    serve.until_looked("rarely", 50).await?;
    ensure!(events.since().is_empty(), "{:?}", events.since());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_database() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE DATABASE ledger").await?;
    let url = postgres.url().replace("/dev", "/ledger");
    let serve = Serve::start(BRISK, &[item(&url)]).await?;
    serve.until_up("db").await?;
    postgres
        .execute("DROP DATABASE ledger WITH (FORCE)")
        .await?;
    serve.until_is("db", "down", "missing_database").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_in_the_middle_of_deep_looks_are_no_outage() -> Result<()> {
    let postgres = Postgres::start().await?;
    let relay = Relay::start(postgres.addr()).await?;
    let restless = "{ interval: 1s, deep_interval: 100ms }";
    let serve = Serve::start(restless, &[item(&postgres.url_via(relay.addr()))]).await?;
    serve.until_up("db").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    for _ in 0..10 {
        // A second connection is that of a deep look.
        wait_for("a deep look", LATER, async || {
            let open = relay.counts().open;
            ensure!(open > 1, "{open} connections");
            Ok(())
        })
        .await?;
        relay.cut().await?;
        // One look may have been on its way: the second one is on the new connection.
        let looks = [("target", "db"), ("phase", "look")];
        let counter = "comind_probe_duration_seconds_count";
        serve.until_counted(counter, &looks, 2).await?;
    }
    ensure!(events.since().is_empty(), "{:?}", events.since());
    Ok(())
}

/// The process of the oldest of the program's connections: the held one.
async fn backend(postgres: &Postgres) -> Result<i32> {
    let sql = "SELECT pid FROM pg_stat_activity \
        WHERE application_name = 'comind-ops' ORDER BY backend_start LIMIT 1";
    let client = postgres.admin().await?;
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.context("the program holds no connection")?.try_get(0)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deep_look_leaves_nothing_behind() -> Result<()> {
    let postgres = Postgres::start().await?;
    let serve = Serve::start(BRISK, &[item(&postgres.url())]).await?;
    serve.until_up("db").await?;
    serve.until_looked("db", 8).await?;
    let client = postgres.admin().await?;
    let sql = "SELECT count(*) FROM pg_class WHERE relname LIKE 'comind%'";
    let left: i64 = client.query_one(sql, &[]).await?.try_get(0)?;
    ensure!(left == 0, "{left} tables are left");
    Ok(())
}

/// The disk of the temporary tables is the full one: with the disk of the write-ahead log full,
/// PostgreSQL ends itself, and that is another outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() -> Result<()> {
    let postgres = Postgres::start().await?;
    let disk = SmallDisk::new(User::unprivileged("postgres")?)?;
    let place = disk.place().display();
    postgres
        .execute(&format!("CREATE TABLESPACE small LOCATION '{place}'"))
        .await?;
    set(&postgres, "temp_tablespaces = 'small'").await?;
    let serve = Serve::start(BRISK, &[item(&postgres.url())]).await?;
    serve.until_up("db").await?;
    disk.fill()?;
    serve.until_is("db", "down", "disk_full").await?;
    disk.free()?;
    serve.until_up("db").await?;
    Ok(())
}
