//! The ways into a cluster and out of it, which differ between its kinds: ports of its nodes, this
//! machine's services, images. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::cluster::env::Env;
use crate::cluster::kind::Kind;
use crate::cluster::registry::address::Address;

/// The ways of one cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ways {
    /// What makes it.
    pub kind: Kind,
    /// How kubectl calls it.
    pub context: String,
    /// Where this machine reaches the ports of its nodes.
    pub ports: NodePorts,
    /// Images are pushed to here and pulled from here, instead of being brought in.
    pub registry: Option<Address>,
}

/// Where the ports of nodes are, seen from this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodePorts {
    /// At a node's address.
    At(IpAddr),
    /// At other ports of loopback: the node's port, and the one here.
    Mapped(Vec<(u16, u16)>),
}

impl Ways {
    /// Those of a cluster of plain processes.
    pub fn host(env: Env) -> Self {
        Self {
            kind: Kind::Host,
            context: env.cluster(),
            ports: NodePorts::At(env.node().into()),
            registry: None,
        }
    }

    /// Where a port of the nodes is.
    pub fn node_port(&self, port: u16) -> SocketAddr {
        match &self.ports {
            NodePorts::At(node) => (*node, port).into(),
            NodePorts::Mapped(all) => {
                let here = all.iter().find(|(node, _)| *node == port);
                (Ipv4Addr::LOCALHOST, here.map_or(port, |(_, here)| *here)).into()
            }
        }
    }

    /// Whether its pods can be given a way to this machine's services.
    pub fn reach_this_machine(&self) -> bool {
        self.kind != Kind::Existing
    }

    /// Whether images are pulled; where they are brought in, pulling would ask a registry that is none.
    pub fn pull_policy(&self) -> &'static str {
        match self.registry {
            Some(_) => "IfNotPresent",
            None => "Never",
        }
    }

    /// A manifest of ours as it has to be there. Volumes are of the kind that a cluster of ours has,
    /// and in one that is not ours of its default kind.
    pub fn adapted(&self, manifest: &str) -> String {
        let pulled = manifest.replace(
            "imagePullPolicy: Never",
            &format!("imagePullPolicy: {}", self.pull_policy()),
        );
        match self.kind {
            Kind::Existing => pulled.replace("storageClassName: local-path, ", ""),
            Kind::Host | Kind::K3d => pulled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_at_the_node_or_mapped() {
        let host = Ways::host(Env::Qa);
        assert_eq!(host.node_port(30080).to_string(), "10.231.2.2:30080");
        let mapped = Ways {
            ports: NodePorts::Mapped(vec![(30080, 8081)]),
            ..host
        };
        assert_eq!(mapped.node_port(30080).to_string(), "127.0.0.1:8081");
    }

    #[test]
    fn images_are_brought_in_or_pulled() {
        let mut ways = Ways::host(Env::Dev);
        let manifest = "imagePullPolicy: Never, storageClassName: local-path, resources";
        assert_eq!(ways.adapted(manifest), manifest);
        ways.registry = "registry.example.org/team".parse().ok();
        ways.kind = Kind::Existing;
        assert_eq!(
            ways.adapted(manifest),
            "imagePullPolicy: IfNotPresent, resources"
        );
    }
}
