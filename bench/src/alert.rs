//! How long an outage takes to become an alert: from the SIGKILL of PostgreSQL until the alert is
//! in a real Alertmanager's API, beside Prometheus on postgres_exporter with an Alertmanager of
//! its own, in the same run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use comind_peers::postgres::Postgres;
use comind_peers::prometheus::{Alertmanager, Exporter, Prometheus};
use comind_peers::wait::wait_for;
use serde_json::Value;
use tokio::time::timeout;

use crate::figures::{self, Samples, cell, ratio, say};
use crate::subject::Subject;

/// Longer than any of the two should take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often each is asked: as finely as its delay needs, because every question is a connection,
/// and this machine has only so many ports.
const FINE: Duration = Duration::from_millis(1);
const COARSE: Duration = Duration::from_millis(20);
/// The fastest that this Prometheus can be told to be.
const RULE: &str = "groups: [{ name: pg, interval: 1s, rules: [{ alert: PostgresqlDown, expr: 'pg_up == 0 or up == 0', for: 0s }] }]\n";

/// Runs it and prints.
pub(crate) async fn run(kills: usize) -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let (ours, theirs) = (
        Alertmanager::start_quiet().await?,
        Alertmanager::start_quiet().await?,
    );
    let exporter = Exporter::postgres(&format!("{}?sslmode=disable", postgres.url())).await?;
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: [\"{}\"] }}] }}] }}\n\
         scrape_configs: [{{ job_name: pg, static_configs: [{{ targets: [\"{}\"] }}] }}]\n",
        theirs.addr(),
        exporter.addr()
    );
    let prometheus = Prometheus::start(&config, &[("rules.yml", RULE)]).await?;
    let target = format!(
        "{{ name: db, kind: postgresql, required: true, url: \"{}\", interval: 1s, timeout: 1s }}",
        postgres.url()
    );
    // Kills one after the other are no flapping that anybody wants to be spared.
    let notify = format!(
        "notify: {{ alertmanager: [\"{}\"], flapping: {{ start: 250, stop: 1 }} }}\n",
        ours.url()
    );
    let subject = Subject::start_with(&notify, &[target]).await?;
    say(&format!("postgresql: {kills} kills"));
    let (mut our_delays, mut their_delays) = (Samples::default(), Samples::default());
    for _ in 0..kills {
        subject.until("db", "up").await?;
        wait_for("Prometheus to see it up", PATIENCE, async || {
            anyhow::ensure!(prometheus.value("pg_up").await? == 1.0, "it is down");
            Ok(())
        })
        .await?;
        until(&ours, false, COARSE).await?;
        until(&theirs, false, COARSE).await?;
        let at = postgres.kill()?;
        let (our, their) =
            tokio::try_join!(until(&ours, true, FINE), until(&theirs, true, COARSE))?;
        our_delays.push_ms(our - at);
        their_delays.push_ms(their - at);
        postgres.restart().await?;
    }
    let row = vec![
        our_delays.len().to_string(),
        cell(our_delays.p50()),
        cell(our_delays.p99()),
        cell(our_delays.max()),
        cell(their_delays.p50()),
        cell(their_delays.p99()),
        cell(their_delays.max()),
        ratio(their_delays.p50(), our_delays.p50()),
    ];
    figures::print(
        "Delay from the SIGKILL of PostgreSQL until an alert is in Alertmanager's API, in ms: ours, beside Prometheus at 1 s, `for: 0s`",
        &[
            "n",
            "ours p50",
            "p99",
            "max",
            "Prometheus p50",
            "p99",
            "max",
            "theirs/ours p50",
        ],
        &[row],
    );
    Ok(())
}

/// The moment at which an Alertmanager has an alert, or none.
async fn until(alertmanager: &Alertmanager, some: bool, every: Duration) -> Result<Instant> {
    let poll = async {
        loop {
            let alerts: Vec<Value> = alertmanager.alerts().await?;
            if alerts.is_empty() != some {
                return anyhow::Ok(Instant::now());
            }
            tokio::time::sleep(every).await;
        }
    };
    timeout(PATIENCE, poll)
        .await
        .context("Alertmanager did not change within a minute")?
}
