//! Whether an object may refer to one in another namespace. Pure.
//! Source: gateway-api.sigs.k8s.io, ReferenceGrant.

use kube::ResourceExt as _;

use super::kinds::{GROUP, ReferenceGrant};
use crate::controller::world::Objects;

/// Something that refers, or is referred to.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// Whether one of the Gateway API's objects may refer to an object of the core of this name.
pub fn allowed(
    grants: &Objects<ReferenceGrant>,
    from: Party<'_>,
    to: Party<'_>,
    name: &str,
) -> bool {
    if from.namespace == to.namespace {
        return true;
    }
    let in_namespace = |grant: &&std::sync::Arc<ReferenceGrant>| {
        grant.namespace().as_deref() == Some(to.namespace)
    };
    grants
        .all
        .values()
        .filter(in_namespace)
        .filter_map(|grant| grant.spec.good())
        .any(|grant| {
            let by = grant.from.iter().any(|it| {
                it.group == GROUP && it.kind == from.kind && it.namespace == from.namespace
            });
            let of = grant.to.iter().any(|it| {
                it.group.is_empty()
                    && it.kind == to.kind
                    && it
                        .name
                        .as_deref()
                        .is_none_or(|given| given.is_empty() || given == name)
            });
            by && of
        })
}
