//! The server side of TLS: which certificate we show, and whose we accept.
//! Must not know files or the config: it is handed what was in them.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::extensions::GeneralName;

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    None,
    /// One that is shown must be good.
    Optional,
    /// All must show a good one.
    Require,
}

/// What is wanted of TLS.
#[derive(Debug)]
pub struct Wanted {
    /// The certificate to show, and those between it and its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Who signs clients' certificates.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Whether clients show them.
    pub clients: ClientCertificates,
    /// One of these names must be in a client's certificate; any will do when this is empty.
    pub allowed_names: Vec<String>,
    /// Versions of TLS that are spoken.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Cipher suites of TLS 1.2 by their IANA names; all when empty.
    pub cipher_suites: Vec<String>,
    /// Groups of the key exchange, most wanted first; all when empty.
    pub groups: Vec<rustls::NamedGroup>,
    /// The client's order of preference counts for nothing.
    pub own_order: bool,
    /// HTTP/2 is offered.
    pub http2: bool,
}

/// Ready to shake hands.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    /// When our certificate ends, in seconds since the Unix epoch.
    pub expiry_seconds: f64,
    /// Whether clients show certificates.
    pub clients: ClientCertificates,
}

impl ServerTls {
    /// Puts it together.
    ///
    /// # Errors
    /// When the parts do not fit; says which.
    pub fn new(wanted: Wanted) -> Result<Self, String> {
        let expiry_seconds = expiry(&wanted.chain)?;
        let provider = Arc::new(provider(&wanted)?);
        let verifier = verifier(&wanted, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&wanted.versions)
            .map_err(|error| format!("no version of TLS is left that works: {error}"))?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(wanted.chain, wanted.key)
            .map_err(|error| format!("the certificate and its key do not fit: {error}"))?;
        config.ignore_client_order = wanted.own_order;
        let protocols: &[&[u8]] = match wanted.http2 {
            true => &[b"h2", b"http/1.1"],
            false => &[b"http/1.1"],
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self {
            config: Arc::new(config),
            expiry_seconds,
            clients: wanted.clients,
        })
    }
}

fn expiry(chain: &[CertificateDer<'static>]) -> Result<f64, String> {
    let leaf = chain.first().ok_or("there is no certificate to show")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| format!("the certificate to show cannot be read: {error}"))?;
    Ok(parsed.validity().not_after.timestamp() as f64)
}

fn provider(wanted: &Wanted) -> Result<CryptoProvider, String> {
    let mut provider = rustls::crypto::ring::default_provider();
    if !wanted.cipher_suites.is_empty() {
        // As in Go, the list is about TLS 1.2; the suites of 1.3 are all good.
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            suite.tls13().is_some() || wanted.cipher_suites.contains(&name)
        });
        let order = |name: &str| {
            wanted
                .cipher_suites
                .iter()
                .position(|wished| wished == name)
        };
        provider
            .cipher_suites
            .sort_by_key(|suite| order(&format!("{:?}", suite.suite())));
    }
    if !wanted.groups.is_empty() {
        let order = |group| wanted.groups.iter().position(|wished| *wished == group);
        provider
            .kx_groups
            .retain(|group| order(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| order(group.name()));
        if provider.kx_groups.is_empty() {
            return Err(
                "none of the curves is supported; X25519, CurveP256 and CurveP384 are".to_owned(),
            );
        }
    }
    Ok(provider)
}

fn verifier(
    wanted: &Wanted,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if wanted.clients == ClientCertificates::None {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for authority in &wanted.authorities {
        roots.add(authority.clone()).map_err(|error| {
            format!("a certificate of the clients' authority is not usable: {error}")
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match wanted.clients {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        _ => builder,
    };
    let inner = builder
        .build()
        .map_err(|error| format!("the clients' authority is not usable: {error}"))?;
    if wanted.allowed_names.is_empty() {
        return Ok(Some(inner));
    }
    Ok(Some(Arc::new(OneOfThese {
        inner,
        names: wanted.allowed_names.clone(),
    })))
}

/// Accepts certificates that its inner verifier accepts and that bear one of these names.
#[derive(Debug)]
struct OneOfThese {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl OneOfThese {
    fn bears(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return false;
        };
        let Ok(Some(names)) = parsed.subject_alternative_name() else {
            return false;
        };
        let allowed = |name: &str| self.names.iter().any(|allowed| allowed == name);
        names.value.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                allowed(name)
            }
            GeneralName::IPAddress(octets) => address(octets).is_some_and(|name| allowed(&name)),
            _ => false,
        })
    }
}

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(octets).to_string());
    }
    let octets = <[u8; 16]>::try_from(octets).ok()?;
    Some(std::net::Ipv6Addr::from(octets).to_string())
}

impl ClientCertVerifier for OneOfThese {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        if !self.bears(end_entity) {
            let refused = CertificateError::ApplicationVerificationFailure;
            return Err(rustls::Error::InvalidCertificate(refused));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
