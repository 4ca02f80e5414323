//! Kubernetes clusters: making them, and what runs in each of them from the start.

pub mod applied;
pub mod env;
pub mod host;
pub mod kubeconfig;
pub mod objects;
pub mod ready;
pub mod why;
