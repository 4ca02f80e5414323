//! The upstream's side: connections to endpoints, kept by each worker for itself.
//! Must not know clients or routes.

pub mod budget;
pub mod dial;
pub mod failure;
pub mod pool;
pub mod tls;
