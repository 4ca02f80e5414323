//! Kind `tls`, and TLS in the kinds that may speak it: trust, names and ends of certificates.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comind_peers::postgres::Postgres;
use comind_peers::redis::Redis;
use comind_peers::tls::Certificate;
use tempfile::TempDir;

use crate::serve::{BRISK, LATER, Serve, value};
use crate::web::{Web, certificate_ending};

const DAY: i64 = 86_400;

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
    serve.until("plain", "down", LATER, down).await?;
    let metrics = serve.get("/metrics").await?;
    let end = value(
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
