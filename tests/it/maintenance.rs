//! Maintenance by the API: an outage in it is told to nobody until it ends, it survives a kill,
//! and strangers cannot begin one.

use anyhow::{Context, Result, ensure};
use comind_peers::http::send as send_to;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;

use crate::receiver::Receiver;
use crate::serve::{LATER, Serve};

const PATH: &str = "/api/v1/maintenance";
const WANTED: &str = r#"{"name":"disks","targets":["cache"],"duration":"1h"}"#;

async fn send(
    serve: &Serve,
    method: Method,
    path: &str,
    kind: &str,
    body: &str,
) -> Result<(u16, Value)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", serve.addr().to_string())
        .header("content-type", kind)
        .body(Full::from(body.to_owned().into_bytes()))?;
    let answer = send_to(serve.addr(), request).await?;
    let status = answer.status().as_u16();
    let bytes = answer.into_body();
    let value = match bytes.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&bytes).with_context(|| format!("{bytes:?}"))?,
    };
    Ok((status, value))
}

async fn muted(serve: &Serve) -> Result<()> {
    let waited = wait_for("the outage to be muted", LATER, async || {
        let alerts: Value = serde_json::from_str(&serve.get("/api/v1/alerts").await?)?;
        let open = &alerts["alerts"][0];
        ensure!(
            open["muted"]["why"] == "maintenance" && open["muted"]["of"] == "disks",
            "{alerts}"
        );
        ensure!(open["told"] == false, "{alerts}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_maintenance_is_told_when_that_ends() -> Result<()> {
    let receiver = Receiver::start().await?;
    let mut redis = Redis::start().await?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ndefaults: {{ interval: 200ms, timeout: 1s }}\n\
         notify: {{ webhooks: [{{ url: \"http://{}/\" }}] }}\n\
         targets:\n  - {{ name: cache, kind: redis, required: true, url: \"{}\" }}\n",
        receiver.addr(),
        redis.url()
    );
    let mut serve = Serve::start_with(&config).await?;
    serve.until_up("cache").await?;
    let (status, begun) = send(&serve, Method::POST, PATH, "application/json", WANTED).await?;
    ensure!(status == 201, "{status} {begun}");
    redis.kill()?;
    serve.until_is("cache", "down", "refused").await?;
    muted(&serve).await?;
    serve.kill()?;
    serve.start_again().await?;
    serve.until_is("cache", "down", "refused").await?;
    muted(&serve).await?;
    let (_, listed) = send(&serve, Method::GET, PATH, "application/json", "").await?;
    ensure!(listed["maintenance"][0] == begun, "{listed}");
    ensure!(receiver.posted().is_empty(), "told in maintenance");

    let one = format!("{PATH}/{}", begun["id"].as_str().context("no id")?);
    let (status, _) = send(&serve, Method::DELETE, &one, "application/json", "").await?;
    ensure!(status == 204, "{status}");
    let posted = receiver.until(1, LATER).await?;
    ensure!(
        posted[0].json()["alert"]["target"] == "cache",
        "{:?}",
        posted[0].json()
    );
    let (status, _) = send(&serve, Method::DELETE, &one, "application/json", "").await?;
    ensure!(status == 404, "{status}");
    let (_, listed) = send(&serve, Method::GET, PATH, "application/json", "").await?;
    ensure!(listed["maintenance"] == serde_json::json!([]), "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_meant_begins_nothing() -> Result<()> {
    let serve = Serve::start_with("api: { listen: LISTEN }\ndata_dir: DATA\ntargets: []\n").await?;
    let json = "application/json";
    let cases = [
        // What a form of another site can send.
        ("text/plain", WANTED, 415),
        ("application/x-www-form-urlencoded", WANTED, 415),
        (json, "{", 400),
        (json, r#"{"name":"a","targets":["*"]}"#, 422),
        (
            json,
            r#"{"name":"a","targets":["*"],"duration":"99d"}"#,
            422,
        ),
        (json, r#"{"name":"a","targets":[],"duration":"1h"}"#, 422),
        (
            json,
            r#"{"name":"a","targets":["*"],"duration":"1h","forever":true}"#,
            422,
        ),
    ];
    for (kind, body, wanted) in cases {
        let (status, said) = send(&serve, Method::POST, PATH, kind, body).await?;
        ensure!(status == wanted, "{kind} {body}: {status} {said}");
        ensure!(
            said["error"].is_string() && said["advice"].is_string(),
            "{said}"
        );
    }
    let (_, listed) = send(&serve, Method::GET, PATH, json, "").await?;
    ensure!(listed["maintenance"] == serde_json::json!([]), "{listed}");
    Ok(())
}
