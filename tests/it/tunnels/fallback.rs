//! `comind-ops access` before a service whose ingress is killed, and comes back: one address, and no
//! request fails.

use anyhow::{Context as _, Result, bail, ensure};
use comind_peers::http::send;
use comind_peers::port::Port;
use comind_peers::process::{Launch, Process, log_tail};
use comind_peers::wait::wait_for;
use rustix::process::Signal;
use serde_json::Value;

use super::cluster::Cluster;
use super::load::Load;
use super::{PATIENCE, for_host, proxy};
use crate::serve::{LATER, PROGRAM, SOON, Serve};

struct Access {
    port: Port,
    process: Process,
}

impl Access {
    /// `ingress` is what the program is told to be one.
    fn start(cluster: &Cluster, ingress: &Port) -> Result<Self> {
        let port = Port::free()?;
        let dir = cluster.ops.dir().join("access");
        std::fs::create_dir_all(&dir)?;
        let launch = Launch::new(PROGRAM.into(), &dir)
            .args(["access", "web=default/web:http", "gone=default/gone:80"])
            .arg("--kubeconfig")
            .arg(cluster.admin())
            .args(["--context", &cluster.name()])
            .args(["--ingress", &ingress.addr().to_string()])
            .args(["--port", &port.number().to_string()])
            .env("COMIND_HOME", cluster.ops.home().display().to_string())
            .env("NO_COLOR", "1");
        Ok(Self {
            process: Process::spawn(&launch)?,
            port,
        })
    }

    async fn row(&self, name: &str) -> Result<Value> {
        let answer = send(self.port.addr(), for_host("/state.json", "localhost")?).await?;
        let board: Value = serde_json::from_slice(answer.body())?;
        let rows = board["rows"].as_array().context("no rows")?;
        let row = rows.iter().find(|row| row["name"] == name);
        Ok(row
            .with_context(|| format!("no {name} in {board}"))?
            .clone())
    }

    async fn until(&self, name: &str, way: &Value) -> Result<String> {
        let what = format!("{name} by {way}");
        let waited = wait_for(&what, PATIENCE, async || {
            let row = self.row(name).await?;
            let why = row["why"].as_str().unwrap_or_default();
            if row["way"] == *way && !why.contains("not looked at") && !why.contains("looked for") {
                return Ok(why.to_owned());
            }
            bail!("{row}")
        });
        waited.await.with_context(|| self.process.log_tail())
    }

    /// Who has answered: the header that the ingress sets.
    async fn by(&self) -> Result<Option<String>> {
        let answer = send(self.port.addr(), for_host("/count", "web.localhost")?).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let by = answer.headers().get("x-by");
        Ok(by.map(|by| by.to_str().map(str::to_owned)).transpose()?)
    }
}

pub(super) async fn one_address_outlives_the_ingress(
    cluster: &Cluster,
    serve: Serve,
    ingress: &Port,
) -> Result<()> {
    let mut access = Access::start(cluster, ingress)?;
    access.until("web", &"ingress".into()).await?;
    ensure!(access.by().await?.as_deref() == Some("ingress"));
    let why = access.until("gone", &Value::Null).await?;
    ensure!(why.contains("there is no service default/gone:80"), "{why}");
    the_start_page(&access).await?;

    let load = Load::start(access.port.addr(), "web.localhost", 4);
    drop(serve);
    let why = access.until("web", &"tunnel".into()).await?;
    ensure!(why.contains("through the API server to 2 pods"), "{why}");
    ensure!(
        why.contains("ingress: ") && why.contains("refused"),
        "{why}"
    );
    ensure!(access.by().await?.is_none(), "nothing is between");
    let _back = proxy(ingress, &cluster.admin()).await?;
    access.until("web", &"ingress".into()).await?;
    ensure!(access.by().await?.as_deref() == Some("ingress"));
    let asked = load.end().await?;
    ensure!(asked > 50, "only {asked} requests");

    let ended = access.process.end(Signal::INT, SOON + LATER)?;
    let log = log_tail(&cluster.ops.dir().join("access/server.log"));
    ensure!(ended.success(), "{ended}: {log}");
    for said in [
        "by ingress",
        "by tunnel",
        "closed: Ctrl-C",
        "! gone        cannot be reached",
    ] {
        ensure!(log.contains(said), "{said}: {log}");
    }
    Ok(())
}

async fn the_start_page(access: &Access) -> Result<()> {
    let answer = send(access.port.addr(), for_host("/", "localhost")?).await?;
    let text = String::from_utf8_lossy(answer.body());
    let link = format!("http://web.localhost:{}/", access.port.number());
    ensure!(
        text.contains(&link) && text.contains("default/web:http"),
        "{text}"
    );
    // Another site's name for this machine leads nowhere.
    let answer = send(access.port.addr(), for_host("/", "rebound.example")?).await?;
    ensure!(answer.status() == 404, "{}", answer.status());
    Ok(())
}
