//! Whether the programs and files are here that the cluster and what runs on it are made from.
//! What the services need is another matter: see `runtime`.

use std::future::ready;

use futures_util::FutureExt as _;

use crate::doctor::check::{Check, Machine};
use crate::doctor::finding::{Finding, Level};
use crate::programs::Programs;

const NAME: &str = "tools";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |machine| ready(Ok(vec![look(machine)])).boxed(),
    mend: None,
};

/// What is run, or put into images. A path stands for itself.
const PROGRAMS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "ctr",
    "runc",
    "/usr/lib/cni/bridge",
    "coredns",
    "local-path-provisioner",
    "metrics-server",
    "metallb-controller",
    "metallb-speaker",
    "sealed-secrets-controller",
    "argocd",
    "helm",
    "kustomize",
    "git",
    "minio",
    "prometheus",
    "prometheus-alertmanager",
    "ip",
    "iptables",
    "socat",
    "nsenter",
    "sysctl",
    "busybox",
];

/// Among our own tools.
const FILES: &[&str] = &["argocd-manifests/install.yaml", "rootfs/image-base.tar"];

fn look(machine: &Machine) -> Finding {
    judge(&missing(&machine.request.programs))
}

fn missing(programs: &Programs) -> Vec<&'static str> {
    let no_program = PROGRAMS
        .iter()
        .filter(|name| programs.find(name, "").is_err());
    let no_file = FILES.iter().filter(|name| programs.file(name, "").is_err());
    no_program.chain(no_file).copied().collect()
}

fn judge(missing: &[&str]) -> Finding {
    if missing.is_empty() {
        return Finding::ok(NAME, "all that a cluster is made from is installed");
    }
    Finding::new(
        NAME,
        Level::Problem,
        format!("not installed: {}", missing.join(", ")),
        "make setup-cluster",
    )
}

#[cfg(test)]
mod tests {
    use super::{FILES, judge, missing};
    use crate::doctor::finding::Level;
    use crate::programs::Programs;

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        assert_eq!(judge(&[]).level, Level::Ok);
        let finding = judge(&["etcd", "helm"]);
        assert_eq!(finding.level, Level::Problem);
        assert_eq!(finding.says, "not installed: etcd, helm");
        assert_eq!(finding.fix.as_deref(), Some("make setup-cluster"));
    }

    #[test]
    fn without_a_place_for_tools_their_files_are_missing() {
        let missing = missing(&Programs::default());
        assert!(FILES.iter().all(|file| missing.contains(file)));
    }
}
