//! Where everything of one cluster is: paths, names and addresses. Pure.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::cluster::env::Env;
use crate::home::Home;

/// Addresses inside; every cluster has them to itself, since it has its own network namespace.
pub const SERVICES: &str = "10.96.0.0/16";
/// The API server's address as a Service.
pub const API_SERVICE: &str = "10.96.0.1";
/// CoreDNS.
pub const DNS_SERVICE: &str = "10.96.0.10";
/// Pods.
pub const PODS: &str = "10.244.0.0/16";
/// The API server's port on the node.
pub const API_PORT: u16 = 6443;

/// One cluster's places.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which one.
    pub env: Env,
    /// Below this.
    pub home: Home,
}

impl Place {
    /// Its name.
    pub fn name(&self) -> String {
        self.env.cluster()
    }

    /// The name of one of its processes, which is that of its run directory and its log.
    pub fn unit(&self, component: &str) -> String {
        format!("cluster-{}-{component}", self.env.name())
    }

    /// The name of the process that is a wire between this machine and the cluster.
    pub fn wire(&self, name: &str) -> String {
        self.unit(&format!("wire-{name}"))
    }

    /// Those wires that there are, by their run directories.
    pub fn wires(&self) -> Vec<PathBuf> {
        let prefix = self.wire("");
        let all = std::fs::read_dir(self.home.run("")).into_iter().flatten();
        all.flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect()
    }

    /// What it keeps: objects, containers, volumes.
    pub fn data(&self, part: &str) -> PathBuf {
        self.dir().join(part)
    }

    /// All that it keeps.
    pub fn dir(&self) -> PathBuf {
        self.home.data(&format!("cluster-{}", self.env.name()))
    }

    /// A certificate, a key or what is noted of them.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.data("pki").join(file)
    }

    /// A configuration file.
    pub fn config(&self, file: &str) -> PathBuf {
        self.data("config").join(file)
    }

    /// The file of its network namespace.
    pub fn namespace(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name())
    }

    /// containerd's socket.
    pub fn runtime_socket(&self) -> PathBuf {
        self.home
            .run(&self.unit("containerd"))
            .join("containerd.sock")
    }

    /// The node's address.
    pub fn node(&self) -> Ipv4Addr {
        self.env.node()
    }

    /// Where the API is.
    pub fn server(&self) -> String {
        format!("https://{}:{API_PORT}", self.node())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.config("admin.kubeconfig")
    }
}
