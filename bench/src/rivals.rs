//! The usual way to watch the same servers: Debian's exporters, scraped by Prometheus every
//! second, its fastest sensible setting. Their delay counts from the fault to the moment that
//! Prometheus would show it, before any rule, `for` or grouping: the best they can do.

use std::time::{Duration, Instant};

use anyhow::Result;
use comind_peers::elasticmq::ElasticMq;
use comind_peers::minio::Minio;
use comind_peers::postgres::Postgres;
use comind_peers::prometheus::{Exporter, Prometheus};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;

/// Prometheus and its exporters.
pub(crate) struct Rivals {
    prometheus: Prometheus,
    /// Kept running.
    _exporters: Vec<Exporter>,
}

/// How Prometheus names what watches one server.
pub(crate) fn expression(target: &str) -> &'static str {
    match target {
        "postgresql" => "pg_up",
        "redis" => "redis_up",
        "minio" => "probe_success{target=\"minio\"}",
        _ => "probe_success{target=\"elasticmq\"}",
    }
}

/// Who watches one server there.
pub(crate) fn name(target: &str) -> &'static str {
    match target {
        "postgresql" => "postgres_exporter",
        "redis" => "redis_exporter",
        _ => "blackbox_exporter",
    }
}

impl Rivals {
    /// Starts them for these servers.
    pub(crate) async fn start(
        postgres: &Postgres,
        redis: &Redis,
        minio: &Minio,
        elasticmq: &ElasticMq,
    ) -> Result<Self> {
        let blackbox = Exporter::blackbox("modules:\n  http_any:\n    prober: http\n    timeout: 1s\n    http: { valid_status_codes: [200, 400, 403, 404] }\n").await?;
        let of_postgres =
            Exporter::postgres(&format!("{}?sslmode=disable", postgres.url())).await?;
        let of_redis = Exporter::redis(&redis.url()).await?;
        let probe = |target: &str, url: String| {
            format!(
                "  - job_name: {target}\n    metrics_path: /probe\n    params: {{ module: [http_any], target: [\"{url}\"] }}\n    static_configs: [{{ targets: [\"{}\"], labels: {{ target: {target} }} }}]\n",
                blackbox.addr()
            )
        };
        let exporter = |job: &str, exporter: &Exporter| {
            format!(
                "  - job_name: {job}\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
                exporter.addr()
            )
        };
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n{}{}{}{}",
            exporter("postgres", &of_postgres),
            exporter("redis", &of_redis),
            probe("minio", format!("{}/minio/health/live", minio.url())),
            probe("elasticmq", format!("{}/health", elasticmq.url())),
        );
        let prometheus = Prometheus::start(&config, &[]).await?;
        let _exporters = vec![blackbox, of_postgres, of_redis];
        Ok(Self {
            prometheus,
            _exporters,
        })
    }

    /// Waits until Prometheus shows the server down; how long that took.
    pub(crate) async fn shows_down(&self, target: &str, since: Instant) -> Result<Duration> {
        let expression = expression(target);
        // An exporter that hangs with its server fails its scrape: `up` tells then. Whichever first.
        let job = job(target);
        let down = format!(
            "max(label_replace({expression} == bool 0, \"of\", \"server\", \"\", \"\") or (up{{job=\"{job}\"}} == bool 0))"
        );
        self.until(&down, 1.0).await?;
        Ok(since.elapsed())
    }

    /// Waits until Prometheus shows the server up.
    pub(crate) async fn shows_up(&self, target: &str) -> Result<()> {
        self.until(&format!("max({})", expression(target)), 1.0)
            .await
    }

    async fn until(&self, expression: &str, value: f64) -> Result<()> {
        let what = format!("Prometheus to say {value} to {expression}");
        wait_for(&what, Duration::from_secs(60), async || {
            let shown = self.prometheus.value(expression).await?;
            if shown == value {
                return Ok(());
            }
            anyhow::bail!("it says {shown}")
        })
        .await
    }
}

fn job(target: &str) -> &str {
    match target {
        "postgresql" => "postgres",
        other => other,
    }
}
