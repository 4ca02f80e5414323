//! etcd and kube-apiserver as peers: the Kubernetes API without nodes.

mod account;
mod definitions;
pub mod services;
pub mod watching;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::{exchange, get, send, text};
use crate::peer::{Peer, Plan, is_peer, own_dir, own_file};
use crate::port::Port;
use crate::process::Launch;
use crate::tls::Certificate;
use crate::tool::Tool;

const ETCD: Tool = Tool::debian("etcd", "etcd-server");
const APISERVER: Tool = Tool::built("kube-apiserver");
/// Bearer token of the user in group `system:masters`.
const TOKEN: &str = "comind-peers-admin";

/// A running etcd of one member.
#[derive(Debug)]
pub struct Etcd {
    peer: Peer,
    _members: Port,
}

is_peer!(Etcd);

impl Etcd {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let members = Port::free()?;
        let make = async |dir: &Path, port| plan_etcd(dir, port, members.addr());
        let peer = Peer::start("etcd", None, make).await?;
        Ok(Self {
            peer,
            _members: members,
        })
    }

    /// URL for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Forgets every version but the newest: watches from older ones cannot go on.
    pub async fn forget_history(&self) -> Result<()> {
        let ask = async |path: &str, body: String| {
            let request = Request::post(path).body(Full::from(body))?;
            text(&send(self.addr(), request).await?)
        };
        let answer = ask("/v3/kv/range", r#"{"key":"AA=="}"#.to_owned()).await?;
        let revision = answer
            .split_once(r#""revision":""#)
            .and_then(|(_, rest)| rest.split_once('"'))
            .context("the answer holds no revision")?
            .0;
        let body = format!(r#"{{"revision":"{revision}"}}"#);
        ask("/v3/kv/compaction", body).await.map(drop)
    }
}

fn plan_etcd(dir: &Path, port: u16, members: SocketAddr) -> Result<Plan> {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let launch = Launch::new(ETCD.find()?, dir)
        .arg("--data-dir")
        .arg(own_dir(dir, "data", None)?)
        .arg(format!("--listen-client-urls=http://{addr}"))
        .arg(format!("--advertise-client-urls=http://{addr}"))
        .arg(format!("--listen-peer-urls=http://{members}"))
        .arg(format!("--initial-advertise-peer-urls=http://{members}"))
        .arg(format!("--initial-cluster=default=http://{members}"))
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Ok(Plan::new(launch, move || async move {
        let health = get(addr, "/health").await?;
        ensure!(health.contains("true"), "{health}");
        Ok(())
    }))
}

/// A running kube-apiserver with an etcd of its own.
#[derive(Debug)]
pub struct KubeApi {
    peer: Peer,
    etcd: Etcd,
    authority_pem: String,
    kubeconfig: PathBuf,
    /// Where its Services are, if they can be reached.
    network: Option<services::Network>,
}

is_peer!(KubeApi);

impl KubeApi {
    /// Starts etcd and the apiserver, and waits for `/readyz`.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// As [`start`](Self::start), with Services that can be reached from this machine.
    pub async fn start_reachable() -> Result<Self> {
        Self::start_with(Some(services::Network::any())).await
    }

    async fn start_with(network: Option<services::Network>) -> Result<Self> {
        let etcd = Etcd::start().await?;
        let own = network.map(|network| network.own().to_string());
        let names = ["kubernetes", "kubernetes.default.svc"].into_iter();
        let names: Vec<&str> = names.chain(own.as_deref()).collect();
        let certificate = Certificate::for_names(&names)?;
        let range = network.map_or_else(|| "10.96.0.0/16".to_owned(), services::Network::range);
        let make = async |dir: &Path, port| plan_api(dir, port, &etcd.url(), &certificate, &range);
        let peer = Peer::start("kube-apiserver", None, make).await?;
        let kubeconfig = own_file(
            peer.dir(),
            "kubeconfig",
            None,
            &kubeconfig(peer.addr(), peer.dir(), TOKEN),
        )?;
        Ok(Self {
            peer,
            etcd,
            authority_pem: certificate.authority_pem,
            kubeconfig,
            network,
        })
    }

    /// URL of the API.
    pub fn url(&self) -> String {
        format!("https://{}", self.addr())
    }

    /// A kubeconfig of a user who may do everything, context `test`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Its etcd.
    pub fn etcd(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// The authority that signed the apiserver's certificate.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The administrator's bearer token.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// One request as administrator; an error unless it is answered with 2xx.
    /// A body is JSON, or a merge patch for PATCH.
    pub async fn request(&self, method: Method, path: &str, body: &str) -> Result<String> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        self.send(method, path, kind, body).await
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: &str) -> Result<String> {
        let what = format!("{method} {path}");
        request(self.addr(), &self.authority_pem, method, path, (kind, body))
            .await
            .context(what)
    }
}

fn plan_api(
    dir: &Path,
    port: u16,
    etcd: &str,
    certificate: &Certificate,
    services: &str,
) -> Result<Plan> {
    let files = certificate.write(dir, None)?;
    let tokens = own_file(
        dir,
        "tokens.csv",
        None,
        &format!("{TOKEN},admin,admin,system:masters\n"),
    )?;
    let signer = KeyPair::generate()?;
    let private = own_file(dir, "sa.key", None, &signer.serialize_pem())?;
    let public = own_file(dir, "sa.pub", None, &signer.public_key_pem())?;
    let launch = Launch::new(APISERVER.find()?, dir)
        .arg(format!("--etcd-servers={etcd}"))
        .arg("--bind-address=127.0.0.1")
        .arg("--advertise-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg(format!("--tls-cert-file={}", files.certificate.display()))
        .arg(format!("--tls-private-key-file={}", files.key.display()))
        .arg(format!("--token-auth-file={}", tokens.display()))
        .arg("--authorization-mode=RBAC")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!(
            "--service-account-signing-key-file={}",
            private.display()
        ))
        .arg(format!("--service-account-key-file={}", public.display()))
        .arg(format!("--service-cluster-ip-range={services}"))
        .arg("--endpoint-reconciler-type=none")
        // Nobody makes the default ServiceAccount without a controller manager.
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--allow-privileged=true");
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let authority = certificate.authority_pem.clone();
    Ok(Plan::new(launch, move || {
        let authority = authority.clone();
        async move {
            let nothing = ("application/json", "");
            request(addr, &authority, Method::GET, "/readyz", nothing).await?;
            // Namespaces are made a moment after it says that it is ready.
            let path = "/api/v1/namespaces/default";
            request(addr, &authority, Method::GET, path, nothing).await?;
            Ok(())
        }
    }))
}

fn kubeconfig(addr: SocketAddr, dir: &Path, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- name: test\n  cluster:\n    server: https://{addr}\n    \
         certificate-authority: {}/ca.crt\n\
         users:\n- name: admin\n  user:\n    token: {token}\n\
         contexts:\n- name: test\n  context: {{cluster: test, user: admin}}\n",
        dir.display()
    )
}

async fn request(
    addr: SocketAddr,
    authority_pem: &str,
    method: Method,
    path: &str,
    (kind, body): (&str, &str),
) -> Result<String> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::IpAddress(addr.ip().into());
    let stream = connector(authority_pem)?.connect(name, stream).await?;
    text(&exchange(stream, &addr.to_string(), request).await?)
}

fn connector(authority_pem: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn etcd_answers_and_comes_back() -> Result<()> {
        let mut etcd = Etcd::start().await?;
        etcd.kill()?;
        assert!(get(etcd.addr(), "/health").await.is_err());
        etcd.restart().await
    }

    #[tokio::test]
    async fn ready_with_the_credentials_and_keeps_objects() -> Result<()> {
        let mut api = KubeApi::start().await?;
        let path = "/api/v1/namespaces/default/configmaps";
        let object = r#"{"metadata":{"name":"m"},"data":{"k":"v"}}"#;
        api.request(Method::POST, path, object).await?;
        api.kill()?;
        assert!(api.request(Method::GET, "/readyz", "").await.is_err());
        api.restart().await?;
        let found = api.request(Method::GET, &format!("{path}/m"), "").await?;
        assert!(found.contains(r#""k":"v""#), "{found}");
        let config = std::fs::read_to_string(api.kubeconfig())?;
        assert!(config.contains(&api.url()) && config.contains(api.token()));
        Ok(())
    }
}
