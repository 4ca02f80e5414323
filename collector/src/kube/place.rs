//! What kinds that watch the Kubernetes API have in common in their settings: where they look,
//! which objects are required, how often and how patiently. Must not know the kinds.

use std::time::Duration;

use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use crate::config::duration::Span;
use crate::config::glob::glob;

/// The label by which an object says whether the platform needs it.
const REQUIRED: &str = "comind.pro/required";

/// The default time between full lists.
pub fn relist() -> Span {
    Span(Duration::from_secs(300))
}

/// The default patience with a silent watch; the API server gives a sign of life about once a minute.
pub fn patience() -> Span {
    Span(Duration::from_secs(90))
}

/// How messages name the objects of one namespace, or of all.
pub fn named(plural: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{plural} in namespace {namespace}"),
        None => format!("{plural} in all namespaces"),
    }
}

/// The objects of one namespace, or of all; and how messages name them.
pub fn objects<K>(client: &Client, plural: &str, namespace: Option<&str>) -> (Api<K>, String)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let api = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    (api, named(plural, namespace))
}

/// Whether the platform is down without an object: its label says so, or else a pattern for `name`.
pub fn is_required(meta: &ObjectMeta, patterns: &[String], name: &str) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(REQUIRED));
    match label {
        Some(word) => word == "true",
        None => patterns.iter().any(|pattern| glob(pattern, name)),
    }
}
