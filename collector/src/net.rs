//! Connections as probes need them: dialled with a cause for every failure, held, watched.
//! Must not know kinds of service.

pub mod address;
pub mod dial;
pub mod http1;
pub mod resolve;
pub mod sdk;
pub mod stream;
pub mod tls;
