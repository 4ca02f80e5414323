//! Prometheus, Alertmanager, ElasticMQ, our own live page, and the start page that leads to them.

use anyhow::{Context as _, Result, ensure};
use comind_peers::chromium::Chromium;
use comind_peers::elasticmq::ElasticMq;
use comind_peers::prometheus::{Alertmanager, Prometheus};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use fantoccini::Client;

use super::open::{Access, cluster, run, until_said, until_shown};
use crate::serve::{LATER, Serve, USUAL};

const SCRAPES_ITSELF: &str = "global: {scrape_interval: 500ms}\n\
     scrape_configs: [{job_name: me, static_configs: [{targets: ['127.0.0.1:1']}]}]\n";

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_watchers_work_at_their_hosts() -> Result<()> {
    let (prometheus, alertmanager, elasticmq, mut redis, browser) = tokio::try_join!(
        Prometheus::start(SCRAPES_ITSELF, &[]),
        Alertmanager::start_quiet(),
        ElasticMq::builder().queue("jobs").start(),
        Redis::start(),
        Chromium::start(),
    )?;
    let item = format!("name: cache, kind: redis, url: \"{}\"", redis.url());
    let serve = Serve::start(USUAL, &[item]).await?;
    let (api, mut exposed) = cluster(&["monitoring", "platform-dev"]).await?;
    for (number, service, server) in [
        (10, ("monitoring", "prometheus", "http"), prometheus.addr()),
        (
            11,
            ("monitoring", "alertmanager", "http"),
            alertmanager.addr(),
        ),
        (
            12,
            ("platform-dev", "elasticmq", "ui"),
            elasticmq.statistics(),
        ),
        (13, ("monitoring", "comind-ops", "http"), serve.addr()),
    ] {
        api.expose(&mut exposed, service, number, server).await?;
    }
    let names = ["prometheus", "alertmanager", "elasticmq", "comind"];
    let access = Access::of(api.kubeconfig(), &names)?;
    for name in names {
        access.until_direct(name).await?;
    }
    let client = browser.session(1100, 800).await?;
    the_start_page_leads_there(&client, &access).await?;
    prometheus_answers_a_question(&client, &access).await?;
    alertmanager_takes_a_silence(&client, &access).await?;
    elasticmq.send("jobs", "a message").await?;
    elasticmq_shows_its_queues(&client, &access).await?;
    serve.until_up("cache").await?;
    the_live_page_lives(&client, &access, &mut redis).await?;
    client.close().await?;
    access.close()
}

/// A person begins there, and goes on by its links.
async fn the_start_page_leads_there(client: &Client, access: &Access) -> Result<()> {
    client.goto(&format!("http://{}/", access.itself())).await?;
    until_shown(client, "tr.service a[href*='prometheus.localhost']").await?;
    // By a script: the table may be drawn anew between looking and clicking.
    let click = "document.querySelector('a[href*=\"//prometheus.localhost\"]').click()";
    client.execute(click, vec![]).await?;
    wait_for("the link to lead there", LATER, async || {
        at(client, access, "prometheus").await
    })
    .await
}

/// Where the browser is: redirects of the program have not led it away.
async fn at(client: &Client, access: &Access, name: &str) -> Result<()> {
    let url = client.current_url().await?;
    ensure!(
        url.as_str().starts_with(&access.url(name, "/")),
        "it is at {url}"
    );
    Ok(())
}

async fn prometheus_answers_a_question(client: &Client, access: &Access) -> Result<()> {
    // Its own redirect leads from / to the page, and this one asks at once.
    let asked = "/classic/graph?g0.expr=prometheus_build_info%20or%20up&g0.tab=1";
    client.goto(&access.url("prometheus", asked)).await?;
    until_said(client, "instance=\"127.0.0.1:1\"").await?;
    at(client, access, "prometheus").await?;
    // As newer pages and Grafana ask: by POST, with an Origin.
    let script = "const answer = await fetch('/api/v1/query', { method: 'POST', body: new URLSearchParams({ query: 'vector(7)' }) });
        return (await answer.json()).data.result[0].value[1]";
    ensure!(run(client, script).await? == "7");
    Ok(())
}

async fn alertmanager_takes_a_silence(client: &Client, access: &Access) -> Result<()> {
    client.goto(&access.url("alertmanager", "/")).await?;
    until_said(client, "Alertmanager").await?;
    // As its page does where it has one.
    let script = "const at = hours => new Date(Date.now() + hours * 3600e3).toISOString();
        const silence = { matchers: [{ name: 'alertname', value: 'Quiet', isRegex: false, isEqual: true }],
          startsAt: at(0), endsAt: at(1), createdBy: 'me', comment: 'by the page' };
        const made = await fetch('/api/v2/silences', { method: 'POST', body: JSON.stringify(silence),
          headers: { 'content-type': 'application/json' } });
        const { silenceID } = await made.json();
        const all = await (await fetch('/api/v2/silences')).json();
        return all.some(one => one.id === silenceID && one.comment === 'by the page')";
    ensure!(run(client, script).await? == true, "it has no such silence");
    Ok(())
}

async fn elasticmq_shows_its_queues(client: &Client, access: &Access) -> Result<()> {
    // What its page asks every second, and what it shows of one queue.
    client
        .goto(&access.url("elasticmq", "/statistics/queues"))
        .await?;
    until_said(client, "jobs").await?;
    let script = "const all = await (await fetch('/statistics/queues')).json();
        const one = await (await fetch('/statistics/queues/jobs')).json();
        return [all[0].name, one.name, all[0].statistics.approximateNumberOfVisibleMessages]";
    let shown = run(client, script).await?;
    ensure!(shown == serde_json::json!(["jobs", "jobs", 1]), "{shown}");
    Ok(())
}

async fn the_live_page_lives(client: &Client, access: &Access, redis: &mut Redis) -> Result<()> {
    client.goto(&access.url("comind", "/")).await?;
    until_shown(client, "html[data-link=live]").await?;
    until_shown(client, "[data-name=cache][data-health=up]").await?;
    run(client, "window.sameDocument = true").await?;
    redis.kill()?;
    until_shown(client, "[data-name=cache][data-health=down]").await?;
    let same = run(client, "return window.sameDocument === true").await?;
    ensure!(same == true, "the page was reloaded");
    at(client, access, "comind").await.context("the live page")
}
