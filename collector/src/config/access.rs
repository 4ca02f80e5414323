//! The login, TLS and limits of the section `api`: their keys, and from them to what is demanded
//! of whoever asks. Must not know how that is enforced (`access`).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use super::node::{Node, NodeError};
use super::sections::Api;
use super::{secret_file, web_config};
use crate::access::password::Hash;
use crate::access::policy::{Policy, Rate};
use crate::access::tls::{ClientCertificates, ServerTls, Wanted};
use crate::secret::Secret;

/// Larger files hold no certificates of ours.
const MAX_BYTES: u64 = 1024 * 1024;
/// So many users and tokens; checking a token looks at each of them.
const MOST: usize = 1000;
/// Shorter tokens can be guessed.
const TOKEN_FROM: usize = 16;

/// TLS on the API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate to show, followed by those that lead to its authority.
    /// Followed when it changes; a broken one leaves the one before in force.
    pub cert_file: PathBuf,
    /// PEM file with its key.
    pub key_file: PathBuf,
    /// PEM file with who signs clients' certificates.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show certificates: `none`, `optional` (a bad one is refused), or `require`.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One that is shown must be good.
    Optional,
    /// All must show a good one, also for `/livez` and `/readyz`.
    Require,
}

impl From<ClientAuth> for ClientCertificates {
    fn from(written: ClientAuth) -> Self {
        match written {
            ClientAuth::None => Self::None,
            ClientAuth::Optional => Self::Optional,
            ClientAuth::Require => Self::Require,
        }
    }
}

/// A bearer token: `token` or `token_file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// The token, 16 characters or more.
    #[serde(default)]
    pub token: Option<Secret>,
    /// A file that holds it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// How often one client (an address, or a /64 of IPv6) may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Requests a second.
    pub per_second: NonZeroU32,
    /// Requests at once after a rest.
    pub burst: NonZeroU32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            per_second: NonZeroU32::new(200).unwrap_or(NonZeroU32::MIN),
            burst: NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// What the section demands; reads the files that it names and adds them to `files`.
/// `node` is the section with the paths in it resolved.
pub(super) fn policy(
    api: &Api,
    node: &Node,
    files: &mut BTreeSet<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Policy, NodeError> {
    files.extend(files::fingerprints(node).into_iter().map(|(path, _)| path));
    let at = |key: &str| node.get(key).unwrap_or(node);
    if let Some(file) = &api.web_config_file {
        if api.tls.is_some() || !api.users.is_empty() {
            let problem = "`web_config_file` takes the place of `tls` and `users`; give either";
            return Err(at("web_config_file").error(problem));
        }
        let mut policy = web_config::policy(file, files, warnings)
            .map_err(|problem| at("web_config_file").error(problem))?;
        policy.tokens = tokens(api, at("tokens"))?;
        policy.open_health = api.open_health;
        policy.rate = policy.rate.or(rate(api.rate_limit));
        policy.read_only = read_only(api, &policy, at("read_only"))?;
        return Ok(policy);
    }
    let mut policy = Policy {
        tls: match &api.tls {
            Some(tls) => Some(tls.read().map_err(|problem| at("tls").error(problem))?),
            None => None,
        },
        users: users(&api.users, at("users"))?,
        tokens: tokens(api, at("tokens"))?,
        open_health: api.open_health,
        rate: rate(api.rate_limit),
        headers: Vec::new(),
        read_only: BTreeSet::new(),
    };
    policy.read_only = read_only(api, &policy, at("read_only"))?;
    Ok(policy)
}

/// A name that nobody has would leave somebody with a right that was meant to be taken.
fn read_only(api: &Api, policy: &Policy, node: &Node) -> Result<BTreeSet<String>, NodeError> {
    let users = policy.users.iter().map(|(name, _)| name);
    let known: BTreeSet<_> = users
        .chain(policy.tokens.iter().map(|(name, _)| name))
        .collect();
    if let Some(name) = api.read_only.iter().find(|name| !known.contains(name)) {
        let problem = format!("`{name}` is the name of no user and of no token of `api`");
        return Err(node.error(problem));
    }
    Ok(api.read_only.iter().cloned().collect())
}

/// What is demanded where the section is not there.
pub(super) fn undemanding() -> Policy {
    Policy {
        open_health: true,
        rate: rate(RateLimit::default()),
        ..Policy::default()
    }
}

fn rate(limit: RateLimit) -> Option<Rate> {
    Some(Rate {
        period: Duration::from_secs(1) / limit.per_second.get(),
        burst: limit.burst,
    })
}

/// Users with the hashes of their passwords; `node` is where they stand.
pub(super) fn users(
    written: &BTreeMap<String, Secret>,
    node: &Node,
) -> Result<Vec<(String, Hash)>, NodeError> {
    if written.len() > MOST {
        return Err(node.error(format!("more than {MOST} users; use certificates instead")));
    }
    let read = |(name, hash): (&String, &Secret)| {
        let at = node.get(name).unwrap_or(node);
        if name.is_empty() || name.contains(':') {
            return Err(at.error("a user's name is not empty and has no `:` in it"));
        }
        let hash = Hash::parse(hash.reveal())
            .map_err(|problem| at.error(format!("the password of `{name}` {problem}")))?;
        Ok((name.clone(), hash))
    };
    written.iter().map(read).collect()
}

fn tokens(api: &Api, node: &Node) -> Result<Vec<(String, Secret)>, NodeError> {
    if api.tokens.len() > MOST {
        return Err(node.error(format!("more than {MOST} tokens")));
    }
    let read = |written: &Token| {
        let fail = |problem: String| node.error(format!("token `{}`: {problem}", written.name));
        let token = match (&written.token, &written.token_file) {
            (Some(token), None) => token.clone(),
            (None, Some(file)) => secret_file::read(file).map_err(fail)?,
            _ => return Err(fail("give `token` or `token_file`".to_owned())),
        };
        let text = token.reveal();
        if text.len() < TOKEN_FROM || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fail(format!(
                "it must have {TOKEN_FROM} or more letters, digits and signs without spaces; \
                 `openssl rand -hex 32` makes one"
            )));
        }
        Ok((written.name.clone(), token))
    };
    api.tokens.iter().map(read).collect()
}

impl Tls {
    fn read(&self) -> Result<ServerTls, String> {
        let authorities = match (&self.client_ca_file, self.client_auth) {
            (Some(file), ClientAuth::Optional | ClientAuth::Require) => {
                certificates("client_ca_file", &contents("client_ca_file", file)?)?
            }
            (None, ClientAuth::None) => Vec::new(),
            (Some(_), ClientAuth::None) => {
                return Err(
                    "`client_ca_file` needs `client_auth: optional` or `require`".to_owned(),
                );
            }
            (None, _) => return Err("`client_auth` needs a `client_ca_file`".to_owned()),
        };
        ServerTls::new(Wanted {
            chain: certificates("cert_file", &contents("cert_file", &self.cert_file)?)?,
            key: key("key_file", &contents("key_file", &self.key_file)?)?,
            authorities,
            clients: self.client_auth.into(),
            allowed_names: Vec::new(),
            versions: vec![&TLS13, &TLS12],
            cipher_suites: Vec::new(),
            groups: Vec::new(),
            own_order: true,
            http2: true,
        })
    }
}

/// What is in a file that a key names.
pub(super) fn contents(name: &str, file: &Path) -> Result<Vec<u8>, String> {
    files::bounded(file, MAX_BYTES)
        .map_err(|error| format!("`{name}`: failed to read {}: {error}", file.display()))
}

/// The certificates in a PEM text.
pub(super) fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("`{name}` holds no certificates in PEM: {error}"))?;
    match found.is_empty() {
        true => Err(format!("`{name}` holds no certificate in PEM")),
        false => Ok(found),
    }
}

/// The private key in a PEM text.
pub(super) fn key(name: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("`{name}` holds no private key in PEM: {error}"))
}
