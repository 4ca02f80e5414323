//! The Gateway API (gateway.networking.k8s.io/v1) beside the Ingress controller: its objects to
//! listeners of the proxy and to their statuses. Reading them is pure (`read`); telling is apart.
//! Must not know how requests are carried.

pub mod addresses;
pub mod backends;
pub mod gateways;
pub mod grants;
pub mod kinds;
pub mod read;
pub mod routes;
pub mod rules;
pub mod status;
pub mod tell;
pub mod world;
