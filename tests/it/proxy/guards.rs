//! Who may ask for what objects of a cluster describe, on a real kube-apiserver: logins and lists of
//! clients stand before an Ingress and before a route of a Gateway, and what is not obeyed lets nobody in.

use std::path::Path;

use anyhow::{Result, ensure};
use comind_peers::node::Node;
use http::Method;
use serde_json::json;

use super::curl::curl;
use super::gateway::{self, Cluster as Gateways};
use super::ingress::{self, Cluster as Ingresses};
use crate::serve::Serve;

/// A login `staff` by tokens `NAME-0123456789abcdef`, as the last lines of a configuration.
fn staff(dir: &Path, all: &[(&str, &str)]) -> Result<String> {
    let mut text = "  logins:\n    staff:\n      bearer:\n        tokens:\n".to_owned();
    for (name, role) in all {
        let file = dir.join(name);
        std::fs::write(&file, format!("{name}-0123456789abcdef"))?;
        let file = file.display();
        text += &format!("          {name}: {{ token_file: {file}, roles: [{role}] }}\n");
    }
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_stand_before_an_ingress() -> Result<()> {
    let cluster = Ingresses::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = ingress::pod(node.addr()).await?;
    cluster.service("web", pod).await?;
    let theirs = "nginx.ingress.kubernetes.io";
    for (name, annotations) in [
        ("open", json!({})),
        ("any", json!({ "comind.pro/login": "staff" })),
        (
            "admins",
            json!({ "comind.pro/login": "staff", "comind.pro/roles": "admin, owner" }),
        ),
        // Which this login cannot know.
        (
            "right",
            json!({ "comind.pro/login": "staff", "comind.pro/access": "get services/proxy web" }),
        ),
        ("typo", json!({ "comind.pro/login": "stuff" })),
        // Protected under ingress-nginx: not open here.
        (
            "theirs",
            json!({ format!("{theirs}/auth-url"): "https://login.example.org/auth" }),
        ),
        (
            "listed",
            json!({ format!("{theirs}/denylist-source-range"): "192.0.2.0/24" }),
        ),
        (
            "garbled",
            json!({ "comind.pro/login": "staff", "comind.pro/access": "everything" }),
        ),
    ] {
        let rules = json!([ingress::rule(&format!("{name}.test"), "/", "Prefix", "web")]);
        cluster
            .ingress(name, "edge", annotations, rules, json!({}))
            .await?;
    }
    let dir = tempfile::tempdir()?;
    let logins = staff(dir.path(), &[("ada", "admin"), ("bob", "dev")])?;
    let config = cluster.config(cluster.api.kubeconfig()) + &logins;
    let serve = Serve::start_with(&config).await?;
    cluster
        .until(&serve, "open.test", "/", |seen| seen.status == 200)
        .await?;

    let by = async |host: &str, token: &str| -> Result<u16> {
        let url = format!("http://{host}.test:{}/", cluster.port.number());
        let header = format!("authorization: Bearer {token}-0123456789abcdef");
        Ok(curl(cluster.port.addr(), &url, &["-H", &header])
            .await?
            .status)
    };
    for (host, ada, bob, nobody) in [
        ("any", 200, 200, 401),
        ("admins", 200, 403, 401),
        ("right", 403, 403, 401),
        ("typo", 503, 503, 503),
        ("theirs", 404, 404, 404),
        ("listed", 404, 404, 404),
        ("garbled", 404, 404, 404),
    ] {
        let seen = [
            by(host, "ada").await?,
            by(host, "bob").await?,
            cluster.ask(&format!("{host}.test"), "/").await?.status,
        ];
        ensure!(seen == [ada, bob, nobody], "{host}: {seen:?}");
    }
    for (ingress, says) in [
        ("theirs", "auth-url"),
        ("listed", "denylist-source-range"),
        ("garbled", "everything"),
    ] {
        let note = cluster.until_told(&serve, ingress, "NobodyAllowed").await?;
        ensure!(note.contains(says), "{note}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_stand_before_a_route() -> Result<()> {
    let cluster = Gateways::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = ingress::pod(node.addr()).await?;
    cluster.service("shop", "web", pod).await?;
    cluster
        .gateway(
            "web",
            "comind",
            json!([gateway::listener("http", None, "All")]),
        )
        .await?;
    for (name, annotations) in [
        ("open", json!({})),
        (
            "asks",
            json!({ "comind.pro/login": "staff", "comind.pro/roles": "admin" }),
        ),
        ("garbled", json!({ "comind.pro/roles": "admin" })),
        (
            "near",
            json!({ "comind.pro/allowlist-source-range": "127.0.0.0/8" }),
        ),
        (
            "far",
            json!({ "nginx.ingress.kubernetes.io/whitelist-source-range": "10.99.0.0/16" }),
        ),
        (
            "listed",
            json!({ "comind.pro/allowlist-source-range": "everybody" }),
        ),
    ] {
        let rules = json!([{ "backendRefs": [gateway::backend("web", 1)] }]);
        cluster
            .route("shop", name, &format!("{name}.test"), rules)
            .await?;
        let path = format!("{}s/{name}", gateway::path_of("shop", "HTTPRoute", "v1"));
        let patch = json!({ "metadata": { "annotations": annotations } });
        cluster.send(Method::PATCH, &path, &patch).await?;
    }
    let dir = tempfile::tempdir()?;
    let logins = staff(dir.path(), &[("ada", "admin")])?;
    let serve = Serve::start_with(&(cluster.config() + &logins)).await?;
    cluster.until(&serve, "open.test", "/", 200).await?;
    cluster.until(&serve, "asks.test", "/", 401).await?;
    let token = ["-H", "authorization: Bearer ada-0123456789abcdef"];
    let seen = cluster.ask("asks.test", "/", &token).await?;
    ensure!(seen.status == 200, "{seen:?}");
    cluster.until(&serve, "near.test", "/", 200).await?;
    cluster.until(&serve, "far.test", "/", 403).await?;
    // What cannot be read serves nobody, and says so.
    for name in ["garbled", "listed"] {
        let host = format!("{name}.test");
        let seen = cluster.ask(&host, "/", &token).await?;
        ensure!(seen.status == 500, "{name}: {seen:?}");
        let route = ("HTTPRoute", "shop", name);
        let refused = ("Accepted", "False", "UnsupportedValue");
        cluster
            .until_told(&serve, route, gateway::PARENT, refused)
            .await?;
    }
    Ok(())
}
