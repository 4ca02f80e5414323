//! `compat_metrics` beside the exporters whose names it bears: the same names, the same values.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::postgres::Postgres;
use comind_peers::prometheus::Exporter;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;

use crate::serve::{LATER, Serve, value};

/// A name, its labels, and how far apart two readings may lie: the exporter and we are clients that
/// the other counts.
type Name<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

fn compat(targets: &[String]) -> String {
    let mut text = "api: { listen: LISTEN }\ndata_dir: DATA\ncompat_metrics: true\n\
        defaults: { interval: 200ms, timeout: 1s, deep_interval: 200ms, deep_timeout: 1s }\ntargets:\n"
        .to_owned();
    for target in targets {
        text.push_str(&format!("  - {{ {target} }}\n"));
    }
    text
}

/// Waits until both say the same under every name; both are read anew each time.
async fn same(
    serve: &Serve,
    exporter: &Exporter,
    instance: &str,
    names: &[Name<'_>],
) -> Result<()> {
    let waited = wait_for("the same values", LATER, async || {
        let theirs = exporter.metrics().await?;
        let ours = serve.get("/metrics").await?;
        for (name, labels, apart) in names {
            let their =
                value(&theirs, name, labels).with_context(|| format!("they have no {name}"))?;
            let mut own = labels.to_vec();
            own.push(("instance", instance));
            let our = value(&ours, name, &own).with_context(|| format!("we have no {name}"))?;
            ensure!(
                (our - their).abs() <= *apart,
                "{name}: we say {our}, they say {their}"
            );
        }
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_under_the_names_of_its_exporter() -> Result<()> {
    let postgres = Postgres::start().await?;
    let exporter = Exporter::postgres(&format!("{}?sslmode=disable", postgres.url())).await?;
    let item = format!("name: db, kind: postgresql, url: \"{}\"", postgres.url());
    let serve = Serve::start_with(&compat(&[item])).await?;
    serve.until_up("db").await?;
    let database = postgres
        .url()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let database = [("datname", database.as_str())];
    let active = [database[0], ("state", "active")];
    let aborted = [database[0], ("state", "idle in transaction (aborted)")];
    let names: Vec<Name<'_>> = vec![
        ("pg_up", &[], 0.0),
        ("pg_settings_max_connections", &[], 0.0),
        ("pg_stat_database_numbackends", &database, 3.0),
        ("pg_stat_database_xact_commit", &database, 100.0),
        ("pg_stat_database_xact_rollback", &database, 100.0),
        ("pg_stat_database_blks_hit", &database, 20_000.0),
        ("pg_stat_database_blks_read", &database, 2_000.0),
        ("pg_stat_database_tup_inserted", &database, 2_000.0),
        ("pg_stat_database_tup_deleted", &database, 2_000.0),
        ("pg_stat_database_deadlocks", &database, 0.0),
        ("pg_stat_activity_count", &active, 2.0),
        ("pg_stat_activity_count", &aborted, 0.0),
    ];
    same(&serve, &exporter, "db", &names).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_under_the_names_of_its_exporter() -> Result<()> {
    let mut redis = Redis::start().await?;
    redis
        .execute(&["MSET", "a", "1", "b", "1", "c", "1"])
        .await?;
    let exporter = Exporter::redis(&redis.url()).await?;
    let item = format!("name: cache, kind: redis, url: \"{}\"", redis.url());
    let serve = Serve::start_with(&compat(&[item])).await?;
    serve.until_up("cache").await?;
    let names: &[Name<'_>] = &[
        ("redis_up", &[], 0.0),
        ("redis_connected_clients", &[], 2.0),
        ("redis_blocked_clients", &[], 0.0),
        ("redis_config_maxclients", &[], 0.0),
        ("redis_memory_max_bytes", &[], 0.0),
        ("redis_memory_used_bytes", &[], 300_000.0),
        ("redis_commands_processed_total", &[], 200.0),
        ("redis_keyspace_hits_total", &[], 50.0),
        ("redis_keyspace_misses_total", &[], 50.0),
        ("redis_evicted_keys_total", &[], 0.0),
        ("redis_rejected_connections_total", &[], 0.0),
        ("redis_db_keys", &[("db", "db0")], 1.0),
    ];
    same(&serve, &exporter, "cache", names).await?;
    redis.kill()?;
    same(&serve, &exporter, "cache", &[("redis_up", &[], 0.0)]).await?;
    let text = serve.get("/metrics").await?;
    ensure!(
        value(&text, "redis_up", &[("instance", "cache")]) == Some(0.0),
        "{text}"
    );

    // Switched off, the names are gone.
    serve.write_config("api: { listen: LISTEN }\ndata_dir: DATA\ntargets: []\n")?;
    let waited = wait_for("the names to be gone", LATER, async || {
        let text = serve.get("/metrics").await?;
        let left: BTreeMap<&str, &str> = text
            .lines()
            .filter(|line| line.starts_with("redis_"))
            .filter_map(|line| line.split_once(' '))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn web_servers_under_the_names_of_blackbox_exporter() -> Result<()> {
    let web = crate::web::Web::start(None).await?;
    let item = format!("name: web, kind: http, url: \"http://{}/\"", web.addr());
    let serve = Serve::start_with(&compat(&[item])).await?;
    serve.until_up("web").await?;
    let text = serve.get("/metrics").await?;
    let instance = [("instance", "web")];
    ensure!(
        value(&text, "probe_success", &instance) == Some(1.0),
        "{text}"
    );
    ensure!(
        value(&text, "probe_http_status_code", &instance) == Some(200.0),
        "{text}"
    );
    let took = value(&text, "probe_duration_seconds", &instance).context("no duration")?;
    ensure!(took > 0.0 && took < 1.0, "{took}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_under_the_name_of_argo_cd() -> Result<()> {
    let api = KubeApi::start().await?;
    api.define_argocd().await?;
    api.make_namespace("argocd").await?;
    api.make_application("shop", "{}").await?;
    api.set_application("shop", "OutOfSync", "Healthy").await?;
    let kubeconfig = api.kubeconfig().display();
    let item = format!("name: argocd, kind: argocd, kubeconfig: {kubeconfig}");
    let serve = Serve::start_with(&compat(&[item])).await?;
    serve
        .until_is("argocd/shop", "degraded", "out_of_sync")
        .await?;
    let text = serve.get("/metrics").await?;
    let labels = [
        ("name", "shop"),
        ("namespace", "argocd"),
        ("project", "default"),
        ("sync_status", "OutOfSync"),
        ("health_status", "Healthy"),
    ];
    ensure!(
        value(&text, "argocd_app_info", &labels) == Some(1.0),
        "{text}"
    );
    Ok(())
}
