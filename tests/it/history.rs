//! What has been: kept over kills, set aside when damaged, asked for by API, badge, feed and page.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use serde_json::Value;

use crate::disk::SmallDisk;
use crate::serve::{LATER, SOON, Serve, value};

fn config(data: &str, redis: &Redis) -> String {
    format!(
        "api: {{ listen: \"LISTEN\" }}\ndata_dir: {data}\ndefaults: {{ interval: 500ms, timeout: 1s }}\ntargets:\n  \
         - {{ name: cache, kind: redis, required: true, slo: 99.9, url: \"{}\" }}\n",
        redis.url()
    )
}

async fn history(serve: &Serve, query: &str) -> Result<Value> {
    Ok(serde_json::from_str(
        &serve.get(&format!("/api/v1/history{query}")).await?,
    )?)
}

async fn outages(serve: &Serve, count: usize) -> Result<Vec<Value>> {
    let what = format!("{count} outages");
    wait_for(&what, LATER, async || {
        let history = history(serve, "?target=cache").await?;
        let outages = history["outages"].as_array().cloned().unwrap_or_default();
        ensure!(outages.len() == count, "{history}");
        Ok(outages)
    })
    .await
    .map_err(|error| serve.blame(error))
}

/// kill -9 in the middle of an outage, and a start after it: one outage, from its true beginning.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_keeps_its_start_over_a_kill() -> Result<()> {
    let mut redis = Redis::start().await?;
    let mut serve = Serve::start_with(&config("DATA", &redis)).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    let down = serve
        .until("cache", "down", SOON, |target| target["health"] == "down")
        .await?;
    let since = down["since"].clone();
    outages(&serve, 1).await?;
    serve.kill()?;
    serve.start_again().await?;
    let again = serve.until_is("cache", "down", "refused").await?;
    ensure!(again["since"] == since, "{again} but it was {since}");
    let found = outages(&serve, 1).await?;
    ensure!(
        found[0]["start"] == since && found[0]["end"].is_null(),
        "{found:?}"
    );
    redis.restart().await?;
    serve.until_up("cache").await?;
    let ended = wait_for("the outage to end", LATER, async || {
        let found = outages(&serve, 1).await?;
        ensure!(found[0]["end"].is_string(), "{found:?}");
        Ok(found)
    })
    .await?;
    ensure!(ended[0]["start"] == since, "{ended:?}");
    ensure!(
        ended[0]["duration_seconds"].as_f64() > Some(0.0),
        "{ended:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_by_api_badge_feed_page_and_metrics() -> Result<()> {
    let mut redis = Redis::start().await?;
    let serve = Serve::start_with(&config("DATA", &redis)).await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    serve.until_is("cache", "down", "refused").await?;
    redis.restart().await?;
    serve.until_up("cache").await?;
    outages(&serve, 1).await?;
    let of = [("target", "cache"), ("window", "1h")];
    wait_for("the report", LATER, async || {
        let text = serve.get("/metrics").await?;
        let uptime = value(&text, "comind_target_uptime_ratio", &of).context("no uptime")?;
        ensure!(uptime > 0.0 && uptime < 1.0, "{uptime}");
        let burn = value(&text, "comind_slo_burn_rate", &of).context("no burn rate")?;
        ensure!(burn > 1.0, "{burn}");
        let left = value(&text, "comind_slo_error_budget_remaining_ratio", &of[..1]);
        ensure!(left.is_some_and(|left| left < 1.0), "{left:?}");
        Ok(())
    })
    .await?;

    let all = history(&serve, "").await?;
    let transitions = all["transitions"].as_array().context("no transitions")?;
    ensure!(transitions.len() >= 3 && all["more"] == false, "{all}");
    let one = history(&serve, "?limit=1").await?;
    ensure!(
        one["transitions"][0] == transitions[0] && one["more"] == true,
        "{one}"
    );
    let none = history(&serve, "?target=other&from=-7d").await?;
    ensure!(none["transitions"] == Value::Array(Vec::new()), "{none}");
    let before = history(&serve, "?from=2020-01-01T00:00:00Z&to=-1h").await?;
    ensure!(before["outages"] == Value::Array(Vec::new()), "{before}");
    for bad in [
        "?from=soon",
        "?from=-1h&to=-2h",
        "?limit=many",
        "?to='%20or%201=1%20--",
    ] {
        let answer = serve.ask(&format!("/api/v1/history{bad}"), &[]).await?;
        ensure!(answer.status() == 400, "{bad}: {}", answer.status());
    }
    let quoted = history(&serve, "?target='%20or%20'1'='1").await?;
    ensure!(
        quoted["transitions"] == Value::Array(Vec::new()),
        "{quoted}"
    );

    ensure!(serve.get("/badge/cache.svg").await?.contains("cache: up"));
    ensure!(serve.get("/badge/cache/30d.svg").await?.contains("%"));
    for missing in [
        "/badge/cache",
        "/badge/none.svg",
        "/badge/cache/2h.svg",
        "/target/none",
    ] {
        ensure!(serve.ask(missing, &[]).await?.status() == 404, "{missing}");
    }
    let feed = serve.get("/feed.atom").await?;
    is_well_formed(&feed)?;
    ensure!(feed.contains("cache was down for"), "{feed}");
    let page = serve.get("/target/cache").await?;
    for wanted in ["cache is up", "Error budget", "Last 90 days", "Outages"] {
        ensure!(page.contains(wanted), "the page lacks {wanted}");
    }
    ensure!(serve.get("/").await?.contains("href=\"target/cache\""));
    Ok(())
}

/// Judged by the XML parser of Python, which knows nothing of us.
fn is_well_formed(text: &str) -> Result<()> {
    let check = "import sys, xml.dom.minidom as m; d = m.parse(sys.stdin.buffer); \
        assert d.documentElement.tagName == 'feed' and d.getElementsByTagName('entry')";
    let mut child = std::process::Command::new("python3")
        .args(["-c", check])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .context("no python3: apt-get install python3")?;
    child
        .stdin
        .take()
        .context("no stdin")?
        .write_all(text.as_bytes())?;
    ensure!(child.wait()?.success(), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside_and_reported() -> Result<()> {
    let mut redis = Redis::start().await?;
    let mut serve = Serve::start_with(&config("DATA", &redis)).await?;
    serve.until_up("cache").await?;
    serve.kill()?;
    let data = serve.data_dir();
    for name in ["history.sqlite", "notify.sqlite"] {
        std::fs::write(data.join(name), vec![b'x'; 20_000])?;
        // With its log, SQLite would mend the file by itself.
        std::fs::remove_file(data.join(format!("{name}-wal")))?;
    }
    serve.start_again().await?;
    serve.until_up("cache").await?;
    redis.kill()?;
    outages(&serve, 1).await?;
    ensure!(
        data.join("history.sqlite.damaged-1").exists()
            && data.join("notify.sqlite.damaged-1").exists()
    );
    wait_for("the metric", LATER, async || {
        let text = serve.get("/metrics").await?;
        let aside = value(&text, "comind_history_set_aside_total", &[]);
        ensure!(aside == Some(1.0), "{aside:?}");
        Ok(())
    })
    .await?;
    ensure!(serve.log()?.contains("damaged"), "the log says nothing");
    Ok(())
}

/// A disk that is full loses nothing that fits into memory, and history goes on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_history_and_nothing_else() -> Result<()> {
    let disk = SmallDisk::new(None)?;
    let mut redis = Redis::start().await?;
    let data = disk.place().join("data");
    let serve = Serve::start_with(&config(&data.display().to_string(), &redis)).await?;
    serve.until_up("cache").await?;
    disk.fill()?;
    let kept = |wanted: f64| {
        let serve = &serve;
        async move {
            wait_for("comind_history_kept", LATER, async || {
                let text = serve.get("/metrics").await?;
                let kept = value(&text, "comind_history_kept", &[]);
                ensure!(kept == Some(wanted), "{kept:?}");
                Ok(())
            })
            .await
        }
    };
    // Each turn writes a little, until the log of the database finds no more room.
    for _ in 0..2 {
        redis.kill()?;
        serve.until_is("cache", "down", "refused").await?;
        redis.restart().await?;
        serve.until_up("cache").await?;
    }
    kept(0.0).await?;
    disk.free()?;
    kept(1.0).await?;
    outages(&serve, 2).await?;
    Ok(())
}
