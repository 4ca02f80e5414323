//! The kinds that know no particular server: `http`, `tcp`, `tls`, `dns`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comind_peers::minio::Minio;
use comind_peers::port::Port;
use comind_peers::postgres::Postgres;
use comind_peers::redis::Redis;
use comind_peers::relay::{Mode, Relay};
use comind_peers::tls::Certificate;
use tempfile::TempDir;

use crate::faults;
use crate::names::Names;
use crate::serve::{BRISK, Serve, USUAL};
use crate::web::{Web, certificate_ending};

const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn http_statuses_bodies_and_logins() -> Result<()> {
    let web = Web::start(None).await?;
    let addr = web.addr();
    let items = [
        format!("name: any, kind: http, url: \"http://{addr}/health?deep=1\""),
        format!("name: teapot, kind: http, url: \"http://{addr}\", expect_status: [418]"),
        format!(
            "name: text, kind: http, url: \"http://probe:fathom@{addr}\", expect_body: hello, headers: {{ X-Token: lead }}"
        ),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    let target = serve.until_up("any").await?;
    ensure!(target["facts"]["status"] == 200.0, "{target}");
    serve.until_is("teapot", "down", "bad_status").await?;
    serve.until_up("text").await?;

    web.answer(|answer| answer.body = "good bye".to_owned());
    serve.until_is("text", "down", "unexpected_answer").await?;
    for (status, reason) in [
        (500, "bad_status"),
        (401, "wrong_password"),
        (403, "permission_denied"),
    ] {
        web.answer(|answer| answer.status = status);
        serve.until_is("any", "down", reason).await?;
    }
    web.answer(|answer| answer.status = 418);
    serve.until_up("teapot").await?;

    // A server that closes after each answer is no outage, look after look.
    web.answer(|answer| (answer.status, answer.close) = (200, true));
    serve.until_up("any").await?;
    let mut events = serve.events().await?;
    events.snapshot(crate::serve::SOON).await?;
    serve.until_looked("any", 5).await?;
    let flaps: Vec<_> = events
        .since()
        .into_iter()
        .filter(|seen| seen.data["target"] == "any")
        .collect();
    ensure!(flaps.is_empty(), "{flaps:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn http_sends_what_the_config_says() -> Result<()> {
    let web = Web::start(None).await?;
    let addr = web.addr();
    let item = format!(
        "name: text, kind: http, url: \"http://probe:fathom@{addr}\", headers: {{ X-Token: lead }}"
    );
    let serve = Serve::start(BRISK, &[item]).await?;
    serve.until_up("text").await?;
    let asked = web.asked();
    ensure!(
        asked.get("x-token").is_some_and(|value| value == "lead"),
        "{asked:?}"
    );
    let basic = "Basic cHJvYmU6ZmF0aG9t"; // probe:fathom in Base64
    ensure!(
        asked
            .get("authorization")
            .is_some_and(|value| value == basic),
        "{asked:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn http_faults() -> Result<()> {
    // MinIO's health page stands for any web application.
    let mut minio = Minio::start().await?;
    let relay = Relay::start(minio.addr()).await?;
    let path = "minio/health/live";
    let items = [
        format!(
            "name: direct, kind: http, url: \"http://{}/{path}\"",
            minio.addr()
        ),
        format!(
            "name: relayed, kind: http, url: \"http://{}/{path}\"",
            relay.addr()
        ),
    ];
    let serve = Serve::start(USUAL, &items).await?;
    faults::of_the_way(&serve, "relayed", &relay).await?;
    faults::of_process(&serve, "direct", &mut minio).await
}

/// A folder with the authority's certificate in it.
fn authority(certificate: &Certificate) -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, &certificate.authority_pem)?;
    Ok((dir, file))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates() -> Result<()> {
    let good = certificate_ending(60 * DAY)?;
    let near = certificate_ending(10 * DAY)?;
    let past = certificate_ending(-3600)?;
    let mut items = Vec::new();
    let mut kept = Vec::new();
    for (name, certificate) in [("good", &good), ("near", &near), ("past", &past)] {
        let web = Web::start(Some(certificate)).await?;
        let (dir, file) = authority(certificate)?;
        let (addr, file) = (web.addr(), file.display().to_string());
        items.push(format!(
            "name: http-{name}, kind: http, url: \"https://{addr}\", tls: {{ ca_file: \"{file}\" }}"
        ));
        items.push(format!(
            "name: tls-{name}, kind: tls, url: \"tls://{addr}\", tls: {{ ca_file: \"{file}\" }}"
        ));
        kept.push((web, dir));
    }
    let addr = kept.first().context("no server")?.0.addr();
    let port = addr.port();
    items.push(format!("name: untrusted, kind: tls, url: \"tls://{addr}\""));
    items.push(format!(
        "name: blind, kind: tls, url: \"tls://{addr}\", tls: {{ insecure_skip_verify: true }}"
    ));
    let file = authority(&good)?;
    let ca = file.1.display();
    items.push(format!(
        "name: misnamed, kind: tls, url: \"tls://localhost:{port}\", tls: {{ ca_file: \"{ca}\" }}"
    ));
    let plain = Redis::start().await?;
    items.push(format!(
        "name: plain, kind: tls, url: \"tls://{}\"",
        plain.addr()
    ));
    let serve = Serve::start(BRISK, &items).await?;
    for kind in ["http", "tls"] {
        let target = serve.until_up(&format!("{kind}-good")).await?;
        let end = target["facts"]["certificate_expiry_timestamp_seconds"].as_f64();
        ensure!(end.is_some(), "{target}");
        let near = format!("{kind}-near");
        serve
            .until_is(&near, "degraded", "certificate_expiring")
            .await?;
        let past = format!("{kind}-past");
        serve.until_is(&past, "down", "certificate_expired").await?;
    }
    serve.until_is("untrusted", "down", "tls_error").await?;
    serve.until_is("misnamed", "down", "tls_error").await?;
    serve.until_up("blind").await?;
    let down = |target: &serde_json::Value| target["health"] == "down";
    serve
        .until("plain", "down", crate::serve::LATER, down)
        .await?;
    let metrics = serve.get("/metrics").await?;
    let end = crate::serve::value(
        &metrics,
        "comind_certificate_expiry_timestamp_seconds",
        &[("target", "tls-near")],
    );
    ensure!(end > Some(0.0), "no expiry of tls-near");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_speak_tls() -> Result<()> {
    let certificate = Certificate::new()?;
    let (_dir, file) = authority(&certificate)?;
    let ca = file.display();
    let postgres = Postgres::builder().tls(&certificate).start().await?;
    let redis = Redis::builder().tls(&certificate).start().await?;
    let plain = Postgres::start().await?;
    let (pg, cache) = (postgres.url(), redis.url());
    let items = [
        format!(
            "name: pg, kind: postgresql, url: \"{pg}?sslmode=verify-full\", tls: {{ ca_file: \"{ca}\" }}"
        ),
        format!("name: pg-require, kind: postgresql, url: \"{pg}?sslmode=require\""),
        format!("name: pg-untrusted, kind: postgresql, url: \"{pg}?sslmode=verify-full\""),
        format!(
            "name: pg-without, kind: postgresql, url: \"{}?sslmode=require\"",
            plain.url()
        ),
        format!("name: redis, kind: redis, url: \"{cache}\", tls: {{ ca_file: \"{ca}\" }}"),
        format!("name: redis-untrusted, kind: redis, url: \"{cache}\""),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    for name in ["pg", "pg-require", "redis"] {
        let target = serve.until_up(name).await?;
        let end = &target["facts"]["certificate_expiry_timestamp_seconds"];
        ensure!(end.is_f64(), "{target}");
    }
    for name in ["pg-untrusted", "pg-without", "redis-untrusted"] {
        serve.until_is(name, "down", "tls_error").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_banners() -> Result<()> {
    let redis = Redis::start().await?;
    let relay = Relay::start(redis.addr()).await?;
    let (addr, by_relay, nobody) = (redis.addr(), relay.addr(), Port::free()?);
    let items = [
        format!("name: open, kind: tcp, url: \"tcp://{by_relay}\""),
        format!(
            "name: pong, kind: tcp, url: \"tcp://{addr}\", send: \"PING\\r\\n\", expect: \"+PONG\""
        ),
        format!(
            "name: other, kind: tcp, url: \"tcp://{addr}\", send: \"QUIT\\r\\n\", expect: \"+PONG\""
        ),
        format!("name: mute, kind: tcp, url: \"tcp://{addr}\", expect: \"+PONG\""),
        format!("name: nobody, kind: tcp, url: \"tcp://{}\"", nobody.addr()),
        "name: nowhere, kind: tcp, url: \"tcp://nowhere.invalid:80\"".to_owned(),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("open").await?;
    serve.until_up("pong").await?;
    serve.until_is("other", "down", "unexpected_answer").await?;
    serve.until_is("mute", "down", "timeout").await?;
    serve.until_is("nobody", "down", "refused").await?;
    serve.until_is("nowhere", "down", "dns_failure").await?;
    relay.set(Mode::Refuse).await?;
    serve.until_is("open", "down", "refused").await?;
    relay.set(Mode::Pass).await?;
    serve.until_up("open").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_answers() -> Result<()> {
    let names = Names::start().await?;
    let (addr, nobody) = (names.addr(), Port::free()?);
    let items = [
        format!("name: any, kind: dns, url: \"dns://{addr}\", query: shop.test"),
        format!(
            "name: right, kind: dns, url: \"dns://{addr}\", query: shop.test, expect: 192.0.2.7"
        ),
        format!("name: missing, kind: dns, url: \"dns://{addr}\", query: stall.test"),
        format!(
            "name: nobody, kind: dns, url: \"dns://{}\", query: shop.test",
            nobody.addr()
        ),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    let target = serve.until_up("any").await?;
    ensure!(target["facts"]["answer"] == "192.0.2.7", "{target}");
    serve.until_up("right").await?;
    serve
        .until_is("missing", "down", "unexpected_answer")
        .await?;
    let down = |target: &serde_json::Value| target["health"] == "down";
    serve
        .until("nobody", "down", crate::serve::LATER, down)
        .await?;
    names.set(Ipv4Addr::new(192, 0, 2, 8));
    serve.until_is("right", "down", "unexpected_answer").await?;
    names.set(Ipv4Addr::new(192, 0, 2, 7));
    serve.until_up("right").await?;
    Ok(())
}
