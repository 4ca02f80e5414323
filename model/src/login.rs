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
}

impl Means {
    /// In a word, as the config has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Bearer(_) => "bearer",
            Self::Certificate(_) => "certificate",
            Self::Oidc(_) => "oidc",
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

/// What a route demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The login.
    pub login: Arc<str>,
    /// One of these roles; any where empty.
    pub roles: Vec<Arc<str>>,
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
            Self::Stopped => "stopped",
        }
    }
}
