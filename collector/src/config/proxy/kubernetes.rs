//! The keys `proxy.logins.NAME.kubernetes` and `access.kubernetes` of a route: whose tokens are
//! taken, and which right of a cluster lets somebody in. Must not know how a cluster is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use comind_model::ingress::Cluster;
use comind_model::login::{self, Means, Right};
use schemars::JsonSchema;
use serde::Deserialize;

use super::login::arcs;
use crate::config::duration::Span;
use crate::config::node::{Node, NodeError};

/// Bounds of how long a yes counts, and of how long one is waited for.
const LEAST: Span = Span::from_millis(1_000);
const LONGEST: Span = Span::from_millis(300_000);
/// Bounds of how long a no counts.
const AT_ONCE: Span = Span::from_millis(0);
const MINUTE: Span = Span::from_millis(60_000);
/// Bounds of how long what is under way goes on unasked.
const HOUR: Span = Span::from_millis(3_600_000);

/// Tokens of a cluster. Its API server is asked who has one (TokenReview), which takes `create` on
/// `tokenreviews`; and for routes with `access` whether they may (SubjectAccessReview), which takes
/// `create` on `subjectaccessreviews`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    /// Tokens are for one of these audiences; for the API server itself where there is none.
    #[serde(default)]
    audiences: Vec<String>,
    /// A kubeconfig; without one what `proxy.tunnels` says, else the service account of the pod that
    /// this runs in.
    #[serde(default)]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one where not given.
    #[serde(default)]
    context: Option<String>,
    /// Roles, with the groups that have each.
    #[serde(default)]
    roles: BTreeMap<String, Vec<String>>,
    /// So long a yes of the API server counts, for new requests and for what is under way.
    #[serde(default = "authorized_ttl")]
    authorized_ttl: Span,
    /// So long a no counts.
    #[serde(default = "unauthorized_ttl")]
    unauthorized_ttl: Span,
    /// So long what is under way goes on while the API server does not answer; nobody new is let in.
    #[serde(default = "grace")]
    grace: Span,
}

fn authorized_ttl() -> Span {
    Span::from_millis(10_000)
}

fn unauthorized_ttl() -> Span {
    Span::from_millis(2_000)
}

fn grace() -> Span {
    Span::from_millis(60_000)
}

impl Kubernetes {
    /// `node` is where it stands, `tunnelled` the cluster of `proxy.tunnels`.
    pub(super) fn read(
        &self,
        node: &Node,
        tunnelled: Option<&Cluster>,
    ) -> Result<login::Kubernetes, NodeError> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let span = |key: &str, span: Span, least: Span, most: Span| {
            let within = span.within(least, most);
            within.map_err(|problem| at(key).error(format!("`{key}` {problem}")))
        };
        let odd = |text: &String| text.is_empty() || text.chars().any(char::is_control);
        if self.audiences.len() > 16 || self.audiences.iter().any(odd) {
            let text = "`audiences` has up to 16 names, none of them empty";
            return Err(at("audiences").error(text));
        }
        let own = self.kubeconfig.is_some() || self.context.is_some();
        let own = own.then(|| Cluster {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        });
        let roles = self.roles.iter();
        Ok(login::Kubernetes {
            cluster: own.or_else(|| tunnelled.cloned()),
            audiences: arcs(&self.audiences),
            roles: roles
                .map(|(role, groups)| (role.as_str().into(), arcs(groups)))
                .collect(),
            authorized_ttl: span("authorized_ttl", self.authorized_ttl, LEAST, LONGEST)?,
            unauthorized_ttl: span("unauthorized_ttl", self.unauthorized_ttl, AT_ONCE, MINUTE)?,
            grace: span("grace", self.grace, AT_ONCE, HOUR)?,
        })
    }
}

/// Which right lets somebody in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Access {
    /// One that a cluster gives, as its RBAC has it.
    kubernetes: Attributes,
}

/// Something that may be done in a cluster, with the names that a SubjectAccessReview has for it:
/// with `resource` to objects, with `path` to a path of the API server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Attributes {
    /// What is done.
    #[schemars(extend("examples" = ["get"]))]
    verb: String,
    /// The API group; the core one where not given.
    #[serde(default)]
    group: String,
    /// Of what, in the plural; `services/proxy` is its `subresource` as well.
    #[serde(default)]
    #[schemars(extend("examples" = ["services/proxy"]))]
    resource: Option<String>,
    /// What of it.
    #[serde(default)]
    subresource: Option<String>,
    /// In which namespace; in all where not given.
    #[serde(default)]
    namespace: String,
    /// Which one; all where not given.
    #[serde(default)]
    name: String,
    /// A path of the API server.
    #[serde(default)]
    #[schemars(extend("examples" = ["/metrics"]))]
    path: Option<String>,
}

impl Access {
    /// `node` is where it stands, `login` the one of its route.
    pub(super) fn read(&self, node: &Node, login: &login::Login) -> Result<Right, NodeError> {
        if !matches!(login.means, Means::Kubernetes(_)) {
            let text = "`access.kubernetes` needs a `login` by `kubernetes`: other logins have names that the cluster does not know";
            return Err(node.error(text));
        }
        self.kubernetes.read(node.get("kubernetes").unwrap_or(node))
    }
}

impl Attributes {
    fn read(&self, node: &Node) -> Result<Right, NodeError> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        word(&self.verb).map_err(|problem| at("verb").error(format!("`verb` {problem}")))?;
        match (&self.resource, &self.path) {
            (Some(resource), None) => self.of_resource(resource, node),
            (None, Some(path)) => {
                let others = [
                    ("group", self.group.is_empty()),
                    ("subresource", self.subresource.is_none()),
                    ("namespace", self.namespace.is_empty()),
                    ("name", self.name.is_empty()),
                ];
                if let Some((key, _)) = others.iter().find(|(_, empty)| !empty) {
                    return Err(
                        at(key).error(format!("`{key}` goes with `resource`, not with `path`"))
                    );
                }
                if !path.starts_with('/') {
                    let text = format!("`{path}` is no path of an API server; it begins with `/`");
                    return Err(at("path").error(text));
                }
                Ok(Right::Path {
                    verb: self.verb.as_str().into(),
                    path: path.as_str().into(),
                })
            }
            _ => {
                let text = "a right has one of `resource` (such as `services/proxy`) and `path` (such as `/metrics`)";
                Err(node.error(text))
            }
        }
    }

    fn of_resource(&self, resource: &str, node: &Node) -> Result<Right, NodeError> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let (plural, part) = match (resource.split_once('/'), &self.subresource) {
            (Some((plural, part)), None) => (plural, part),
            (None, part) => (resource, part.as_deref().unwrap_or_default()),
            (Some(_), Some(_)) => {
                let text = "`resource` has a subresource in it already";
                return Err(at("subresource").error(text));
            }
        };
        let named = |key: &str, text: &str| {
            word(text).map_err(|problem| at(key).error(format!("`{key}` {problem}")))
        };
        named("resource", plural)?;
        if resource.contains('/') {
            named("resource", part)?;
        }
        for (key, text) in [
            ("group", &self.group),
            ("namespace", &self.namespace),
            ("name", &self.name),
        ] {
            if !text.is_empty() {
                named(key, text)?;
            }
        }
        Ok(Right::Resource(Box::new(login::Resource {
            verb: self.verb.as_str().into(),
            group: self.group.as_str().into(),
            resource: plural.into(),
            subresource: part.into(),
            namespace: self.namespace.as_str().into(),
            name: self.name.as_str().into(),
        })))
    }
}

/// A word as it stands in a rule of RBAC.
fn word(text: &str) -> Result<(), String> {
    match login::is_word(text) {
        true => Ok(()),
        false => Err(format!("is no word of RBAC: `{text}`")),
    }
}
