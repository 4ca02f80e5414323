//! Targets that a real kube-apiserver names: Monitors and annotated Services, with a real Redis.

use anyhow::{Context, Result, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::redis::Redis;
use comind_peers::wait::wait_for;
use http::Method;
use serde_json::{Value, json};

use crate::serve::{LATER, Serve, value};

const MONITORS: &str = "/apis/comind.pro/v1alpha1/namespaces/shop/monitors";
const SERVICES: &str = "/api/v1/namespaces/shop/services";
const SECRETS: &str = "/api/v1/namespaces/shop/secrets";

async fn cluster() -> Result<KubeApi> {
    let api = KubeApi::start().await?;
    api.define_monitor().await?;
    api.make_namespace("shop").await?;
    Ok(api)
}

fn config(kubeconfig: &std::path::Path, more: &str) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        "api: {{ listen: LISTEN }}
data_dir: DATA
defaults: {{ interval: 200ms, timeout: 1s }}
discovery:
  kubernetes: {{ kubeconfig: {kubeconfig}, relist: 1s, allow: [\"redis://127.0.0.1:*\"]{more} }}
targets:
  - {{ name: taken.shop, kind: tcp, url: \"tcp://127.0.0.1:9\" }}
"
    )
}

async fn make(api: &KubeApi, path: &str, object: Value) -> Result<()> {
    api.request(Method::POST, path, &object.to_string())
        .await
        .map(drop)
}

fn monitor(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "comind.pro/v1alpha1", "kind": "Monitor",
        "metadata": { "name": name }, "spec": spec })
}

/// Waits until the condition of an object has this reason, and hands out its whole status.
async fn told(api: &KubeApi, path: &str, reason: &str) -> Result<Value> {
    wait_for(&format!("{path} to be told {reason}"), LATER, async || {
        let object: Value = serde_json::from_str(&api.request(Method::GET, path, "").await?)?;
        let status = &object["status"];
        let conditions = status["conditions"].as_array().context("no conditions")?;
        let found = conditions.iter().any(|condition| {
            condition["type"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("Accepted"))
                && condition["reason"] == reason
        });
        ensure!(found, "{object}");
        Ok(status.clone())
    })
    .await
}

async fn until_gone(serve: &Serve, name: &str) -> Result<()> {
    wait_for(&format!("{name} to be gone"), LATER, async || {
        ensure!(serve.target(name).await.is_err(), "still there");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_come_change_and_go() -> Result<()> {
    let mut api = cluster().await?;
    let mut redis = Redis::builder().password("fathom").start().await?;
    let bare = format!("redis://{}", redis.addr());
    let secret = json!({ "metadata": { "name": "cache" }, "stringData": { "pw": "fathom" } });
    make(&api, SECRETS, secret).await?;
    let spec = json!({ "kind": "redis", "url": bare, "required": true,
        "secrets": { "password": { "name": "cache", "key": "pw" } } });
    make(&api, MONITORS, monitor("cache", &spec)).await?;
    let serve = Serve::start_with(&config(api.kubeconfig(), "")).await?;
    let state = serve.until_up("cache.shop").await?;
    ensure!(state["required"] == true, "{state}");
    let path = format!("{MONITORS}/cache");
    told(&api, &path, "Watched").await?;

    redis.kill()?;
    serve.until_is("cache.shop", "down", "refused").await?;
    wait_for("the Monitor to show it", LATER, async || {
        let object: Value = serde_json::from_str(&api.request(Method::GET, &path, "").await?)?;
        let status = &object["status"];
        ensure!(
            status["health"] == "down" && status["reason"] == "refused",
            "{status}"
        );
        Ok(())
    })
    .await?;
    redis.restart().await?;
    serve.until_up("cache.shop").await?;

    api.request(Method::PATCH, &path, r#"{"spec":{"required":false}}"#)
        .await?;
    serve
        .until("cache.shop", "optional", LATER, |target| {
            target["required"] == false
        })
        .await?;
    // A wrong password in the Secret is noticed without a word about the Monitor.
    let wrong = r#"{"stringData":{"pw":"plumb"}}"#;
    api.request(Method::PATCH, &format!("{SECRETS}/cache"), wrong)
        .await?;
    serve
        .until_is("cache.shop", "down", "wrong_password")
        .await?;
    let right = r#"{"stringData":{"pw":"fathom"}}"#;
    api.request(Method::PATCH, &format!("{SECRETS}/cache"), right)
        .await?;
    serve.until_up("cache.shop").await?;

    // While the API server is away, what it named is watched on; then it is heard again.
    api.kill()?;
    serve
        .until_value("comind_discovery_up", &[("source", "monitor")], |up| {
            up == 0.0
        })
        .await?;
    serve.until_up("cache.shop").await?;
    serve.until_looked("cache.shop", 3).await?;
    api.restart().await?;
    api.request(Method::DELETE, &path, "").await?;
    until_gone(&serve, "cache.shop").await?;
    let log = serve.log()?;
    ensure!(!log.contains("fathom") && !log.contains("plumb"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_are_refused_are_told_why_and_harm_nobody() -> Result<()> {
    let api = cluster().await?;
    let redis = Redis::start().await?;
    let good = json!({ "kind": "redis", "url": redis.url() });
    let cases = [
        (
            "unknown",
            json!({ "kind": "rediss", "url": redis.url() }),
            "Invalid",
            "redis",
        ),
        (
            "beyond",
            json!({ "kind": "http", "url": "http://169.254.169.254/" }),
            "NotAllowed",
            "169.254.169.254",
        ),
        (
            "file",
            json!({ "kind": "redis", "url": redis.url(), "settings": { "password_file": "/etc/shadow" } }),
            "NotAllowed",
            "password_file",
        ),
        (
            "locked",
            json!({ "kind": "redis", "url": redis.url(), "secrets": { "password": { "name": "none", "key": "x" } } }),
            "SecretUnreadable",
            "none",
        ),
        ("taken", good.clone(), "Conflict", "taken.shop"),
    ];
    for (name, spec, ..) in &cases {
        make(&api, MONITORS, monitor(name, spec)).await?;
    }
    make(&api, MONITORS, monitor("good", &good)).await?;
    let annotated = |name: &str, annotations: Value| {
        json!({ "metadata": { "name": name, "annotations": annotations },
            "spec": { "ports": [{ "port": 6379 }] } })
    };
    let service = annotated(
        "web",
        json!({ "comind.pro/kind": "redis", "comind.pro/interval": "1s" }),
    );
    make(&api, SERVICES, service).await?;
    let service = annotated(
        "bad",
        json!({ "comind.pro/kind": "redis", "comind.pro/port": "x" }),
    );
    make(&api, SERVICES, service).await?;
    let service = annotated("good", json!({ "comind.pro/kind": "redis" }));
    make(&api, SERVICES, service).await?;

    let serve = Serve::start_with(&config(api.kubeconfig(), "")).await?;
    serve.until_up("good.shop").await?;
    for (name, _, reason, word) in &cases {
        let status = told(&api, &format!("{MONITORS}/{name}"), reason).await?;
        ensure!(status["conditions"][0]["status"] == "False", "{status}");
        let message = status["conditions"][0]["message"]
            .as_str()
            .unwrap_or_default();
        ensure!(message.contains(word), "{name}: {message}");
    }
    told(&api, &format!("{SERVICES}/web"), "Watched").await?;
    told(&api, &format!("{SERVICES}/bad"), "Invalid").await?;
    told(&api, &format!("{SERVICES}/good"), "Conflict").await?;
    // Nobody resolves names of a cluster here: that it is looked at there is what shows.
    serve
        .until("web.shop", "looked at", LATER, |target| {
            target["health"] == "down"
                && target["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("web.shop.svc"))
        })
        .await?;
    let text = serve.get("/metrics").await?;
    let objects = |source, reason| {
        value(
            &text,
            "comind_discovery_objects",
            &[("source", source), ("reason", reason)],
        )
    };
    ensure!(objects("monitor", "Watched") == Some(1.0), "{text}");
    ensure!(objects("service", "Watched") == Some(1.0), "{text}");
    ensure!(objects("monitor", "NotAllowed") == Some(2.0), "{text}");

    // Mended, it is heard.
    let mended = r#"{"spec":{"kind":"redis"}}"#;
    api.request(Method::PATCH, &format!("{MONITORS}/unknown"), mended)
        .await?;
    serve.until_up("unknown.shop").await?;
    let status = told(&api, &format!("{MONITORS}/unknown"), "Watched").await?;
    ensure!(
        status["conditions"][0]["observedGeneration"] == 2,
        "{status}"
    );
    // Without the section nothing of the cluster is watched.
    serve.write_config("api: { listen: LISTEN }\ndata_dir: DATA\ntargets: []\n")?;
    until_gone(&serve, "unknown.shop").await?;
    until_gone(&serve, "good.shop").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_take_nothing_else_away() -> Result<()> {
    let api = cluster().await?;
    let redis = Redis::start().await?;
    api.make_account("finder").await?;
    api.allow("finder", "", r#"["services"]"#).await?;
    let kubeconfig = api.kubeconfig_of("finder").await?;
    let service = json!({ "metadata": { "name": "web", "annotations": { "comind.pro/kind": "redis" } },
        "spec": { "ports": [{ "port": 6379 }] } });
    make(&api, SERVICES, service).await?;
    let spec = json!({ "kind": "redis", "url": redis.url() });
    make(&api, MONITORS, monitor("cache", &spec)).await?;
    let serve = Serve::start_with(&config(&kubeconfig, ", namespaces: [shop]")).await?;
    serve
        .until("web.shop", "there", LATER, |target| {
            target["kind"] == "redis"
        })
        .await?;
    serve
        .until_value("comind_discovery_up", &[("source", "monitor")], |up| {
            up == 0.0
        })
        .await?;
    serve
        .until_value("comind_discovery_status_failures_total", &[], |failures| {
            failures > 0.0
        })
        .await?;
    ensure!(
        serve.target("cache.shop").await.is_err(),
        "seen without the right"
    );
    let log = serve.log()?;
    ensure!(log.contains("monitors.comind.pro is forbidden"), "{log}");
    Ok(())
}
