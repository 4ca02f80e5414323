//! Kubernetes clusters: making them, and what runs in each of them from the start.

pub mod applied;
pub mod auto;
pub mod brought;
pub mod env;
pub mod existing;
pub mod host;
pub mod k3d;
pub mod kind;
pub mod known;
pub mod kubeconfig;
pub mod nodes;
pub mod objects;
pub mod ready;
pub mod registry;
pub mod served;
pub mod session;
pub mod ways;
pub mod why;
pub mod wires;
