//! The live page in a real Chromium: it follows the platform without a reload, asks nobody
//! but its own host, and is a readable picture without JavaScript.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comind_peers::chromium::Chromium;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use crate::serve::{LATER, Serve, USUAL};

/// Where screenshots are kept, so that people can look at what the test saw.
fn artefact(name: &str) -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artefacts");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}

async fn shoot(client: &Client, name: &str) -> Result<()> {
    std::fs::write(artefact(name)?, client.screenshot().await?)?;
    Ok(())
}

async fn until_shown(client: &Client, selector: &str) -> Result<()> {
    wait_for(&format!("the page to show {selector}"), LATER, async || {
        client.find(Locator::Css(selector)).await?;
        Ok(())
    })
    .await
}

/// Runs a script and gives its value.
async fn ask(client: &Client, script: &str) -> Result<Value> {
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
