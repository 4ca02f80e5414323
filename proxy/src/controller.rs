//! The Ingress controller: from objects of a cluster to routes and certificates. Reading them is
//! pure (`read`); watching, and telling the cluster what came of it, is apart.
//! Must not know how requests are carried.

pub mod annotations;
pub mod gateway;
pub mod guard;
pub mod read;
pub mod tell;
pub mod watch;
pub mod world;
