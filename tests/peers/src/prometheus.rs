//! Prometheus, Alertmanager and the Debian exporters as peers.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::http::get;
use crate::peer::{Peer, Plan, is_peer, own_dir, own_file};
use crate::process::Launch;
use crate::tool::Tool;

const PROMETHEUS: Tool = Tool::debian("prometheus", "prometheus");
const ALERTMANAGER: Tool = Tool::debian("prometheus-alertmanager", "prometheus-alertmanager");
const BLACKBOX: Tool = Tool::debian(
    "prometheus-blackbox-exporter",
    "prometheus-blackbox-exporter",
);
const POSTGRES: Tool = Tool::debian(
    "prometheus-postgres-exporter",
    "prometheus-postgres-exporter",
);
const REDIS: Tool = Tool::debian("prometheus-redis-exporter", "prometheus-redis-exporter");

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    peer: Peer,
}

is_peer!(Prometheus);

impl Prometheus {
    /// Starts one with this `prometheus.yml`. Rule files named in it are given
    /// as `(name, content)` and lie beside it.
    pub async fn start(config: &str, rules: &[(&str, &str)]) -> Result<Self> {
        let make = async |dir: &Path, port: u16| {
            let config = own_file(dir, "prometheus.yml", None, config)?;
            for (name, content) in rules {
                own_file(dir, name, None, content)?;
            }
            let launch = Launch::new(PROMETHEUS.find()?, dir)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    own_dir(dir, "data", None)?.display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .args(["--web.enable-lifecycle", "--log.level=warn"]);
            Ok(ready_at(launch, port, "/-/ready"))
        };
        let peer = Peer::start("prometheus", None, make).await?;
        Ok(Self { peer })
    }

    /// URL of its API and page.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The `data.result` of an instant query.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let query = Serializer::new(String::new())
            .append_pair("query", expression)
            .finish();
        let path = format!("/api/v1/query?{query}");
        let answer: Value = serde_json::from_str(&get(self.addr(), &path).await?)?;
        match &answer["data"]["result"] {
            Value::Array(result) => Ok(result.clone()),
            _ => bail!("no result in {answer}"),
        }
    }

    /// The value of a query that has exactly one series.
    pub async fn value(&self, expression: &str) -> Result<f64> {
        let result = self.query(expression).await?;
        let [one] = result.as_slice() else {
            bail!("{expression} has {} series, not one", result.len());
        };
        let text = one["value"][1].as_str().context("no value")?;
        Ok(text.parse()?)
    }
}

/// A running Alertmanager, alone (no cluster).
#[derive(Debug)]
pub struct Alertmanager {
    peer: Peer,
}

is_peer!(Alertmanager);

impl Alertmanager {
    /// Starts one with this `alertmanager.yml`.
    pub async fn start(config: &str) -> Result<Self> {
        let make = async |dir: &Path, port: u16| {
            let config = own_file(dir, "alertmanager.yml", None, config)?;
            let launch = Launch::new(ALERTMANAGER.find()?, dir)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.path={}",
                    own_dir(dir, "data", None)?.display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--cluster.listen-address=");
            Ok(ready_at(launch, port, "/-/ready"))
        };
        let peer = Peer::start("alertmanager", None, make).await?;
        Ok(Self { peer })
    }

    /// Starts one which keeps alerts and tells nobody.
    pub async fn start_quiet() -> Result<Self> {
        Self::start("route: {receiver: none}\nreceivers: [{name: none}]\n").await
    }

    /// URL of its API and page.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The alerts it has now.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let text = get(self.addr(), "/api/v2/alerts").await?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// A running exporter.
#[derive(Debug)]
pub struct Exporter {
    peer: Peer,
}

is_peer!(Exporter);

impl Exporter {
    /// The blackbox exporter with this `blackbox.yml`.
    pub async fn blackbox(config: &str) -> Result<Self> {
        Self::start("blackbox", async |dir, port| {
            let config = own_file(dir, "blackbox.yml", None, config)?;
            Ok(Launch::new(BLACKBOX.find()?, dir)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}")))
        })
        .await
    }

    /// The PostgreSQL exporter, watching one database by its URL.
    pub async fn postgres(url: &str) -> Result<Self> {
        Self::start("pg-exporter", async |dir, port| {
            Ok(Launch::new(POSTGRES.find()?, dir)
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .env("DATA_SOURCE_NAME", url))
        })
        .await
    }

    /// The Redis exporter, watching one server by its URL.
    pub async fn redis(url: &str) -> Result<Self> {
        Self::start("redis-exporter", async |dir, port| {
            Ok(Launch::new(REDIS.find()?, dir)
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .env("REDIS_ADDR", url))
        })
        .await
    }

    async fn start(
        name: &'static str,
        launch: impl AsyncFn(&Path, u16) -> Result<Launch>,
    ) -> Result<Self> {
        let make =
            async |dir: &Path, port: u16| Ok(ready_at(launch(dir, port).await?, port, "/metrics"));
        let peer = Peer::start(name, None, make).await?;
        Ok(Self { peer })
    }

    /// What it exports now.
    pub async fn metrics(&self) -> Result<String> {
        get(self.addr(), "/metrics").await
    }
}

/// Ready once GET of the path is answered with 2xx.
fn ready_at(launch: Launch, port: u16, path: &'static str) -> Plan {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    Plan::new(launch, move || async move {
        get(addr, path).await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::postgres::Postgres;
    use crate::redis::Redis;
    use crate::wait::wait_for;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn prometheus_scrapes_evaluates_and_alerts() -> Result<()> {
        let alertmanager = Alertmanager::start_quiet().await?;
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{0}']}}]}}]}}\n\
             scrape_configs: [{{job_name: a, static_configs: [{{targets: ['{0}']}}]}}]\n",
            alertmanager.addr()
        );
        let rules = "groups: [{name: g, rules: [{alert: Seen, expr: up == 1}]}]\n";
        let mut prometheus = Prometheus::start(&config, &[("rules.yml", rules)]).await?;
        wait_for("up in Prometheus", LONG, async || {
            anyhow::ensure!(prometheus.value("up").await? >= 1.0, "not up");
            Ok(())
        })
        .await?;
        wait_for("the alert", LONG, async || {
            anyhow::ensure!(alertmanager.alerts().await?.len() == 1, "no alert");
            Ok(())
        })
        .await?;
        prometheus.kill()?;
        assert!(prometheus.query("up").await.is_err());
        prometheus.restart().await?;
        prometheus.query("up").await?;
        Ok(())
    }

    #[tokio::test]
    async fn exporters_export() -> Result<()> {
        let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start())?;
        let url = format!("{}?sslmode=disable", postgres.url());
        let redis_url = redis.url();
        let (pg, rd, blackbox) = tokio::try_join!(
            Exporter::postgres(&url),
            Exporter::redis(&redis_url),
            Exporter::blackbox("modules: {tcp: {prober: tcp}}\n"),
        )?;
        let has = |text: String, line: &str| text.lines().any(|l| l == line);
        assert!(has(pg.metrics().await?, "pg_up 1"));
        assert!(has(rd.metrics().await?, "redis_up 1"));
        let probe = format!("/probe?module=tcp&target={}", redis.addr());
        assert!(has(get(blackbox.addr(), &probe).await?, "probe_success 1"));
        Ok(())
    }
}
