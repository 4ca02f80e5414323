//! Argo CD's server (its page and API) as a peer, without the rest of Argo CD: who may log in is
//! what a provider of OpenID Connect says.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use http::Method;

use crate::http::get;
use crate::kube::KubeApi;
use crate::peer::{Peer, Plan, is_peer};
use crate::port::Port;
use crate::process::Launch;
use crate::redis::Redis;
use crate::tool::Tool;

const ARGOCD: Tool = Tool::built("argocd");
const ROOM: &str = "argocd";

/// A running one.
#[derive(Debug)]
pub struct ArgoCd {
    peer: Peer,
    _metrics: Port,
    _redis: Redis,
}

is_peer!(ArgoCd);

impl ArgoCd {
    /// Makes its definitions and settings in the cluster, and starts it. Whoever has a token of this
    /// issuer for this client may look at everything.
    pub async fn start(api: &KubeApi, issuer: &str, client: &str) -> Result<Self> {
        api.define_argocd().await?;
        api.make_namespace(ROOM).await?;
        settings(api, issuer, client).await?;
        let redis = Redis::start().await?;
        let metrics = Port::free()?;
        let make = async |dir: &Path, port: u16| {
            let launch = Launch::new(ARGOCD.find()?, dir)
                .env("ARGOCD_BINARY_NAME", "argocd-server")
                .arg("--kubeconfig")
                .arg(api.kubeconfig())
                .args(["--namespace", ROOM, "--insecure", "--loglevel", "warn"])
                .args(["--address", "127.0.0.1", "--repo-server", "127.0.0.1:1"])
                .arg(format!("--port={port}"))
                .arg(format!("--metrics-port={}", metrics.number()))
                .arg(format!("--redis={}", redis.addr()));
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            Ok(Plan::new(launch, move || async move {
                let health = get(addr, "/healthz").await?;
                ensure!(health.trim() == "ok", "{health}");
                Ok(())
            }))
        };
        let peer = Peer::start("argocd-server", None, make).await?;
        Ok(Self {
            peer,
            _metrics: metrics,
            _redis: redis,
        })
    }
}

async fn settings(api: &KubeApi, issuer: &str, client: &str) -> Result<()> {
    let oidc = format!("name: test\\nissuer: {issuer}\\nclientID: {client}\\n");
    let common =
        format!(r#"{{"url":"http://127.0.0.1","admin.enabled":"false","oidc.config":"{oidc}"}}"#);
    let rights = r#"{"policy.default":"role:readonly","scopes":"[groups, email]"}"#;
    let nothing = "{}";
    for (name, data) in [
        ("argocd-cm", common.as_str()),
        ("argocd-rbac-cm", rights),
        ("argocd-cmd-params-cm", nothing),
        ("argocd-tls-certs-cm", nothing),
        ("argocd-ssh-known-hosts-cm", nothing),
        ("argocd-gpg-keys-cm", nothing),
    ] {
        make(api, "configmaps", name, "data", data).await?;
    }
    let key = r#"{"server.secretkey":"0123456789abcdef0123456789abcdef"}"#;
    make(api, "secrets", "argocd-secret", "stringData", key).await
}

async fn make(api: &KubeApi, plural: &str, name: &str, key: &str, data: &str) -> Result<()> {
    let object = format!(
        r#"{{"metadata":{{"name":"{name}","labels":{{"app.kubernetes.io/part-of":"argocd"}}}},"{key}":{data}}}"#
    );
    let path = format!("/api/v1/namespaces/{ROOM}/{plural}");
    api.request(Method::POST, &path, &object).await.map(drop)
}
