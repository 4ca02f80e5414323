//! What k3d is told: its configuration file. Pure.

use anyhow::Result;
use serde_json::{Value, json};

use crate::services::docker::spec::OWNER;

/// The nodes' image unless another is named: the version of Kubernetes that is built for `host`.
pub const IMAGE: &str = "docker.io/rancher/k3s:v1.34.2-k3s1";

/// What differs between clusters.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The cluster's name, which is also that of its Docker network.
    pub name: String,
    /// The nodes' image.
    pub image: String,
    /// How many nodes there are besides the server.
    pub agents: u32,
    /// Ports of the nodes, and where they are on this machine's loopback.
    pub ports: Vec<(u16, u16)>,
}

impl Wanted {
    /// The file's text.
    ///
    /// # Errors
    /// When it cannot be written as YAML.
    pub fn yaml(&self) -> Result<String> {
        Ok(serde_saphyr::to_string(&self.value())?)
    }

    fn value(&self) -> Value {
        let ports = self.ports.iter().map(|(node, here)| {
            json!({ "port": format!("127.0.0.1:{here}:{node}"), "nodeFilters": ["server:0:direct"] })
        });
        // The ingress is ours, and its way in is a port of the node.
        let off = ["traefik", "servicelb"]
            .map(|part| json!({ "arg": format!("--disable={part}"), "nodeFilters": ["server:*"] }));
        let label = format!("{}={}", OWNER.0, OWNER.1);
        json!({
            "apiVersion": "k3d.io/v1alpha5",
            "kind": "Simple",
            "metadata": { "name": self.name },
            "servers": 1,
            "agents": self.agents,
            "image": self.image,
            "network": self.name,
            "kubeAPI": { "host": "127.0.0.1", "hostIP": "127.0.0.1" },
            "ports": ports.collect::<Vec<_>>(),
            "options": {
                // Its volume for images stays on: without it k3d 5 cannot start its container of tools,
                // and then makes no cluster.
                "k3d": { "wait": true, "timeout": "300s", "disableLoadbalancer": true },
                "k3s": { "extraArgs": off },
                "kubeconfig": { "updateDefaultKubeconfig": false, "switchCurrentContext": false },
                "runtime": { "labels": [{ "label": label, "nodeFilters": ["all"] }] },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_k3d_reads() -> Result<()> {
        let wanted = Wanted {
            name: "comind-ops-dev".into(),
            image: IMAGE.into(),
            agents: 2,
            ports: vec![(30080, 8081), (30418, 30418)],
        };
        insta::assert_snapshot!(wanted.yaml()?);
        Ok(())
    }
}
