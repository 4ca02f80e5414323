//! The live page in a real Chromium: it follows the platform without a reload, asks nobody
//! but its own host, and is a readable picture without JavaScript.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comind_peers::chromium::Chromium;
use comind_peers::port::Port;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use fantoccini::{Client, Locator};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::serve::{LATER, Serve, USUAL};

/// Where screenshots are kept, so that people can look at what the test saw.
fn artefact(name: &str) -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artefacts");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}

pub(crate) async fn shoot(client: &Client, name: &str) -> Result<()> {
    std::fs::write(artefact(name)?, client.screenshot().await?)?;
    Ok(())
}

pub(crate) async fn until_shown(client: &Client, selector: &str) -> Result<()> {
    wait_for(&format!("the page to show {selector}"), LATER, async || {
        client.find(Locator::Css(selector)).await?;
        Ok(())
    })
    .await
}

/// Runs a script and gives its value.
pub(crate) async fn ask(client: &Client, script: &str) -> Result<Value> {
    Ok(client.execute(script, vec![]).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_follows_its_service_without_a_reload() -> Result<()> {
    let (mut redis, browser) = tokio::try_join!(Redis::start(), Chromium::start())?;
    let item = format!(
        "name: cache, kind: redis, required: true, url: \"{}\"",
        redis.url()
    );
    let serve = Serve::start(USUAL, &[item]).await?;
    serve.until_up("cache").await?;
    let client = browser.session(1100, 800).await?;
    client.goto(&format!("http://{}/", serve.addr())).await?;
    until_shown(&client, "[data-name=cache][data-health=up]").await?;
    until_shown(&client, "html[data-link=live]").await?;
    ask(&client, "window.sameDocument = true").await?;
    shoot(&client, "page-up.png").await?;

    redis.kill()?;
    until_shown(&client, "[data-name=cache][data-health=down]").await?;
    shoot(&client, "page-down.png").await?;
    let title = client.title().await?;
    ensure!(
        title.contains('1') && title.contains("down"),
        "the title is {title:?}"
    );

    redis.restart().await?;
    until_shown(&client, "[data-name=cache][data-health=up]").await?;
    ensure!(
        ask(&client, "return window.sameDocument === true").await? == json!(true),
        "the page was reloaded"
    );
    only_its_own_host(&client, &serve).await?;
    Ok(client.close().await?)
}

/// Everything that the page fetched came from the host that served it.
async fn only_its_own_host(client: &Client, serve: &Serve) -> Result<()> {
    let script = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    let fetched = ask(client, script).await?;
    let fetched = fetched.as_array().context("no list of what was fetched")?;
    ensure!(
        !fetched.is_empty(),
        "the page fetched nothing, not even its style"
    );
    let own = format!("http://{}/", serve.addr());
    for url in fetched {
        let url = url.as_str().unwrap_or_default();
        ensure!(
            url.starts_with(&own) || url.starts_with("data:"),
            "the page fetched {url}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_lost_its_stream_looks_stale() -> Result<()> {
    let (redis, browser) = tokio::try_join!(Redis::start(), Chromium::start())?;
    let item = format!("name: cache, kind: redis, url: \"{}\"", redis.url());
    let mut serve = Serve::start(USUAL, &[item]).await?;
    serve.until_up("cache").await?;
    let client = browser.session(1100, 800).await?;
    client.goto(&format!("http://{}/", serve.addr())).await?;
    until_shown(&client, "html[data-link=live]").await?;
    serve.stop()?;
    until_shown(&client, "html[data-link=lost]").await?;
    Ok(client.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_and_on_a_phone_it_is_a_picture_that_fits() -> Result<()> {
    let (redis, browser) = tokio::try_join!(Redis::start(), Chromium::start())?;
    let item = format!("name: cache, kind: redis, url: \"{}\"", redis.url());
    let serve = Serve::start(USUAL, &[item]).await?;
    serve.until_up("cache").await?;
    let page = serve.get("/").await?;
    ensure!(
        page.contains("cache") && page.contains("data-health=\"up\""),
        "the page has no tile without its script"
    );
    let client = browser.session(500, 800).await?;
    client.goto(&format!("http://{}/", serve.addr())).await?;
    until_shown(&client, "[data-name=cache]").await?;
    let fits =
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    ensure!(
        ask(&client, fits).await? == json!(true),
        "the page scrolls sideways"
    );
    shoot(&client, "page-phone.png").await?;
    Ok(client.close().await?)
}

const CROWD: usize = 500;
/// Each is an outage of all and its end: 10,000 transitions together.
const ROUNDS: usize = 10;

/// Something that takes connections and holds them, until it is closed.
struct Door(JoinSet<()>);

impl Door {
    async fn open(addr: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut held = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                held.spawn(async move {
                    // Until the other side has had enough.
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                });
                while held.try_join_next().is_some() {}
            }
        });
        Ok(Self(task))
    }

    async fn close(mut self) {
        self.0.shutdown().await;
    }
}

async fn until_all(serve: &Serve, health: &str) -> Result<()> {
    let what = format!("all to be {health}");
    let waited = wait_for(&what, LATER, async || {
        let state = serve.state().await?;
        let targets = state["targets"].as_array().context("no targets")?;
        let there = targets.iter().filter(|target| target["health"] == health);
        let there = there.count();
        ensure!(there == CROWD, "{there} are");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

async fn until_tiles(client: &Client, health: &str) -> Result<()> {
    // One that asks for attention stands in two places.
    let script = format!(
        "const shown = document.querySelectorAll('[data-name][data-health={health}]');
        return new Set(Array.from(shown, tile => tile.dataset.name)).size"
    );
    wait_for(
        &format!("{CROWD} tiles to be {health}"),
        LATER,
        async || {
            let shown = ask(client, &script).await?;
            ensure!(shown.as_u64() == Some(CROWD as u64), "{shown} are");
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_tiles_stay_live_over_ten_thousand_transitions() -> Result<()> {
    let browser = Chromium::start().await?;
    let port = Port::free()?;
    let mut door = Door::open(port.addr()).await?;
    let items: Vec<String> = (0..CROWD)
        .map(|number| format!("name: t{number}, kind: tcp, url: \"tcp://{}\"", port.addr()))
        .collect();
    let serve = Serve::start("{ interval: 2s, timeout: 5s }", &items).await?;
    until_all(&serve, "up").await?;
    let client = browser.session(1100, 800).await?;
    client.goto(&format!("http://{}/", serve.addr())).await?;
    until_shown(&client, "html[data-link=live]").await?;
    ask(&client, "window.sameDocument = true").await?;
    for _ in 0..ROUNDS {
        door.close().await;
        until_all(&serve, "down").await?;
        door = Door::open(port.addr()).await?;
        until_all(&serve, "up").await?;
    }
    until_tiles(&client, "up").await?;
    door.close().await;
    until_tiles(&client, "down").await?;
    ensure!(ask(&client, "return document.documentElement.dataset.link").await? == json!("live"));
    ensure!(
        ask(&client, "return window.sameDocument === true").await? == json!(true),
        "the page was reloaded"
    );
    let text = serve.get("/metrics").await?;
    let counted = text
        .lines()
        .filter(|line| line.starts_with("comind_transitions_total{"));
    let counted: f64 = counted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    ensure!(
        counted >= (CROWD * ROUNDS * 2) as f64,
        "{counted} transitions"
    );
    shoot(&client, "page-crowd.png").await?;
    Ok(client.close().await?)
}
