//! The way to a pod through the API server of its cluster, as `kubectl port-forward` has it, for those
//! who are not in the cluster; and which pods a service has. One tunnel is one connection: what
//! happens to it harms no other. Must not know routes or requests.

pub mod gate;
pub mod kubeconfig;
pub mod refusal;
pub mod resolve;
pub mod spare;
pub mod stream;
pub mod watch;
