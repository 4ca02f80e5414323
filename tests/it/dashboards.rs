//! Grafana's dashboards before a real Prometheus that scrapes a real platform: what they ask can be
//! asked, is answered, and names only what there is.

mod board;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::elasticmq::ElasticMq;
use comind_peers::kube::KubeApi;
use comind_peers::minio::Minio;
use comind_peers::port::Port;
use comind_peers::postgres::Postgres;
use comind_peers::prometheus::{Alertmanager, Prometheus};
use comind_peers::redis::Redis;
use comind_peers::tls::Certificate;
use comind_peers::wait::{Hopeless, wait_for};
use http::Method;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::metrics::NativePrometheus;
use crate::serve::Serve;
use board::{Asked, BOARDS, metrics, panels, questions, read, variables};

/// Two scrapes after the last thing has happened, on a machine with much to do.
const ANSWERED: Duration = Duration::from_secs(90);
/// Panels that stay empty here, and why.
const EMPTY: [(&str, &str); 1] = [("Replication lag", "there is no replica")];

/// Everything that the dashboards show, with something to tell of each.
struct Platform {
    _postgres: Postgres,
    _redis: Redis,
    _gone: Redis,
    _minio: Minio,
    _queues: ElasticMq,
    _alertmanager: Alertmanager,
    _cluster: KubeApi,
    proxy: Port,
    _tls: Port,
    _files: TempDir,
    serve: Serve,
}

impl Platform {
    async fn start() -> Result<Self> {
        let postgres = Postgres::start().await?;
        let redis = Redis::builder().setting("maxmemory", "64mb");
        let redis = redis.start().await?;
        let mut gone = Redis::start().await?;
        let minio = Minio::builder().bucket("backups").start().await?;
        let queues = ElasticMq::builder().queue_with_dead_letters("jobs", "jobs-dead", 1);
        let queues = queues.start().await?;
        let alertmanager = Alertmanager::start_quiet().await?;
        let cluster = cluster().await?;
        let kubeconfig = cluster.kubeconfig().display();
        let authority = cluster.kubeconfig().with_file_name("ca.crt");
        let targets = [
            format!(
                "name: db, kind: postgresql, required: true, slo: 99.9, url: \"{}\"",
                postgres.url()
            ),
            format!("name: cache, kind: redis, url: \"{}\"", redis.url()),
            format!("name: gone, kind: redis, url: \"{}\"", gone.url()),
            format!(
                "name: s3, kind: minio, url: \"{}\", access_key: minioadmin, secret_key: minioadmin, buckets: [backups]",
                minio.url()
            ),
            format!(
                "name: mq, kind: elasticmq, url: \"{}\", queues: [jobs]",
                queues.url()
            ),
            format!("name: argocd, kind: argocd, kubeconfig: {kubeconfig}"),
            format!("name: k8s, kind: kubernetes, kubeconfig: {kubeconfig}"),
            format!(
                "name: api, kind: tls, url: \"tls://{}\", tls: {{ ca_file: \"{}\" }}",
                cluster.addr(),
                authority.display()
            ),
        ];
        let files = tempfile::tempdir()?;
        let (proxy, tls) = (Port::free()?, Port::free()?);
        let mut config = front(&alertmanager, &proxy, &tls, files.path())?;
        for target in &targets {
            config.push_str(&format!("  - {{ {target} }}\n"));
        }
        let serve = Serve::start_with(&config).await?;
        for name in ["db", "cache", "gone", "s3", "mq", "argocd/shop"] {
            serve.until_up(name).await?;
        }
        gone.kill()?;
        serve.until_is("gone", "down", "refused").await?;
        operation(&cluster).await?;
        Ok(Self {
            _postgres: postgres,
            _redis: redis,
            _gone: gone,
            _minio: minio,
            _queues: queues,
            _alertmanager: alertmanager,
            _cluster: cluster,
            proxy,
            _tls: tls,
            _files: files,
            serve,
        })
    }

    /// A good request, one whose upstream is away, and one that is refused.
    async fn requests(&self) -> Result<()> {
        let addr = self.proxy.addr();
        for path in ["/-/ready", "/gone"] {
            let request = http::Request::get(path).body(http_body_util::Full::default())?;
            comind_peers::http::send(addr, request).await?;
        }
        let mut stream = TcpStream::connect(addr).await?;
        Ok(stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            .await?)
    }
}

/// All of the config but the items of `targets`.
fn front(alertmanager: &Alertmanager, proxy: &Port, tls: &Port, dir: &Path) -> Result<String> {
    let certificate = Certificate::new()?.write(dir, None)?;
    let told = alertmanager.url();
    Ok(format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\n\
         defaults: {{ interval: 500ms, timeout: 2s, deep_interval: 1s, deep_timeout: 3s }}\n\
         notify: {{ alertmanager: [\"{told}\"], resend: 1s }}\n\
         proxy:\n  listen: {listen}\n  workers: 1\n  \
         tls: {{ listen: {tls}, certificates: [{{ cert_file: \"{cert}\", key_file: \"{key}\" }}] }}\n  routes:\n    \
         - {{ host: \"*\", upstream: \"{told}\" }}\n    \
         - {{ host: \"*\", path: /gone, upstream: \"http://127.0.0.1:1\" }}\n\
         targets:\n",
        listen = proxy.addr(),
        tls = tls.addr(),
        cert = certificate.certificate.display(),
        key = certificate.key.display(),
    ))
}

/// An application that is well, and a deployment.
async fn cluster() -> Result<KubeApi> {
    let api = KubeApi::start().await?;
    api.define_argocd().await?;
    api.make_namespace("argocd").await?;
    api.make_application("shop", "{}").await?;
    api.set_application("shop", "Synced", "Healthy").await?;
    let deployment = r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},
        "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    api.request(Method::POST, path, deployment).await?;
    Ok(api)
}

/// It differs from its repository, after an operation that ended while we watched.
async fn operation(api: &KubeApi) -> Result<()> {
    api.set_application("shop", "OutOfSync", "Healthy").await?;
    let path = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/shop";
    let patch = r#"{"status":{"operationState":{"operation":{},"phase":"Succeeded",
        "startedAt":"2026-01-01T10:00:00Z","finishedAt":"2026-01-01T10:00:07Z"}}}"#;
    api.request(Method::PATCH, path, patch).await.map(drop)
}

/// What every dashboard asks, filled.
fn all() -> Result<Vec<(Asked, String)>> {
    let mut all = Vec::new();
    for (name, text) in BOARDS {
        let board = read(text).context(name)?;
        let chosen = variables(&board);
        for asked in questions(name, &board)? {
            let filled = asked.filled(&chosen);
            ensure!(
                !filled.contains('$'),
                "{name}: {}: an unknown variable: {filled}",
                asked.panel
            );
            all.push((asked, filled));
        }
    }
    Ok(all)
}

#[test]
fn dashboards_are_well_formed() -> Result<()> {
    let mut uids = BTreeSet::new();
    for (name, text) in BOARDS {
        let board = read(text).context(name)?;
        let uid = board["uid"].as_str().context("no uid")?.to_owned();
        ensure!(uids.insert(uid), "{name}: two have its uid");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in panels(&board)? {
            let title = panel["title"].as_str().context("no title")?;
            let id = panel["id"].as_u64().context("no id")?;
            ensure!(ids.insert(id), "{name}: {title}: {id} is another's id");
            let place = |key: &str| panel["gridPos"][key].as_u64().context("no place");
            let (x, y, w, h) = (place("x")?, place("y")?, place("w")?, place("h")?);
            ensure!(w > 0 && h > 0 && x + w <= 24, "{name}: {title}: too wide");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                ensure!(taken.insert(cell), "{name}: {title}: lies on another");
            }
            let shown = panel["targets"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            ensure!(panel["type"] == "row" || shown, "{name}: {title}: is empty");
            ensure!(
                panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}",
                "{name}: {title}: asks a Prometheus of its own"
            );
        }
    }
    let panels: Vec<_> = all()?.into_iter().map(|(asked, _)| asked.panel).collect();
    for (title, _) in EMPTY {
        ensure!(panels.iter().any(|one| one == title), "no panel {title}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_is_answered_and_names_what_there_is() -> Result<()> {
    let platform = Platform::start().await?;
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
         - {{ job_name: comind, static_configs: [{{ targets: [\"{}\"] }}] }}\n",
        platform.serve.addr()
    );
    let prometheus = Prometheus::start(&config, &[]).await?;
    let native = NativePrometheus::start(&platform.serve).await?;
    let all = all()?;

    let mut missing: Vec<&(Asked, String)> = all.iter().collect();
    let answered = wait_for("all panels to be answered", ANSWERED, async || {
        platform.requests().await?;
        let mut left = Vec::new();
        for &one in &missing {
            let (asked, expression) = one;
            let result = prometheus.query(expression).await;
            let said = |error: anyhow::Error| {
                Hopeless(format!("{}: {expression}: {error:#}", asked.panel))
            };
            if result.map_err(said)?.is_empty() {
                left.push(one);
            }
        }
        left.retain(|(asked, _)| !EMPTY.iter().any(|(title, _)| asked.panel == *title));
        missing = left;
        ensure!(missing.is_empty(), "nothing for {missing:#?}");
        Ok(())
    });
    let answered = answered.await;
    answered.map_err(|error| platform.serve.blame(error))?;

    // Where Prometheus stores native histograms it does not store the classic ones.
    for (asked, expression) in &all {
        if expression.contains("histogram_quantile") {
            wait_for(&asked.panel, ANSWERED, async || {
                platform.requests().await?;
                native.value(expression).await
            })
            .await?;
        }
    }
    names(&platform.serve.get("/metrics").await?, &all)
}

/// Each name is one of a scrape, or is documented.
fn names(scrape: &str, all: &[(Asked, String)]) -> Result<()> {
    let scraped = scrape.lines().filter_map(|line| {
        let mut words = line.strip_prefix("# TYPE ")?.split(' ');
        words.next()
    });
    let documents = [
        include_str!("../../docs/kinds.md"),
        include_str!("../../docs/proxy.md"),
    ];
    let documented = documents.iter().flat_map(|text| text.split('`'));
    let documented = documented.map(|word| word.split('{').next().unwrap_or(word));
    let documented = documented.filter(|word| word.starts_with("comind_"));
    let known: BTreeSet<&str> = scraped.chain(documented).collect();
    ensure!(known.len() > 80, "only {} are known", known.len());
    for (asked, expression) in all {
        let named = metrics(expression);
        ensure!(!named.is_empty(), "{expression} names no metric");
        for name in named {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            ensure!(
                known.contains(name) || family.is_some_and(|family| known.contains(family)),
                "{}: {}: there is no {name}",
                asked.board,
                asked.panel
            );
        }
    }
    Ok(())
}
