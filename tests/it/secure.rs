//! An authority that signs certificates for both sides, and a client that speaks HTTP over TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A certificate with its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// Puts both where a config names them, each in one step.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        replace(&dir.join("server.crt"), &self.certificate)?;
        replace(&dir.join("server.key"), &self.key)
    }
}

/// Replaces a file as a renewing program does.
pub(crate) fn replace(file: &Path, text: &str) -> Result<()> {
    let near = file.with_extension("new");
    std::fs::write(&near, text)?;
    std::fs::rename(&near, file).context("could not replace a file")
}

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed whose issuer bears its own name.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate that bears these names.
    pub(crate) fn sign(&self, names: &[&str]) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.0)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Writes `ca.crt`; where it is.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let file = dir.join("ca.crt");
        std::fs::write(&file, self.pem())?;
        Ok(file)
    }
}

/// Asks one server by TLS, each time on a new connection.
#[derive(Clone)]
pub(crate) struct Client {
    addr: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Client {
    /// Trusts this authority, and shows a certificate if it has one.
    pub(crate) fn new(addr: SocketAddr, trusts: &Authority, shows: Option<&Pair>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusts.pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
                builder.with_client_auth_cert(vec![chain], key)?
            }
        };
        Ok(Self {
            addr,
            config: Arc::new(config),
        })
    }

    /// GET with an `Authorization` (none if empty), whatever the status.
    pub(crate) async fn ask(&self, path: &str, authorization: &str) -> Result<Response<Bytes>> {
        let mut request = Request::get(path).header(header::HOST, self.addr.to_string());
        if !authorization.is_empty() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.send(request.body(Full::default())?)
            .await
            .map(|(answer, _)| answer)
    }

    /// Sends a request; its answer, and the certificate that the server showed.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Bytes>, Vec<u8>)> {
        let exchange = async {
            let stream = TcpStream::connect(self.addr).await?;
            let name = ServerName::try_from("127.0.0.1")?;
            let stream = TlsConnector::from(self.config.clone())
                .connect(name, stream)
                .await?;
            let shown = stream.get_ref().1.peer_certificates();
            let shown = shown
                .and_then(|chain| chain.first())
                .map(|leaf| leaf.to_vec());
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            driver.abort();
            let shown = shown.context("the server showed no certificate")?;
            Ok((Response::from_parts(parts, body), shown))
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .context("no answer in time")?
    }

    /// What the server shows now.
    pub(crate) async fn shown(&self) -> Result<Vec<u8>> {
        let request = Request::get("/livez").header(header::HOST, "127.0.0.1");
        let (_, shown) = self.send(request.body(Full::default())?).await?;
        Ok(shown)
    }
}
