//! The objects of the Gateway API as far as we read them. What a cluster of another version has
//! besides is ignored; an object that cannot be read does not hinder the others.

use kube::core::{ApiResource, GroupVersionKind, Object};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Where they belong.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// An object whose specification may be unreadable, with its status as it is.
pub type Kind<S> = Object<Readable<S>, Value>;
/// Which controller serves Gateways of a name.
pub type GatewayClass = Kind<ClassSpec>;
/// Listeners.
pub type Gateway = Kind<GatewaySpec>;
/// Routes of HTTP.
pub type HttpRoute = Kind<RouteSpec>;
/// Routes of gRPC.
pub type GrpcRoute = Kind<RouteSpec>;
/// Who may refer into a namespace from outside.
pub type ReferenceGrant = Kind<GrantSpec>;

/// How a kind is asked for.
pub fn resource(kind: &str, version: &str, plural: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk(GROUP, version, kind);
    ApiResource::from_gvk_with_plural(&kind, plural)
}

/// What an object asks for, or why that cannot be read.
#[derive(Clone, Debug)]
pub enum Readable<S> {
    /// It could be read.
    Good(S),
    /// Why not.
    Bad(String),
}

impl<S> Readable<S> {
    /// What was read.
    pub fn good(&self) -> Option<&S> {
        match self {
            Self::Good(spec) => Some(spec),
            Self::Bad(_) => None,
        }
    }
}

impl<'de, S: DeserializeOwned> Deserialize<'de> for Readable<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match serde_json::from_value(value) {
            Ok(spec) => Self::Good(spec),
            Err(error) => Self::Bad(error.to_string()),
        })
    }
}

/// Of a class.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassSpec {
    /// Whose it is.
    pub controller_name: String,
    /// We have no parameters.
    pub parameters_ref: Option<Value>,
}

/// Of a Gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// Where requests come in.
    #[serde(default)]
    pub listeners: Vec<ListenerSpec>,
    /// Addresses that it wants.
    #[serde(default)]
    pub addresses: Vec<AddressSpec>,
    /// About what it runs on.
    pub infrastructure: Option<Infrastructure>,
    /// About certificates of clients, and ours towards backends: neither is served.
    pub tls: Option<Value>,
}

/// About what a Gateway runs on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Infrastructure {
    /// We have no parameters.
    pub parameters_ref: Option<Value>,
}

/// An address that a Gateway wants.
#[derive(Clone, Debug, Deserialize)]
pub struct AddressSpec {
    /// `IPAddress` where not given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Any where not given.
    pub value: Option<String>,
}

/// One listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSpec {
    /// Its name.
    pub name: String,
    /// The hosts that it is for; all where not given.
    pub hostname: Option<String>,
    /// Its port.
    pub port: u16,
    /// `HTTP`, `HTTPS`, …
    pub protocol: String,
    /// Its certificates.
    pub tls: Option<ListenerTls>,
    /// Which routes may be attached.
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
}

/// TLS of a listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// `Terminate` where not given.
    pub mode: Option<String>,
    /// Secrets.
    #[serde(default)]
    pub certificate_refs: Vec<Reference>,
    /// About certificates of clients (in releases before 1.4): not served.
    pub frontend_validation: Option<Value>,
}

/// Which routes may be attached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// From where.
    pub namespaces: Namespaces,
    /// Of which kinds; all that we serve where empty.
    pub kinds: Vec<RouteKind>,
}

/// From where routes may be attached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// `All`, `Selector`, `Same`.
    pub from: Option<String>,
    /// By labels.
    pub selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
}

/// A kind of route.
#[derive(Clone, Debug, Deserialize)]
pub struct RouteKind {
    /// The Gateway API's where not given.
    pub group: Option<String>,
    /// Its name.
    pub kind: String,
}

/// A reference to an object: a secret, a service.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    /// The core's where empty.
    pub group: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Our own where not given.
    pub namespace: Option<String>,
}

/// Of a route, whatever its kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// What it is attached to.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// The hosts that it is for; all of its listener where empty.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// What becomes of which requests.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// What a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The Gateway API's where not given.
    pub group: Option<String>,
    /// `Gateway` where not given.
    pub kind: Option<String>,
    /// The route's own where not given.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One of its listeners.
    pub section_name: Option<String>,
    /// Those of its listeners that have this port.
    pub port: Option<u16>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name.
    pub name: Option<String>,
    /// Which requests; all where empty.
    #[serde(default)]
    pub matches: Vec<Match>,
    /// What is done to them.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Where they go.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    /// How long is waited.
    pub timeouts: Option<RuleTimeouts>,
}

/// Which requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Their path (HTTP).
    pub path: Option<Comparison>,
    /// Their headers.
    #[serde(default)]
    pub headers: Vec<Comparison>,
    /// Their query (HTTP).
    #[serde(default)]
    pub query_params: Vec<Comparison>,
    /// Their method: a word (HTTP), or service and method (gRPC).
    pub method: Option<MethodMatch>,
}

/// Something that is compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Comparison {
    /// How: `Exact`, `PathPrefix`, `RegularExpression`.
    #[serde(rename = "type")]
    pub how: Option<String>,
    /// What, where it has a name.
    #[serde(default)]
    pub name: String,
    /// With what.
    pub value: Option<String>,
}

/// A method of HTTP, or of gRPC.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum MethodMatch {
    /// HTTP.
    Word(String),
    /// gRPC.
    Call {
        /// How: `Exact`, `RegularExpression`.
        #[serde(rename = "type")]
        how: Option<String>,
        /// The service, with its package.
        service: Option<String>,
        /// The method.
        method: Option<String>,
    },
}

/// What is done to a request or its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Which of them this is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Headers of the request.
    pub request_header_modifier: Option<HeaderFilter>,
    /// Headers of the answer.
    pub response_header_modifier: Option<HeaderFilter>,
    /// It is sent elsewhere.
    pub request_redirect: Option<RedirectFilter>,
    /// Its host and path are changed.
    pub url_rewrite: Option<RewriteFilter>,
}

/// Headers that are changed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HeaderFilter {
    /// In place of what is there.
    pub set: Vec<Header>,
    /// Beside what is there.
    pub add: Vec<Header>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Where a redirect leads.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedirectFilter {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<PathFilter>,
    /// Port.
    pub port: Option<u16>,
    /// 302 where not given.
    pub status_code: Option<u16>,
}

/// What is changed of the target.
#[derive(Clone, Debug, Deserialize)]
pub struct RewriteFilter {
    /// Host.
    pub hostname: Option<String>,
    /// Path.
    pub path: Option<PathFilter>,
}

/// What takes the place of a path.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathFilter {
    /// Which of them this is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of all of it.
    pub replace_full_path: Option<String>,
    /// Of what the match has matched.
    pub replace_prefix_match: Option<String>,
}

/// Where requests go.
#[derive(Clone, Debug, Deserialize)]
pub struct BackendRef {
    /// What it is.
    #[serde(flatten)]
    pub to: Reference,
    /// Its port.
    pub port: Option<u16>,
    /// Its share; 1 where not given.
    pub weight: Option<u32>,
    /// What is done to requests that go there.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

/// How long is waited.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleTimeouts {
    /// For all of it.
    pub request: Option<String>,
    /// For one try.
    pub backend_request: Option<String>,
}

/// Of a grant.
#[derive(Clone, Debug, Deserialize)]
pub struct GrantSpec {
    /// Who may refer.
    #[serde(default)]
    pub from: Vec<GrantFrom>,
    /// To what.
    #[serde(default)]
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, Deserialize)]
pub struct GrantFrom {
    /// Group of its kind.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Where it is.
    pub namespace: String,
}

/// To what.
#[derive(Clone, Debug, Deserialize)]
pub struct GrantTo {
    /// Group of its kind.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name; any where not given.
    pub name: Option<String>,
}
