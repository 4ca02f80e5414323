//! Replicas agree on who tells people: by a Lease of Kubernetes. All of them probe. Must not know
//! what is told.

pub mod decide;
pub mod keep;
