//! A provider of OpenID Connect (oidc-provider, which is certified) as a peer. Whoever comes to
//! log in is who the header `x-user` says; a test can have the next token made wrong.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::http::{get, send};
use crate::peer::{Peer, Plan, is_peer, own_file};
use crate::process::Launch;
use crate::tool::{Tool, tools_dir};

const NODE: Tool = Tool::debian("node", "nodejs");
const SCRIPT: &str = include_str!("oidc/provider.mjs");
/// What its one client is called.
pub const CLIENT: &str = "comind";
/// The secret of that.
pub const SECRET: &str = "a-secret-of-the-client-0123456789";

/// A running one.
#[derive(Debug)]
pub struct Oidc {
    peer: Peer,
}

is_peer!(Oidc);

impl Oidc {
    /// Starts it; its client may be sent back to these URIs.
    pub async fn start(redirects: &[String]) -> Result<Self> {
        let redirects = redirects.join(",");
        let make = async |dir: &Path, port: u16| {
            let packages = tools_dir()?.join("oidc-provider");
            ensure!(
                packages.join("node_modules").is_dir(),
                "{} is not there: run `make setup-test`",
                packages.display()
            );
            let script = own_file(dir, "provider.mjs", None, SCRIPT)?;
            let launch = Launch::new(NODE.find()?, dir)
                .arg(script)
                .arg(port.to_string())
                .arg(packages)
                .arg(&redirects);
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            Ok(Plan::new(launch, move || async move {
                let path = "/.well-known/openid-configuration";
                get(addr, path).await.map(drop)
            }))
        };
        let peer = Peer::start("oidc", None, make).await?;
        Ok(Self { peer })
    }

    /// Who it is, as it stands in its tokens.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Makes the next token wrong: its `nonce`, `audience`, `issuer`, `signature`, `expired`, with
    /// `none` for a signature, or signed by a `secret`.
    pub async fn spoil(&self, what: &str) -> Result<()> {
        self.post("/wrong", what).await
    }

    /// Signs by another key from now on, and has no other.
    pub async fn rotate(&self) -> Result<()> {
        self.post("/rotate", "").await
    }

    /// All tokens that it has given out, as JSON.
    pub async fn given(&self) -> Result<String> {
        get(self.addr(), "/given").await
    }

    async fn post(&self, path: &str, text: &str) -> Result<()> {
        let body = Full::new(Bytes::from(text.to_owned()));
        let request = Request::post(path).body(body)?;
        let response = send(self.addr(), request).await?;
        ensure!(response.status() == 200, "{path}: {}", response.status());
        Ok(())
    }
}
