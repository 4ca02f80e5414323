//! The certificates that are shown, chosen by the name that a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::login::door::Shown;
use comind_model::ingress::{Certificate, Tls};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use super::authority::Authority;
use super::roots;

/// Finds certificates by name.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the first label, its dot included.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For names that none has, and for clients that ask for none.
    first: Option<Arc<CertifiedKey>>,
    own: Option<Arc<Authority>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let found = name.as_deref().and_then(|name| self.find(name));
        found
            .or_else(|| {
                self.own
                    .as_ref()?
                    .certificate(name.as_deref().unwrap_or("localhost"))
            })
            .or_else(|| self.first.clone())
    }
}

impl ByName {
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let by_rest = || {
            name.find('.')
                .and_then(|dot| self.wildcard.get(&name[dot..]))
        };
        self.exact.get(name).or_else(by_rest).cloned()
    }
}

/// What a set of certificates makes.
#[derive(Debug)]
pub struct Made {
    /// For the acceptor; none where there is no certificate at all.
    pub config: Option<Arc<ServerConfig>>,
    /// When the first of them ends, in seconds since the Unix epoch; 0 where there is none.
    pub expiry: i64,
    /// What is not usable, and was left out.
    pub problems: Vec<String>,
}

/// The last good certificate of each source.
pub type Known = HashMap<Arc<str>, Loaded>;

/// Puts it together. `tickets` go on from set to set, so that sessions are resumed over a swap.
///
/// # Errors
/// When the clients' authority is not usable: then nobody must get in.
pub fn make(
    tls: &Tls,
    own: Option<Arc<Authority>>,
    tickets: Arc<dyn ProducesTickets>,
    known: &mut Known,
) -> Result<Made, String> {
    let provider = Arc::new(ring::default_provider());
    let mut names = ByName {
        exact: HashMap::new(),
        wildcard: HashMap::new(),
        first: None,
        own,
    };
    let (mut problems, mut expiry) = (Vec::new(), i64::MAX);
    for certificate in &tls.certificates {
        let loaded = match load(certificate, &provider) {
            Ok(loaded) => known
                .entry(certificate.source.clone())
                .insert_entry(loaded)
                .get()
                .clone(),
            Err(problem) => {
                let before = known.get(&certificate.source).cloned();
                let fate = match before {
                    Some(_) => "the one before stays in force",
                    None => "it is left out",
                };
                problems.push(format!(
                    "certificate {}: {problem}; {fate}",
                    certificate.source
                ));
                let Some(before) = before else { continue };
                before
            }
        };
        expiry = expiry.min(loaded.expiry);
        names.first.get_or_insert_with(|| loaded.key.clone());
        for name in loaded.names {
            match name.strip_prefix('*') {
                Some(rest) => names
                    .wildcard
                    .entry(rest.to_owned())
                    .or_insert_with(|| loaded.key.clone()),
                None => names
                    .exact
                    .entry(name)
                    .or_insert_with(|| loaded.key.clone()),
            };
        }
    }
    known.retain(|source, _| tls.certificates.iter().any(|it| it.source == *source));
    let expiry = if expiry == i64::MAX { 0 } else { expiry };
    if names.first.is_none() && names.own.is_none() {
        return Ok(Made {
            config: None,
            expiry,
            problems,
        });
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_authorities {
        Some(pem) => {
            let roots = Arc::new(roots::of_pem(pem, "the clients' authority")?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match tls.client_optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets;
    Ok(Made {
        config: Some(Arc::new(config)),
        expiry,
        problems,
    })
}

/// A certificate that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    expiry: i64,
}

fn load(certificate: &Certificate, provider: &CryptoProvider) -> Result<Loaded, String> {
    let chain = CertificateDer::pem_slice_iter(&certificate.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("no certificate in PEM: {error}"))?;
    let leaf = chain.first().ok_or("it holds no certificate")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .filter_map(dns_name)
            .collect(),
        _ => Vec::new(),
    };
    let expiry = parsed.validity().not_after.timestamp();
    let key = PrivateKeyDer::from_pem_slice(&certificate.key)
        .map_err(|error| format!("no key in PEM: {error}"))?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| format!("the certificate and its key do not fit: {error}"))?;
    Ok(Loaded {
        key: Arc::new(key),
        names,
        expiry,
    })
}

/// Whose certificate a client has shown; nothing where it names nobody.
pub fn shown(certificate: &CertificateDer<'_>) -> Option<Shown> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    let others = parsed.subject_alternative_name().ok().flatten();
    let email = others.and_then(|others| {
        let names = others.value.general_names.iter();
        names.into_iter().find_map(|name| match name {
            GeneralName::RFC822Name(mail) => Some(Arc::from(*mail)),
            _ => None,
        })
    });
    let mut hash = [0; 32];
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, certificate);
    hash.copy_from_slice(digest.as_ref());
    Some(Shown {
        name: name.into(),
        email,
        hash,
    })
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}

/// Checks a set without bringing it into force.
///
/// # Errors
/// All that is wrong with it.
pub fn check(tls: &Tls) -> Result<(), Vec<String>> {
    let tickets = ring::Ticketer::new().map_err(|error| vec![error.to_string()])?;
    match make(tls, None, tickets, &mut Known::new()) {
        Ok(made) if made.problems.is_empty() => Ok(()),
        Ok(made) => Err(made.problems),
        Err(problem) => Err(vec![problem]),
    }
}
