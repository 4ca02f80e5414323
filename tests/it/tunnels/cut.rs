//! The network between this machine and the API server of a cluster, cut inside of the cluster's own
//! network namespace: nobody else notices.

use anyhow::{Context as _, Result, ensure};
use std::process::Command;

use super::cluster::Cluster;

/// How it is cut.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// Nothing comes back, and nobody says so.
    Silent,
    /// Whatever is sent is answered with a reset.
    Reset,
}

/// A cut network, whole again when this is dropped.
pub(super) struct Cut {
    namespace: String,
    rules: Vec<Vec<&'static str>>,
}

impl Cut {
    pub(super) fn make(cluster: &Cluster, how: How) -> Result<Self> {
        let inward = ["INPUT", "-i", "eth0", "-p", "tcp", "--dport", "6443"];
        let outward = ["OUTPUT", "-o", "eth0", "-p", "tcp", "--sport", "6443"];
        let silent = ["-j", "DROP"].as_slice();
        let reset = ["-j", "REJECT", "--reject-with", "tcp-reset"].as_slice();
        let rules = match how {
            How::Silent => vec![
                [&inward[..], silent].concat(),
                [&outward[..], silent].concat(),
            ],
            How::Reset => vec![[&inward[..], reset].concat()],
        };
        let mut this = Self {
            namespace: format!("--net=/run/netns/{}", cluster.name()),
            rules: Vec::new(),
        };
        for rule in rules {
            this.change("-I", &rule)?;
            this.rules.push(rule);
        }
        Ok(this)
    }

    fn change(&self, what: &str, rule: &[&str]) -> Result<()> {
        let done = Command::new("nsenter")
            .args([self.namespace.as_str(), "iptables", "-w", "10", what])
            .args(rule)
            .output()
            .context("nsenter is missing: apt-get install util-linux iptables")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "iptables {what} {rule:?}: {said}");
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for rule in &self.rules {
            // Where the namespace is gone there is nothing to heal.
            let _ = self.change("-D", rule);
        }
    }
}
