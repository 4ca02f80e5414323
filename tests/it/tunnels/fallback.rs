//! `comind-ops access` before a service whose ingress is killed, and comes back: one address, and no
//! request fails.

use anyhow::{Result, ensure};
use comind_peers::http::send;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use rustix::process::Signal;
use serde_json::Value;

use super::access::Access;
use super::chaos::CLIENTS;
use super::cluster::Cluster;
use super::load::Load;
use super::streams::{At, Crowd};
use super::{for_host, proxy};
use crate::serve::{LATER, SOON, Serve};

pub(super) async fn one_address_outlives_the_ingress(
    cluster: &Cluster,
    serve: Serve,
    ingress: &Port,
) -> Result<()> {
    let mut access = Access::start(cluster, ingress, &[], &[])?;
    access.until("web", &"ingress".into()).await?;
    ensure!(access.by().await?.as_deref() == Some("ingress"));
    let why = access.until("gone", &Value::Null).await?;
    ensure!(why.contains("there is no service default/gone:80"), "{why}");
    the_start_page(&access).await?;

    an_ingress_stands_still(&access, &serve).await?;
    let load = Load::start(access.port.addr(), "web.localhost", 4);
    drop(serve);
    let why = access.until("web", &"tunnel".into()).await?;
    ensure!(why.contains("through the API server to 2 pods"), "{why}");
    ensure!(why.contains("ingress: "), "{why}");
    // A look that was under way when it was killed says otherwise; the next one says this.
    wait_for("the newest reason", LATER, async || {
        let row = access.row("web").await?;
        let why = row["why"].as_str().unwrap_or_default();
        ensure!(why.contains("refused"), "{row}");
        Ok(())
    })
    .await?;
    ensure!(access.by().await?.is_none(), "nothing is between");
    let _back = proxy(ingress, &cluster.admin()).await?;
    access.until("web", &"ingress".into()).await?;
    ensure!(access.by().await?.as_deref() == Some("ingress"));
    let asked = load.end().await?;
    ensure!(asked > 50, "only {asked} requests");

    let ended = access.process.end(Signal::INT, SOON + LATER)?;
    let log = access.process.log_tail();
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

/// It takes connections and says nothing: who waits for it is answered another way.
async fn an_ingress_stands_still(access: &Access, serve: &Serve) -> Result<()> {
    let mut crowd = Crowd::start(At(access.port.addr()), CLIENTS);
    crowd.a_round().await?;
    serve.signal(Signal::STOP)?;
    let why = access.until("web", &"tunnel".into()).await?;
    ensure!(why.contains("did not answer within"), "{why}");
    crowd.a_round().await?;
    serve.signal(Signal::CONT)?;
    access.until("web", &"ingress".into()).await?;
    crowd.a_round().await?;
    crowd.end().await.map(drop)
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
