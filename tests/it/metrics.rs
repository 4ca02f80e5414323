//! `/metrics` in its three forms, judged by `promtool` and by a real Prometheus.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use comind_peers::process::Launch;
use comind_peers::prometheus::Prometheus;
use comind_peers::redis::Redis;
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use tokio::io::AsyncWriteExt;

use crate::serve::{BRISK, LATER, SOON, Serve, value};

const PROMTOOL: Tool = Tool::debian("promtool", "prometheus");
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

async fn watched() -> Result<(Redis, Serve)> {
    let redis = Redis::start().await?;
    let mut gone = Redis::start().await?;
    let items = [
        format!(
            "name: cache, kind: redis, required: true, url: \"{}\"",
            redis.url()
        ),
        format!("name: gone, kind: redis, url: \"{}\"", gone.url()),
        "name: never, kind: tcp, url: \"tcp://127.0.0.1:1\"".to_owned(),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("cache").await?;
    serve.until_up("gone").await?;
    gone.kill()?;
    serve.until_is("gone", "down", "refused").await?;
    serve.until_is("never", "down", "refused").await?;
    Ok((redis, serve))
}

async fn in_form(serve: &Serve, accept: &str) -> Result<(String, Vec<u8>)> {
    let answer = serve.ask("/metrics", &[("accept", accept)]).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let kind = answer.headers().get("content-type").context("no type")?;
    Ok((kind.to_str()?.to_owned(), answer.body().to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_forms() -> Result<()> {
    let (_redis, serve) = watched().await?;
    let (kind, body) = in_form(&serve, "text/plain").await?;
    ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = String::from_utf8(body)?;
    let up = |target| value(&text, "comind_target_up", &[("target", target)]);
    ensure!(
        up("cache") == Some(1.0) && up("gone") == Some(0.0),
        "{text}"
    );
    let labels = [("target", "cache"), ("kind", "redis"), ("required", "true")];
    ensure!(
        value(&text, "comind_target_up", &labels).is_some(),
        "{text}"
    );
    let detected = value(
        &text,
        "comind_outage_detection_seconds_count",
        &[("target", "gone")],
    );
    ensure!(detected == Some(1.0), "{detected:?}");
    for name in [
        "comind_target_unknown",
        "comind_probe_duration_seconds_bucket",
        "comind_probes_total",
        "comind_probe_failures_total",
        "comind_last_probe_timestamp_seconds",
        "comind_transitions_total",
        "comind_build_info",
        "comind_redis_memory_used_bytes",
        "comind_config_last_reload_successful",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        ensure!(value(&text, name, &[]).is_some(), "no {name}:\n{text}");
    }
    promtool(&text).await?;

    let (kind, body) = in_form(&serve, "application/openmetrics-text; version=1.0.0").await?;
    ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = String::from_utf8(body)?;
    ensure!(text.ends_with("# EOF\n"), "{text}");

    let (kind, body) = in_form(&serve, PROTOBUF).await?;
    ensure!(
        kind.starts_with("application/vnd.google.protobuf"),
        "{kind}"
    );
    ensure!(
        body.windows(16).any(|bytes| bytes == b"comind_target_up"),
        "no comind_target_up"
    );
    Ok(())
}

/// `promtool check metrics`: the format, and the naming that Prometheus advises.
async fn promtool(text: &str) -> Result<()> {
    let mut checker = tokio::process::Command::new(PROMTOOL.find()?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = checker.stdin.take().context("no pipe")?;
    input.write_all(text.as_bytes()).await?;
    drop(input);
    let output = tokio::time::timeout(SOON, checker.wait_with_output()).await??;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "promtool: {said}");
    Ok(())
}

/// Prometheus asks for protobuf once native histograms are on: that it stores them proves that
/// ours decode.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_it() -> Result<()> {
    let (_redis, serve) = watched().await?;
    let addr = serve.addr();
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
         - {{ job_name: comind, static_configs: [{{ targets: [\"{addr}\"] }}] }}\n"
    );
    let prometheus = Prometheus::start(&config, &[]).await?;
    let asked = async |expression: &str| {
        let found = prometheus.value(expression).await?;
        Ok::<f64, anyhow::Error>(found)
    };
    wait_for("the first scrape", LATER, async || {
        ensure!(
            asked("up{job=\"comind\"}").await? == 1.0,
            "the scrape failed"
        );
        Ok(())
    })
    .await?;
    ensure!(
        asked("comind_target_up{target=\"cache\"}").await? == 1.0,
        "cache"
    );
    ensure!(
        asked("comind_target_up{target=\"gone\"}").await? == 0.0,
        "gone"
    );
    let refused = asked("comind_probe_failures_total{target=\"gone\",reason=\"refused\"}").await?;
    ensure!(refused >= 1.0, "{refused}");
    let quantile = "histogram_quantile(0.5, comind_probe_duration_seconds_bucket{target=\"cache\",phase=\"look\"})";
    let median = asked(quantile).await?;
    ensure!(median > 0.0 && median < 1.0, "{median}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_reach_prometheus() -> Result<()> {
    let (_redis, serve) = watched().await?;
    let prometheus = NativePrometheus::start(&serve).await?;
    let quantile =
        "histogram_quantile(0.5, comind_probe_duration_seconds{target=\"cache\",phase=\"look\"})";
    let median = wait_for("a native histogram", LATER, async || {
        prometheus.value(quantile).await
    })
    .await?;
    ensure!(median > 0.0 && median < 1.0, "{median}");
    Ok(())
}

/// Prometheus with native histograms on, which `comind_peers` does not switch on.
pub(crate) struct NativePrometheus {
    addr: std::net::SocketAddr,
    _port: comind_peers::port::Port,
    _process: comind_peers::process::Process,
    _dir: tempfile::TempDir,
}

impl NativePrometheus {
    pub(crate) async fn start(serve: &Serve) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = comind_peers::port::Port::free()?;
        let config = dir.path().join("prometheus.yml");
        let scraped = serve.addr();
        std::fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
             - {{ job_name: comind, static_configs: [{{ targets: [\"{scraped}\"] }}] }}\n"
            ),
        )?;
        let addr = port.addr();
        let launch = Launch::new(Tool::debian("prometheus", "prometheus").find()?, dir.path())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={addr}"))
            .args(["--enable-feature=native-histograms", "--log.level=warn"]);
        let process = comind_peers::process::Process::spawn(&launch)?;
        wait_for("Prometheus", LATER, async || {
            comind_peers::http::get(addr, "/-/ready").await
        })
        .await?;
        Ok(Self {
            addr,
            _port: port,
            _process: process,
            _dir: dir,
        })
    }

    pub(crate) async fn value(&self, expression: &str) -> Result<f64> {
        let query: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let path = format!("/api/v1/query?query={query}");
        let answer = comind_peers::http::get(self.addr, &path).await?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        match answer["data"]["result"][0]["value"][1].as_str() {
            Some(value) => Ok(value.parse()?),
            None => bail!("no value in {answer}"),
        }
    }
}
