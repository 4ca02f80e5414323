//! What k3d is told: its configuration file. Pure.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::registry::address::Address;
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
    /// A registry that its nodes speak to without TLS.
    pub plain: Option<Address>,
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
        let mut value = json!({
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
        });
        if let Some(address) = &self.plain {
            // A text within the text: what k3s reads as its registries.yaml.
            let mirrors = json!({ "mirrors": { address.host(): { "endpoint": [address.url()] } } });
            value["registries"] = json!({ "config": mirrors.to_string() });
        }
        value
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
            plain: None,
        };
        insta::assert_snapshot!(wanted.yaml()?);
        let plain = Wanted {
            plain: "http://10.0.0.1:5000/team".parse().ok(),
            ..wanted
        };
        let text = plain.yaml()?;
        let added = text
            .lines()
            .skip_while(|line| !line.starts_with("registries"));
        let added: Vec<&str> = added.take(2).collect();
        insta::assert_snapshot!(added.join("\n"));
        Ok(())
    }
}
