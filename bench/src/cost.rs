//! What a probe costs: CPU time of the prober per probe and its peak memory, beside the Debian
//! exporter that does the nearest same job, both asked every second. The CPU of Prometheus,
//! which the exporters need to be asked at all, is counted for nobody.

use std::time::Duration;

use anyhow::{Context, Result};
use comind_peers::http;
use comind_peers::peer::Peer;
use comind_peers::postgres::Postgres;
use comind_peers::prometheus::{Exporter, Prometheus};
use comind_peers::redis::Redis;
use tokio::time::sleep;

use crate::backend::Backend;
use crate::figures::{self, cell, ratio, say};
use crate::subject::Subject;

/// Before measuring: connections open, pools fill.
const WARM_UP: Duration = Duration::from_secs(8);
/// How long is measured.
const WINDOW: Duration = Duration::from_secs(20);
/// Our metrics are read this often meanwhile; the exporters' are their probes.
const SCRAPE: Duration = Duration::from_secs(5);

struct Cost {
    /// Microseconds of CPU per probe.
    per_probe: Option<f64>,
    /// Peak resident memory in MiB.
    peak: Option<f64>,
}

/// Runs it and prints.
pub(crate) async fn run() -> Result<()> {
    let mut rows = Vec::new();
    for count in [10, 100, 1000] {
        say(&format!("http: {count} targets"));
        let backend = Backend::start().await?;
        let urls: Vec<_> = (0..count)
            .map(|n| format!("http://{}/t/{n}", backend.address))
            .collect();
        let ours = ours(urls.iter().map(|url| format!("kind: http, url: \"{url}\""))).await?;
        let theirs = blackbox(&urls).await?;
        rows.push(row("http", count, "blackbox_exporter", &ours, &theirs));
    }
    let redis = Redis::start().await?;
    for count in [10, 100, 1000] {
        say(&format!("redis: {count} targets"));
        let ours =
            ours((0..count).map(|_| format!("kind: redis, url: \"{}\"", redis.url()))).await?;
        let theirs = redis_exporter(&redis, count).await?;
        rows.push(row("redis", count, "redis_exporter", &ours, &theirs));
    }
    let postgres = Postgres::start().await?;
    say("postgresql: 10 targets; its exporter of this version watches one");
    let ours =
        ours((0..10).map(|_| format!("kind: postgresql, url: \"{}\"", postgres.url()))).await?;
    let theirs = postgres_exporter(&postgres).await?;
    rows.push(row("postgresql", 10, "postgres_exporter", &ours, &theirs));
    figures::print(
        "Cost of watching at 1 s: CPU per probe in µs, peak memory in MiB",
        &[
            "kind",
            "targets",
            "ours CPU",
            "ours MiB",
            "peer",
            "CPU",
            "MiB",
            "CPU peer/ours",
            "MiB peer/ours",
        ],
        &rows,
    );
    Ok(())
}

fn row(kind: &str, count: usize, peer: &str, ours: &Cost, theirs: &Cost) -> Vec<String> {
    vec![
        kind.to_owned(),
        count.to_string(),
        cell(ours.per_probe),
        cell(ours.peak),
        peer.to_owned(),
        cell(theirs.per_probe),
        cell(theirs.peak),
        ratio(theirs.per_probe, ours.per_probe),
        ratio(theirs.peak, ours.peak),
    ]
}

async fn ours(targets: impl Iterator<Item = String>) -> Result<Cost> {
    let lines: Vec<_> = targets
        .enumerate()
        .map(|(n, settings)| format!("{{ name: t{n}, {settings}, interval: 1s, timeout: 1s }}"))
        .collect();
    let subject = Subject::start(&lines).await?;
    sleep(WARM_UP).await;
    let pid = subject.pid();
    let (cpu, probes) = (cpu_seconds(pid)?, our_probes(&subject).await?);
    for _ in 0..WINDOW.as_secs() / SCRAPE.as_secs() {
        sleep(SCRAPE).await;
        http::get(subject.address(), "/metrics").await?;
    }
    let made = our_probes(&subject).await? - probes;
    Ok(Cost {
        per_probe: Some((cpu_seconds(pid)? - cpu) / made * 1e6),
        peak: Some(peak_mib(pid)?),
    })
}

async fn our_probes(subject: &Subject) -> Result<f64> {
    let text = http::get(subject.address(), "/metrics").await?;
    let counters = text
        .lines()
        .filter(|line| line.starts_with("comind_probes_total"));
    Ok(counters
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

async fn blackbox(urls: &[String]) -> Result<Cost> {
    let exporter =
        Exporter::blackbox("modules: { http_2xx: { prober: http, timeout: 1s } }\n").await?;
    let prometheus = asks_for(&exporter, "/probe", "module: [http_2xx]", urls).await?;
    theirs(&exporter, &prometheus, "probe_success").await
}

async fn redis_exporter(redis: &Redis, count: usize) -> Result<Cost> {
    let exporter = Exporter::redis(&redis.url()).await?;
    // The same server under many names, so that each is a target of its own to Prometheus.
    let addr = redis.addr();
    let urls: Vec<_> = (0..count)
        .map(|n| format!("redis://{addr}/{}", n % 16))
        .collect();
    let prometheus = asks_for(&exporter, "/scrape", "", &urls).await?;
    theirs(&exporter, &prometheus, "redis_up{job=\"asked\"}").await
}

async fn postgres_exporter(postgres: &Postgres) -> Result<Cost> {
    let exporter = Exporter::postgres(&format!("{}?sslmode=disable", postgres.url())).await?;
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: asked\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
        exporter.addr()
    );
    let prometheus = Prometheus::start(&config, &[]).await?;
    theirs(&exporter, &prometheus, "pg_up").await
}

/// Prometheus asking the exporter about each target once a second.
async fn asks_for(
    exporter: &Exporter,
    path: &str,
    params: &str,
    urls: &[String],
) -> Result<Prometheus> {
    let mut config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: asked\n    metrics_path: {path}\n    params: {{ {params} }}\n    static_configs:\n"
    );
    for (n, url) in urls.iter().enumerate() {
        config.push_str(&format!(
            "      - {{ targets: [\"{url}\"], labels: {{ n: \"{n}\" }} }}\n"
        ));
    }
    config.push_str(&format!(
        "    relabel_configs:\n      - {{ source_labels: [__address__], target_label: __param_target }}\n      - {{ target_label: __address__, replacement: \"{}\" }}\n",
        exporter.addr()
    ));
    Prometheus::start(&config, &[]).await
}

async fn theirs(exporter: &Peer, prometheus: &Prometheus, sample: &str) -> Result<Cost> {
    sleep(WARM_UP).await;
    let pid = exporter.pid();
    let cpu = cpu_seconds(pid)?;
    sleep(WINDOW).await;
    let used = cpu_seconds(pid)? - cpu;
    let probes = format!("sum(count_over_time({sample}[{}s]))", WINDOW.as_secs());
    Ok(Cost {
        per_probe: Some(used / prometheus.value(&probes).await? * 1e6),
        peak: Some(peak_mib(pid)?),
    })
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = process(pid)?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

fn peak_mib(pid: u32) -> Result<f64> {
    let kib = process(pid)?.status()?.vmhwm.context("no VmHWM in /proc")?;
    Ok(kib as f64 / 1024.0)
}

fn process(pid: u32) -> Result<procfs::process::Process> {
    procfs::process::Process::new(i32::try_from(pid)?).context("the measured process is gone")
}
