//! The key `proxy.logins`: who may pass, and how they prove who they are. From it to what the
//! ingress proxy is told. Must not know how a login is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comind_model::ingress::{Cluster, UpstreamTls};
use comind_model::login::{self, Demand, Hidden, Logins, Means};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Route, kubernetes};
use crate::access::password::Hash;
use crate::config::access::contents;
use crate::config::duration::Span;
use crate::config::node::{Node, NodeError};
use crate::config::secret_file;
use crate::secret::Secret;

/// Where sessions are written down, below `data_dir`.
const FOLDER: &str = "proxy";
/// So many users or tokens of one login.
const MOST: usize = 1000;
/// Shorter tokens can be guessed.
const TOKEN_FROM: usize = 16;
/// Bounds of `ttl` and `idle`.
const LEAST: Span = Span::from_millis(1_000);
const LONGEST: Span = Span::from_millis(90 * 86_400_000);

/// One way to prove who somebody is: one of `oidc`, `basic`, `bearer`, `certificate`, `kubernetes`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// By a provider of OpenID Connect, such as Keycloak, Dex or Entra ID.
    #[serde(default)]
    oidc: Option<Oidc>,
    /// By name and password.
    #[serde(default)]
    basic: Option<Basic>,
    /// By a token, for programs.
    #[serde(default)]
    bearer: Option<Bearer>,
    /// By the certificate that a client shows; needs `tls.client_ca_file`.
    #[serde(default)]
    certificate: Option<Certificate>,
    /// By a token of a cluster, which its API server is asked about.
    #[serde(default)]
    kubernetes: Option<kubernetes::Kubernetes>,
    /// How long a session lasts at most.
    #[serde(default = "ttl")]
    ttl: Span,
    /// How long it lasts after the client was last heard.
    #[serde(default = "idle")]
    idle: Span,
    /// The upstream gets `Authorization` as it came, although it was for us.
    #[serde(default)]
    pass_authorization: bool,
    /// The upstream is told the user by `X-WEBAUTH-USER` too, as Grafana's auth proxy takes it.
    #[serde(default)]
    webauth: bool,
}

fn ttl() -> Span {
    Span::from_millis(12 * 3_600_000)
}

fn idle() -> Span {
    Span::from_millis(3_600_000)
}

/// A provider of OpenID Connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Its URL, as it stands in its tokens.
    #[schemars(extend("examples" = ["https://id.example.org/realms/staff"]))]
    issuer: String,
    /// What we are called there. It sends back to `https://HOST/.comind/callback`.
    client_id: String,
    /// A file that holds the secret that goes with it.
    #[serde(default)]
    client_secret_file: Option<PathBuf>,
    /// What is asked for, beside `openid`.
    #[serde(default = "scopes")]
    scopes: Vec<String>,
    /// The claim that is the user's name.
    #[serde(default = "user_claim")]
    user_claim: String,
    /// The claim that holds groups.
    #[serde(default = "groups_claim")]
    groups_claim: String,
    /// Roles, with the groups that have each.
    #[serde(default)]
    roles: BTreeMap<String, Vec<String>>,
    /// PEM file with the provider's authority, in place of the system's.
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

fn scopes() -> Vec<String> {
    ["email", "profile"].map(str::to_owned).into()
}

fn user_claim() -> String {
    "email".to_owned()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

/// Name and password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// By name.
    users: BTreeMap<String, User>,
}

/// Somebody with a password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The password's hash: `comind-ops hash-password` makes it.
    hash: Secret,
    /// What they are.
    #[serde(default)]
    roles: Vec<String>,
}

/// Tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// By whose they are.
    tokens: BTreeMap<String, Token>,
}

/// A token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// A file that holds it, 16 characters or more.
    token_file: PathBuf,
    /// What its bearer is.
    #[serde(default)]
    roles: Vec<String>,
}

/// Certificates.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// By the common name in them; `*` is for all others that the authority has signed.
    subjects: BTreeMap<String, Subject>,
}

/// Whose certificate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Subject {
    /// What they are.
    roles: Vec<String>,
}

pub(super) fn arcs(texts: &[String]) -> Vec<Arc<str>> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

/// All logins; nothing where there is none. `node` is where they stand.
pub(super) fn read(
    written: &BTreeMap<String, Login>,
    most: usize,
    data_dir: &Path,
    node: &Node,
    certificates: bool,
    cluster: Option<&Cluster>,
) -> Result<Option<Logins>, NodeError> {
    let mut all = BTreeMap::new();
    for (name, login) in written {
        let at = node.get(name).unwrap_or(node);
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            return Err(at.error("a login's name has letters, digits, `-`, `_` and `.` alone"));
        }
        if login.certificate.is_some() && !certificates {
            return Err(at.error("`certificate` needs `proxy.tls.client_ca_file`"));
        }
        all.insert(Arc::from(name.as_str()), login.read(at, cluster)?);
    }
    Ok((!all.is_empty()).then(|| Logins {
        all,
        folder: data_dir.join(FOLDER),
        most,
        events: None,
    }))
}

impl Login {
    fn read(&self, node: &Node, cluster: Option<&Cluster>) -> Result<login::Login, NodeError> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let span = |key: &str, span: Span| {
            let within = span.within(LEAST, LONGEST);
            within.map_err(|problem| at(key).error(format!("`{key}` {problem}")))
        };
        let mut means = Vec::new();
        if let Some(oidc) = &self.oidc {
            let read = oidc.read();
            means.push(Means::Oidc(Box::new(
                read.map_err(|problem| at("oidc").error(problem))?,
            )));
        }
        if let Some(basic) = &self.basic {
            means.push(Means::Basic(basic.read(at("basic"))?));
        }
        if let Some(bearer) = &self.bearer {
            means.push(Means::Bearer(bearer.read(at("bearer"))?));
        }
        if let Some(certificate) = &self.certificate {
            means.push(Means::Certificate(certificate.read()));
        }
        if let Some(kubernetes) = &self.kubernetes {
            let read = kubernetes.read(at("kubernetes"), cluster)?;
            means.push(Means::Kubernetes(Box::new(read)));
        }
        let (Some(means), true) = (means.pop(), means.is_empty()) else {
            let text =
                "a login has one of `oidc`, `basic`, `bearer`, `certificate` and `kubernetes`";
            return Err(node.error(text));
        };
        Ok(login::Login {
            means,
            ttl: span("ttl", self.ttl)?,
            idle: span("idle", self.idle)?,
            pass_authorization: self.pass_authorization,
            webauth: self.webauth,
            keep_token: false,
        })
    }
}

impl Oidc {
    fn read(&self) -> Result<login::Oidc, String> {
        let url = url::Url::parse(&self.issuer)
            .map_err(|error| format!("`issuer` is no URL ({error}); write https://HOST/PATH"))?;
        let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err("`issuer` begins with https://; without TLS anybody between could log in as anybody".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err("`issuer` has no query, no fragment and no user".to_owned());
        }
        if self.client_id.is_empty() {
            return Err("`client_id` is empty".to_owned());
        }
        let secret = self.client_secret_file.as_deref().map(secret_file::read);
        let authority = self.ca_file.as_ref().map(|file| contents("ca_file", file));
        let roles = self.roles.iter();
        Ok(login::Oidc {
            issuer: self.issuer.as_str().into(),
            client_id: self.client_id.as_str().into(),
            client_secret: secret
                .transpose()?
                .map(|secret| Hidden::new(secret.reveal())),
            scopes: arcs(&self.scopes),
            user_claim: self.user_claim.as_str().into(),
            groups_claim: self.groups_claim.as_str().into(),
            roles: roles
                .map(|(role, groups)| (role.as_str().into(), arcs(groups)))
                .collect(),
            tls: UpstreamTls {
                authority: authority.transpose()?.map(Arc::from),
                name: None,
                insecure: false,
            },
        })
    }
}

impl Basic {
    fn read(&self, node: &Node) -> Result<Vec<login::User>, NodeError> {
        let node = node.get("users").unwrap_or(node);
        if self.users.is_empty() || self.users.len() > MOST {
            return Err(node.error(format!("`users` has one to {MOST}")));
        }
        let read = |(name, user): (&String, &User)| {
            let at = node.get(name).unwrap_or(node);
            if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
                return Err(at.error("a user's name is not empty and has no `:` in it"));
            }
            Hash::parse(user.hash.reveal())
                .map_err(|problem| at.error(format!("the `hash` of `{name}` {problem}")))?;
            Ok(login::User {
                name: name.as_str().into(),
                hash: Hidden::new(user.hash.reveal()),
                roles: arcs(&user.roles),
            })
        };
        self.users.iter().map(read).collect()
    }
}

impl Bearer {
    fn read(&self, node: &Node) -> Result<Vec<login::Token>, NodeError> {
        let node = node.get("tokens").unwrap_or(node);
        if self.tokens.is_empty() || self.tokens.len() > MOST {
            return Err(node.error(format!("`tokens` has one to {MOST}")));
        }
        let read = |(name, written): (&String, &Token)| {
            let at = node.get(name).unwrap_or(node);
            let token =
                secret_file::read(&written.token_file).map_err(|problem| at.error(problem))?;
            let text = token.reveal();
            if text.len() < TOKEN_FROM || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(at.error(format!(
                    "the token of `{name}` must have {TOKEN_FROM} or more letters, digits and signs without \
                     spaces; `openssl rand -hex 32` makes one"
                )));
            }
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(at.error("a token's name is not empty"));
            }
            Ok(login::Token {
                name: name.as_str().into(),
                token: Hidden::new(text),
                roles: arcs(&written.roles),
            })
        };
        self.tokens.iter().map(read).collect()
    }
}

impl Certificate {
    fn read(&self) -> Vec<login::Subject> {
        let read = |(name, subject): (&String, &Subject)| login::Subject {
            name: name.as_str().into(),
            roles: arcs(&subject.roles),
        };
        self.subjects.iter().map(read).collect()
    }
}

/// All roles that somebody can have by a login.
fn given(login: &login::Login) -> BTreeSet<&str> {
    let roles: Vec<&Arc<str>> = match &login.means {
        Means::Basic(users) => users.iter().flat_map(|one| &one.roles).collect(),
        Means::Bearer(tokens) => tokens.iter().flat_map(|one| &one.roles).collect(),
        Means::Certificate(subjects) => subjects.iter().flat_map(|one| &one.roles).collect(),
        Means::Oidc(oidc) => oidc.roles.keys().collect(),
        Means::Kubernetes(kubernetes) => kubernetes.roles.keys().collect(),
    };
    roles.into_iter().map(|role| &**role).collect()
}

/// What a route demands of who asks.
pub(super) fn demand(route: &Route, logins: Option<&Logins>) -> Result<Option<Demand>, String> {
    let Some(name) = &route.login else {
        return match route.roles.is_empty() {
            true => Ok(None),
            false => Err("`roles` needs a `login`".to_owned()),
        };
    };
    let known: Vec<_> = logins.map_or(Vec::new(), |logins| {
        logins.all.keys().map(|name| &**name).collect()
    });
    let Some(login) = logins.and_then(|logins| logins.all.get(name.as_str())) else {
        return Err(match known.is_empty() {
            true => format!("there is no login `{name}`; `proxy.logins` has none"),
            false => format!(
                "there is no login `{name}`; `proxy.logins` has: {}",
                known.join(", ")
            ),
        });
    };
    let given = given(login);
    if let Some(role) = route
        .roles
        .iter()
        .find(|role| !given.contains(role.as_str()))
    {
        return Err(format!(
            "nobody can have the role `{role}`: the login `{name}` gives {}",
            match given.is_empty() {
                true => "none".to_owned(),
                false => given.into_iter().collect::<Vec<_>>().join(", "),
            }
        ));
    }
    Ok(Some(Demand {
        login: name.as_str().into(),
        roles: arcs(&route.roles),
        ..Demand::default()
    }))
}
