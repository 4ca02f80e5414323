//! The section `proxy.tunnels`: through which API server services are reached from outside of their
//! cluster.

use std::path::PathBuf;

use comind_model::ingress::Cluster;
use schemars::JsonSchema;
use serde::Deserialize;

/// Services (`service://NAMESPACE/NAME:PORT`) are reached by tunnels through an API server, as `kubectl
/// port-forward` does. For where this does not run in their cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tunnels {
    /// A kubeconfig; without one, what kubectl would take (`KUBECONFIG`, `~/.kube/config`).
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one where not given.
    context: Option<String>,
}

impl Tunnels {
    pub(super) fn read(&self) -> Cluster {
        Cluster {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        }
    }
}
