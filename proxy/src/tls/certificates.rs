//! The certificates that are shown, chosen by the name that a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::login::door::Shown;
use comind_model::gateway::Listener;
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
use crate::route::door::{self, Place};
use crate::route::hosts::Hosts;

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

/// The certificates of the listeners at one place of Gateways.
#[derive(Debug)]
struct AtDoor {
    hosts: Hosts<Vec<Loaded>>,
    /// For the hosts of no listener.
    others: Arc<ByName>,
}

impl ResolvesServerCert for AtDoor {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let name = name.as_deref().unwrap_or_default();
        let listener = self.hosts.fitting(name).next();
        let own = listener.and_then(|all| all.iter().find(|one| one.is_for(name)).or(all.first()));
        match own {
            Some(own) => Some(own.key.clone()),
            None => self.others.resolve(hello),
        }
    }
}

/// What a set of certificates makes.
#[derive(Debug)]
pub struct Made {
    /// The same at places of Gateways.
    pub doors: HashMap<Place, Arc<ServerConfig>>,
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
    listeners: &[Listener],
    own: Option<Arc<Authority>>,
    tickets: &Arc<dyn ProducesTickets>,
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
    let shows = names.first.is_some() || names.own.is_some();
    let names = Arc::new(names);
    let configure = |resolver| configure(tls, &provider, tickets, resolver);
    let mut doors = HashMap::new();
    for (place, hosts) in doors_of(listeners, &provider, &mut problems) {
        let others = names.clone();
        doors.insert(place, configure(Arc::new(AtDoor { hosts, others }))?);
    }
    Ok(Made {
        config: if shows { Some(configure(names)?) } else { None },
        doors,
        expiry,
        problems,
    })
}

fn configure(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
    tickets: &Arc<dyn ProducesTickets>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, String> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_authorities {
        Some(pem) => {
            let roots = Arc::new(roots::of_pem(pem, "the clients' authority")?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let verifier = match tls.client_optional {
                true => verifier.allow_unauthenticated(),
                false => verifier,
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets.clone();
    Ok(Arc::new(config))
}

/// What listeners of Gateways show, by place and host.
fn doors_of(
    listeners: &[Listener],
    provider: &CryptoProvider,
    problems: &mut Vec<String>,
) -> HashMap<Place, Hosts<Vec<Loaded>>> {
    let mut doors: HashMap<Place, Hosts<Vec<Loaded>>> = HashMap::new();
    for listener in listeners.iter().filter(|it| it.secure) {
        let hosts = doors.entry(door::place_of(listener)).or_default();
        let shown = hosts.of(&listener.host);
        for certificate in &listener.certificates {
            match load(certificate, provider) {
                Ok(loaded) => shown.push(loaded),
                Err(problem) => {
                    let source = &certificate.source;
                    problems.push(format!("certificate {source}: {problem}; it is left out"));
                }
            }
        }
    }
    doors
}

/// Whether it can be shown.
///
/// # Errors
/// Why not.
pub fn readable(certificate: &Certificate) -> Result<(), String> {
    load(certificate, &ring::default_provider()).map(drop)
}

/// A certificate that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    expiry: i64,
}

impl Loaded {
    /// Whether it has this name.
    fn is_for(&self, name: &str) -> bool {
        let rest = name.find('.').map(|dot| &name[dot..]);
        self.names
            .iter()
            .any(|it| it == name || (rest.is_some() && it.strip_prefix('*') == rest))
    }
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
    match make(tls, &[], None, &tickets, &mut Known::new()) {
        Ok(made) if made.problems.is_empty() => Ok(()),
        Ok(made) => Err(made.problems),
        Err(problem) => Err(vec![problem]),
    }
}
