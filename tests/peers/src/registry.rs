//! A registry of images as a peer: CNCF distribution, on loopback or on another address of this
//! machine, with TLS and a login if they are wanted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::net::TcpStream;

use crate::http::send;
use crate::peer::{Peer, Plan, is_peer, own_file};
use crate::process::Launch;
use crate::tls::{Certificate, CertificateFiles};
use crate::tool::Tool;

const REGISTRY: Tool = Tool::debian("docker-registry", "docker-registry");
/// Who may use one with a login, and by what.
pub const LOGIN: (&str, &str) = ("pusher", "its-secret");

/// What can be chosen before the start.
#[derive(Debug, Clone)]
pub struct RegistryBuilder {
    address: IpAddr,
    login: bool,
    tls: Option<Certificate>,
}

impl RegistryBuilder {
    /// Listens on this address of this machine instead of loopback.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// Wants [`LOGIN`].
    #[must_use]
    pub fn login(mut self) -> Self {
        self.login = true;
        self
    }

    /// Speaks TLS by this certificate.
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.tls = Some(certificate.clone());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Result<Registry> {
        let make = async |dir: &Path, port| self.plan(dir, port);
        let peer = Peer::start("registry", None, make).await?;
        let address = SocketAddr::new(self.address, peer.addr().port());
        Ok(Registry { peer, address })
    }

    fn plan(&self, dir: &Path, port: u16) -> Result<Plan> {
        let address = SocketAddr::new(self.address, port);
        let mut config = serde_json::json!({
            "version": 0.1,
            "log": { "accesslog": { "disabled": false } },
            "storage": {
                "filesystem": { "rootdirectory": dir.join("images") },
                "delete": { "enabled": true },
            },
            "http": { "addr": address.to_string(), "secret": "of no worth" },
        });
        if let Some(certificate) = &self.tls {
            let CertificateFiles {
                certificate, key, ..
            } = certificate.write(dir, None)?;
            config["http"]["tls"] = serde_json::json!({ "certificate": certificate, "key": key });
        }
        if self.login {
            let (user, password) = LOGIN;
            let hash = bcrypt::hash(password, 4)?;
            let file = own_file(dir, "htpasswd", None, &format!("{user}:{hash}\n"))?;
            config["auth"] = serde_json::json!({ "htpasswd": { "realm": "images", "path": file } });
        }
        let config = own_file(dir, "config.yml", None, &config.to_string())?;
        let launch = Launch::new(REGISTRY.find()?, dir).arg("serve").arg(config);
        let plain = self.tls.is_none();
        Ok(Plan::new(launch, move || async move {
            match plain {
                true => {
                    let asked = Request::get(format!("http://{address}/v2/"));
                    send(address, asked.body(Full::<Bytes>::default())?).await?;
                }
                false => drop(TcpStream::connect(address).await?),
            }
            Ok(())
        }))
    }
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    peer: Peer,
    address: SocketAddr,
}

is_peer!(Registry);

impl Registry {
    /// What can be chosen before the start.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            address: Ipv4Addr::LOCALHOST.into(),
            login: false,
            tls: None,
        }
    }

    /// Its host with its port, as images' names begin.
    pub fn host(&self) -> SocketAddr {
        self.address
    }

    /// Where it keeps what was pushed.
    pub fn images(&self) -> std::path::PathBuf {
        self.peer.dir().join("images/docker/registry/v2")
    }
}
