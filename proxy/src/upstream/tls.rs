//! TLS towards upstreams: whom we believe. Must not know HTTP.

use std::sync::Arc;

use comind_model::ingress::UpstreamTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::roots;

/// Ready to shake hands; with and without HTTP/2, and with nothing else.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Offers HTTP/2 and HTTP/1.1.
    pub any: Arc<ClientConfig>,
    /// HTTP/1.1 alone, because upgrades need it.
    pub http1: Arc<ClientConfig>,
    /// HTTP/2 alone, because gRPC needs it: whoever takes both may like HTTP/1.1 better.
    pub http2: Arc<ClientConfig>,
}

impl ClientTls {
    /// Puts it together.
    ///
    /// # Errors
    /// When the authority is not usable, or the system has none.
    pub fn new(wanted: &UpstreamTls) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut any = match wanted.insecure {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
                .with_no_client_auth(),
            false => builder
                .with_root_certificates(roots(wanted)?)
                .with_no_client_auth(),
        };
        any.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http1 = any.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = any.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            any: Arc::new(any),
            http1: Arc::new(http1),
            http2: Arc::new(http2),
        })
    }
}

fn roots(wanted: &UpstreamTls) -> Result<RootCertStore, String> {
    if let Some(pem) = &wanted.authority {
        return roots::of_pem(pem, "the authority");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err("no authority is known, install `ca-certificates` or name one".to_owned()),
        false => Ok(roots),
    }
}

/// Believes whatever it is shown; only where the config says so.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
