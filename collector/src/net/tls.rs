//! The client side of TLS: whom to trust, what to show, and what the server showed.
//! Must not know protocols above it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use comind_model::reason::Reason;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::probe::failure::Failure;

/// How to speak TLS with a target.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file with the certificates to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must bear, instead of the host in `url`.
    pub server_name: Option<String>,
    /// PEM file with the certificate to show, where the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Accept any certificate. Then anybody can pretend to be the target.
    pub insecure_skip_verify: bool,
}

/// Ready to shake hands.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// From settings; reads the files that they name.
    ///
    /// # Errors
    /// When a file cannot be read, or a name is none; says which and what to do.
    pub fn new(settings: &TlsSettings, host: &str) -> Result<Self, String> {
        let name = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            format!("`{name}` is no name that a certificate can bear; set tls.server_name")
        })?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("failed to set up TLS: {error}"))?;
        let builder = if settings.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider())))
        } else {
            builder.with_root_certificates(roots(settings)?)
        };
        let config = match (&settings.cert_file, &settings.key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                    format!("failed to read tls.key_file {}: {error}", key.display())
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    format!("tls.cert_file and tls.key_file do not fit: {error}")
                })?
            }
            _ => {
                return Err(
                    "tls.cert_file and tls.key_file go together; give both or none".to_owned(),
                );
            }
        };
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// Offers these protocols by ALPN.
    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// `TlsError`, `CertificateExpired`, or what the connection came to.
    pub async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let connector = TlsConnector::from(self.config.clone());
        connector
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| {
                let mut failure = Failure::io("agree on TLS", &error);
                if failure.reason == Reason::ProtocolError {
                    failure.reason = Reason::TlsError;
                }
                failure
            })
    }
}

/// When the certificate that the server showed ends, in seconds since the Unix epoch.
pub fn certificate_expiry(stream: &TlsStream<TcpStream>) -> Option<f64> {
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates()?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    Some(parsed.validity().not_after.timestamp() as f64)
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
        .clone()
}

fn roots(settings: &TlsSettings) -> Result<Arc<RootCertStore>, String> {
    let Some(file) = &settings.ca_file else {
        return Ok(system_roots());
    };
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| {
            format!(
                "a certificate in tls.ca_file {} is not usable: {error}",
                file.display()
            )
        })?;
    }
    Ok(Arc::new(store))
}

fn certificates(file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "failed to read certificates from {}: {error}",
            file.display()
        )
    };
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&error))?;
    if found.is_empty() {
        return Err(failed(&"there is none in it"));
    }
    Ok(found)
}

/// Read once: they are many, and the same for every target.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_, unusable) = store.add_parsable_certificates(found.certs);
        if unusable > 0 || !found.errors.is_empty() {
            tracing::warn!(
                unusable,
                errors = found.errors.len(),
                "some of the system's CA certificates cannot be used"
            );
        }
        Arc::new(store)
    };
    ROOTS.get_or_init(load).clone()
}

/// Trusts every certificate, for `insecure_skip_verify`; signatures are still checked.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
