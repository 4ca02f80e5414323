//! Argo CD's API server as a peer, with the API server and the Redis that it needs; and its command
//! line. Nothing else of Argo CD runs: applications stay as they are made.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use crate::http::get;
use crate::kube::KubeApi;
use crate::peer::{Peer, Plan, is_peer, own_dir};
use crate::port::Port;
use crate::process::Launch;
use crate::redis::Redis;
use crate::tool::Tool;

const ARGOCD: Tool = Tool::built("argocd");
const NAMESPACE: &str = "argocd";

/// The administrator's name.
pub const USER: &str = "admin";
/// The administrator's password.
pub const PASSWORD: &str = "correct-horse";
/// bcrypt of that: `argocd account bcrypt --password correct-horse`.
const HASH: &str = "$2a$10$mS0Y.QEqSsBL9MW1yqeyWuggZnjuLNTnC95h69lq35UmZonV742oq";

/// A running `argocd-server`.
#[derive(Debug)]
pub struct ArgoCd {
    peer: Peer,
    _redis: Redis,
    _metrics: Port,
}

is_peer!(ArgoCd);

impl ArgoCd {
    /// Makes in a cluster what Argo CD keeps there: definitions, settings, the administrator. Its server
    /// makes the project by itself.
    pub async fn prepare(api: &KubeApi) -> Result<()> {
        settle(api, &json!({}), &json!({})).await
    }

    /// The same, where whoever has a token of this issuer for this client may look at everything.
    pub async fn prepare_for(api: &KubeApi, issuer: &str, client: &str) -> Result<()> {
        let provider = format!("name: test\nissuer: {issuer}\nclientID: {client}\n");
        let common =
            json!({ "url": "http://127.0.0.1", "admin.enabled": "false", "oidc.config": provider });
        let rights = json!({ "policy.default": "role:readonly", "scopes": "[groups, email]" });
        settle(api, &common, &rights).await
    }

    /// Starts one in a cluster that is prepared, and waits until it is well; `secure`: as it comes, with
    /// TLS and a certificate of its own making.
    pub async fn start(api: &KubeApi, secure: bool) -> Result<Self> {
        let redis = Redis::start().await?;
        let metrics = Port::free()?;
        let make = async |dir: &Path, port: u16| {
            let at = (api.kubeconfig(), redis.addr(), metrics.number());
            plan(dir, port, at, secure)
        };
        let peer = Peer::start("argocd-server", None, make).await?;
        Ok(Self {
            peer,
            _redis: redis,
            _metrics: metrics,
        })
    }
}

async fn settle(api: &KubeApi, common: &Value, rights: &Value) -> Result<()> {
    api.define_argocd().await?;
    api.make_namespace(NAMESPACE).await?;
    let labels = json!({ "app.kubernetes.io/part-of": "argocd" });
    let make = async |plural: &str, object: Value| {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{plural}");
        api.request(Method::POST, &path, &object.to_string()).await
    };
    for (name, data) in [("argocd-cm", common), ("argocd-rbac-cm", rights)] {
        let object = json!({ "metadata": { "name": name, "labels": labels }, "data": data });
        make("configmaps", object).await?;
    }
    let secret = json!({
        "metadata": { "name": "argocd-secret", "labels": labels },
        "stringData": {
            "admin.password": HASH,
            "admin.passwordMtime": "2026-01-01T00:00:00Z",
            "server.secretkey": "a key for tokens that is long enough",
        },
    });
    make("secrets", secret).await?;
    Ok(())
}

fn plan(
    dir: &Path,
    port: u16,
    (kubeconfig, redis, metrics): (&Path, SocketAddr, u16),
    secure: bool,
) -> Result<Plan> {
    let empty = own_dir(dir, "empty", None)?;
    let mut launch = Launch::new(ARGOCD.find()?, dir)
        .args(["--address", "127.0.0.1", "--port"])
        .arg(port.to_string())
        .args(["--metrics-address", "127.0.0.1", "--metrics-port"])
        .arg(metrics.to_string())
        .args([
            "--namespace",
            NAMESPACE,
            "--loglevel",
            "warn",
            "--kubeconfig",
        ])
        .arg(kubeconfig)
        .args(["--redis", &redis.to_string()])
        .env("ARGOCD_BINARY_NAME", "argocd-server")
        .env("HOME", dir.to_string_lossy());
    for kind in ["TLS", "SSH", "GPG"] {
        launch = launch.env(&format!("ARGOCD_{kind}_DATA_PATH"), empty.to_string_lossy());
    }
    if !secure {
        launch = launch.arg("--insecure");
    }
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    Ok(Plan::new(launch, move || async move {
        match (secure, get(addr, "/healthz").await) {
            // By plain HTTP it sends everybody elsewhere then.
            (true, Err(error)) if format!("{error:#}").contains("307") => Ok(()),
            (true, Ok(_)) => bail!("it should not answer by plain HTTP"),
            (_, answer) => answer.map(drop),
        }
    }))
}

/// Its command line, with a folder of its own for what it remembers.
#[derive(Debug)]
pub struct Cli {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Cli {
    /// Nothing is remembered yet.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir().context("no folder for argocd")?;
        let program = ARGOCD.find()?;
        Ok(Self { program, dir })
    }

    /// Runs it to its end: what it printed, and what it complained about; an error unless it went well.
    pub async fn run(&self, args: &[&str]) -> Result<(String, String)> {
        let mut command: tokio::process::Command =
            Launch::new(self.program.clone(), self.dir.path())
                .args(args.iter().copied())
                .env("HOME", self.dir.path().to_string_lossy())
                .env("ARGOCD_CONFIG_DIR", self.dir.path().to_string_lossy())
                .command()
                .into();
        let done = command.kill_on_drop(true).output();
        let limit = std::time::Duration::from_secs(30);
        let done = tokio::time::timeout(limit, done)
            .await
            .with_context(|| format!("argocd {args:?} has not ended within {limit:?}"))??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        if !done.status.success() {
            bail!("argocd {args:?}: {}\n{out}{err}", done.status);
        }
        Ok((out, err))
    }
}
