//! What the cluster holds of the Gateway API, as far as it is watched. Values only.

use k8s_openapi::api::core::v1::Namespace;

use super::kinds::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use crate::controller::world::Objects;

/// All of it.
#[derive(Debug, Default)]
pub struct GatewayWorld {
    /// Classes.
    pub classes: Objects<GatewayClass>,
    /// Gateways.
    pub gateways: Objects<Gateway>,
    /// Routes of HTTP.
    pub http: Objects<HttpRoute>,
    /// Routes of gRPC.
    pub grpc: Objects<GrpcRoute>,
    /// Grants.
    pub grants: Objects<ReferenceGrant>,
    /// Namespaces, for their labels.
    pub namespaces: Objects<Namespace>,
}

impl GatewayWorld {
    /// Everything has been listed once.
    pub fn is_whole(&self) -> bool {
        self.classes.whole
            && self.gateways.whole
            && self.http.whole
            && self.grpc.whole
            && self.grants.whole
            && self.namespaces.whole
    }
}
