//! A login by the cluster's own rights before a page of the platform, asked for by an Ingress object: the
//! platform's ingress asks the API server by the token that its pod has. The login itself is described in
//! the repository, as its users would.

use std::time::Duration;

use anyhow::{Result, ensure};
use comind_peers::http::send;
use comind_peers::wait::wait_for;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::bootstrap_broken::Copy;
use crate::platform_of::PlatformOf;

/// A push, a roll-out, and what the ingress remembers of an answer.
const SOON: Duration = Duration::from_secs(90);
/// The platform's ingress.
const INGRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 8084);

const VALUES: &str = "login: { kubernetes: true }
proxy: { logins: { cluster: { kubernetes: { authorized_ttl: 1s } } } }
";

const INGRESS_OBJECT: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: guarded
  namespace: monitoring
  annotations: { comind.pro/login: cluster, comind.pro/access: get services/proxy prometheus }
spec:
  ingressClassName: comind
  rules:
    - host: guarded.localhost
      http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: prometheus, port: { name: http } } } }] }
";

/// What a request with this token is answered.
async fn answer(token: Option<&str>) -> Result<(u16, String)> {
    let mut request = Request::get("/api/v1/status/buildinfo").header("host", "guarded.localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = send(INGRESS.into(), request.body(Full::<Bytes>::default())?).await?;
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    Ok((answer.status().as_u16(), body))
}

async fn until(what: &str, token: Option<&str>, status: u16, says: &str) -> Result<()> {
    wait_for(what, SOON, async || {
        let (got, body) = answer(token).await?;
        ensure!(got == status && body.contains(says), "{got}: {body}");
        Ok(())
    })
    .await
}

/// Nobody without a token, nobody without the right, whoever has it, and not after it was taken away.
pub(crate) async fn the_cluster_decides_who_comes_in(platform: &PlatformOf) -> Result<()> {
    let made = platform
        .kubectl(&["apply", "-f", "-"], INGRESS_OBJECT)
        .await?;
    ensure!(made.code == 0, "{}", made.said());
    until("a login that is not there", None, 503, "login").await?;

    let copy = Copy::of(platform, "login").await?;
    copy.push("environments/prod/comind-ingress.yaml", VALUES)
        .await?;
    let configured = "jsonpath={.data.serve\\.yaml}";
    wait_for("the configuration", SOON, async || {
        let map = [
            "-n",
            "ingress",
            "get",
            "configmap",
            "comind-ingress",
            "-o",
            configured,
        ];
        let text = platform.ask(&map).await?;
        ensure!(text.contains("authorized_ttl"), "{text}");
        Ok(())
    })
    .await?;
    // Sooner than the kubelet brings the file to a pod that runs.
    let deployment = "deployment/comind-ingress";
    platform
        .ask(&["-n", "ingress", "rollout", "restart", deployment])
        .await?;
    platform
        .ask(&[
            "-n",
            "ingress",
            "rollout",
            "status",
            deployment,
            "--timeout=90s",
        ])
        .await?;

    until("the login", None, 401, "").await?;
    let of = ["-n", "user-apps"];
    let account = ["create", "serviceaccount", "guest"];
    platform.ask(&[&of[..], &account].concat()).await?;
    let token = platform
        .ask(&[&of[..], &["create", "token", "guest"]].concat())
        .await?;
    let token = Some(token.trim());
    until("a guest", token, 403, "services/proxy").await?;
    until("somebody unknown", Some("no-such-token"), 401, "").await?;

    let of = ["-n", "monitoring"];
    let role = [
        "create",
        "role",
        "guest",
        "--verb=get",
        "--resource=services/proxy",
    ];
    platform.ask(&[&of[..], &role].concat()).await?;
    let binding = [
        "create",
        "rolebinding",
        "guest",
        "--role=guest",
        "--serviceaccount=user-apps:guest",
    ];
    platform.ask(&[&of[..], &binding].concat()).await?;
    until("a guest with the right", token, 200, "goVersion").await?;
    platform
        .ask(&[&of[..], &["delete", "rolebinding", "guest"]].concat())
        .await?;
    until(
        "one whose right was taken away",
        token,
        403,
        "services/proxy",
    )
    .await?;
    platform
        .ask(&[&of[..], &["delete", "ingress", "guarded"]].concat())
        .await?;
    copy.take_back().await
}
