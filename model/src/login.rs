//! Who may pass the ingress proxy: the logins that stand before its routes, and how long a
//! session lasts. Values that have been checked. Must not know how a login is carried out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ingress::{Cluster, UpstreamTls};

/// A value that must not be seen; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Arc<str>);

impl Hidden {
    /// Takes it into custody.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// It, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// All logins, and what holds for their sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Logins {
    /// By name.
    pub all: BTreeMap<Arc<str>, Login>,
    /// Where the audit log and the socket for `comind-ops sessions` are.
    pub folder: PathBuf,
    /// So many sessions at once; further ones are refused.
    pub most: usize,
    /// What happens to sessions is told to a cluster too.
    pub events: Option<Events>,
}

/// Sessions become Events of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Which; the one that this runs in where none.
    pub cluster: Option<Cluster>,
    /// What they are about; the pod that this runs in where none.
    pub about: Option<Object>,
}

/// An object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The version of its API, such as `apps/v1`.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One way to prove who somebody is.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// How.
    pub means: Means,
    /// How long a session lasts at most.
    pub ttl: Duration,
    /// How long it lasts after its last request, or the last bytes that the client sent.
    pub idle: Duration,
    /// The upstream gets `Authorization` as the client sent it, although we understood it.
    pub pass_authorization: bool,
    /// The upstream is told who it is by `X-WEBAUTH-USER` as well.
    pub webauth: bool,
    /// A route hands on what was shown, so that a session keeps it.
    pub keep_token: bool,
}

/// How somebody proves who they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Means {
    /// Name and password, with each request (RFC 7617).
    Basic(Vec<User>),
    /// A token, with each request (RFC 6750).
    Bearer(Vec<Token>),
    /// The certificate that a client shows.
    Certificate(Vec<Subject>),
    /// Somebody else knows: OpenID Connect.
    Oidc(Box<Oidc>),
    /// The API server of a cluster knows: a token of it (TokenReview).
    Kubernetes(Box<Kubernetes>),
}

impl Means {
    /// In a word, as the config has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Bearer(_) => "bearer",
            Self::Certificate(_) => "certificate",
            Self::Oidc(_) => "oidc",
            Self::Kubernetes(_) => "kubernetes",
        }
    }
}

/// Somebody with a password.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Their name.
    pub name: Arc<str>,
    /// The password's hash, by bcrypt or argon2.
    pub hash: Hidden,
    /// What they are.
    pub roles: Vec<Arc<str>>,
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Whose.
    pub name: Arc<str>,
    /// It.
    pub token: Hidden,
    /// What they are.
    pub roles: Vec<Arc<str>>,
}

/// Whose certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its common name; `*` is any.
    pub name: Arc<str>,
    /// What they are.
    pub roles: Vec<Arc<str>>,
}

/// A provider of OpenID Connect, and what we are to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Oidc {
    /// Who it is: a URL, as it stands in its tokens.
    pub issuer: Arc<str>,
    /// What we are called there.
    pub client_id: Arc<str>,
    /// How we prove it; nothing where we are a public client.
    pub client_secret: Option<Hidden>,
    /// What is asked for, beside `openid`.
    pub scopes: Vec<Arc<str>>,
    /// The claim that is the user's name.
    pub user_claim: Arc<str>,
    /// The claim that holds groups.
    pub groups_claim: Arc<str>,
    /// Roles by the groups that have them.
    pub roles: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// About TLS towards the provider.
    pub tls: UpstreamTls,
}

/// An API server that is asked who has a token, and what they may.
#[derive(Clone, Debug, PartialEq)]
pub struct Kubernetes {
    /// Whose API server; that of the cluster which this runs in where none.
    pub cluster: Option<Cluster>,
    /// Tokens are for one of these; for the API server itself where empty.
    pub audiences: Vec<Arc<str>>,
    /// Roles by the groups that have them.
    pub roles: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// So long a yes counts; then it is asked again, also for what is under way.
    pub authorized_ttl: Duration,
    /// So long a no counts.
    pub unauthorized_ttl: Duration,
    /// So long what is under way goes on while the API server does not answer.
    pub grace: Duration,
}

/// A right in a cluster, as its RBAC has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// To do something with objects; what is empty is as in a SubjectAccessReview.
    Resource(Box<Resource>),
    /// To ask for a path of the API server.
    Path {
        /// What is done, such as `get`.
        verb: Arc<str>,
        /// The path.
        path: Arc<str>,
    },
}

/// Something done with objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// What is done, such as `get`.
    pub verb: Arc<str>,
    /// The API group; empty is the core one.
    pub group: Arc<str>,
    /// Of what, in the plural.
    pub resource: Arc<str>,
    /// What of it; empty is it itself.
    pub subresource: Arc<str>,
    /// Where; empty is everywhere, or what has no namespace.
    pub namespace: Arc<str>,
    /// Which; empty is all.
    pub name: Arc<str>,
}

/// Whether it is a word as it stands in a rule of RBAC.
pub fn is_word(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:*".contains(&byte);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(good)
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = match self {
            Self::Path { verb, path } => return write!(f, "{verb} {path}"),
            Self::Resource(it) => it,
        };
        write!(f, "{} {}", it.verb, it.resource)?;
        if !it.group.is_empty() {
            write!(f, ".{}", it.group)?;
        }
        if !it.subresource.is_empty() {
            write!(f, "/{}", it.subresource)?;
        }
        if !it.name.is_empty() {
            write!(f, " {}", it.name)?;
        }
        match it.namespace.is_empty() {
            true => f.write_str(" in all namespaces"),
            false => write!(f, " in namespace {}", it.namespace),
        }
    }
}

/// What a route demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The login.
    pub login: Arc<str>,
    /// One of these roles; any where empty.
    pub roles: Vec<Arc<str>>,
    /// A right that the login's cluster must give.
    pub right: Option<Arc<Right>>,
    /// What the upstream is told beyond the usual.
    pub tell: Tell,
}

/// What an upstream is told of who asks, beside the headers that all are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tell {
    /// Under which names; they are ours on all routes.
    pub headers: Vec<(Said, Arc<str>)>,
    /// What was shown to us is handed on.
    pub token: Option<TokenAs>,
}

/// Something that is known of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The name that they log in by.
    User,
    /// What people call them.
    Name,
    /// Their address for mail.
    Email,
    /// Their groups, with commas between.
    Groups,
}

/// How a token is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAs {
    /// As `Authorization: Bearer`.
    Bearer,
    /// As the cookie `argocd.token`.
    ArgoCd,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time was over.
    Expired,
    /// Nothing was asked for long.
    Idle,
    /// Its user said so.
    Logout,
    /// Somebody else said so.
    Revoked,
    /// The login is not what it was.
    Changed,
    /// The user logged in anew.
    Renewed,
    /// The cluster does not know the token any more.
    Unknown,
    /// The proxy ended.
    Stopped,
}

impl Why {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::Changed => "changed",
            Self::Renewed => "renewed",
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
        }
    }
}
