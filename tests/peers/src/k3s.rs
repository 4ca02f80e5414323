//! An image of ours that plays k3s, for clusters by k3d where no image of k3s can be had: Kubernetes'
//! own programs behind the arguments, files and words that k3d knows of k3s (`k3s/k3s.sh`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::dockerd::Dockerd;
use crate::rootfs::{Recipe, with_base};
use crate::tool::Tool;

/// What the image is called.
pub const K3S: &str = "comind-ops-test/k3s:played";

const SCRIPT: &str = include_str!("k3s/k3s.sh");
/// The shell of k3s' image: k3d's own scripts in there count on it.
const SHELL: &str = "#!/bin/busybox sh\nexec /bin/busybox sh \"$@\"\n";
/// What k3s brings along is played by what our own clusters have.
const BROUGHT: [(&str, &str, &str); 3] = [
    (
        "opt/k3s/coredns.yaml",
        "coredns",
        include_str!("../../../bootstrap/manifests/coredns.yaml"),
    ),
    (
        "opt/k3s/local-storage.yaml",
        "local-path-provisioner",
        include_str!("../../../bootstrap/manifests/local-path.yaml"),
    ),
    (
        "opt/k3s/metrics-server.yaml",
        "metrics-server",
        include_str!("../../../bootstrap/manifests/metrics-server.yaml"),
    ),
];
const BASE_IMAGE: &str = "docker.io/rancher/mirrored-pause:played";

/// Built by the project's setup, for clusters.
const BUILT: [&str; 9] = [
    "coredns",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "local-path-provisioner",
    "metrics-server",
];

/// Programs and their Debian packages.
const PROGRAMS: [(&str, &str); 21] = [
    ("base64", "coreutils"),
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("cut", "coreutils"),
    ("etcd", "etcd-server"),
    ("ip", "iproute2"),
    ("ip6tables", "iptables"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
    ("iptables-save", "iptables"),
    ("ip6tables-restore", "iptables"),
    ("ip6tables-save", "iptables"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("runc", "runc"),
    ("sha256sum", "coreutils"),
    ("tar", "tar"),
    ("umount", "mount"),
    ("xargs", "findutils"),
];
const PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// Makes the image if need be, and loads it.
///
/// # Errors
/// When a program is missing, or the daemon does not take the image.
pub async fn load(dockerd: &Dockerd) -> Result<()> {
    let recipe = recipe()?;
    let changes = recipe.changes.clone();
    let tar = tokio::task::spawn_blocking(move || recipe.build()).await??;
    dockerd.import(&tar, K3S, &changes).await
}

/// Where the real k3d is; without it a script of ours stands for it.
const REAL: &str = "COMIND_TEST_K3D";
const STAND_IN: &str = include_str!("k3s/k3d.sh");

/// Puts k3d into a folder of its own below this one, to be in front of PATH.
///
/// # Errors
/// When files cannot be written, or what is named is not there.
pub fn command_line(dir: &Path) -> Result<PathBuf> {
    let dir = dir.join("k3d");
    std::fs::create_dir(&dir)?;
    let program = dir.join("k3d");
    match std::env::var_os(REAL) {
        Some(real) => {
            let real = std::fs::canonicalize(&real)
                .with_context(|| format!("{REAL}={} leads nowhere", real.display()))?;
            std::os::unix::fs::symlink(real, &program)?;
        }
        None => {
            std::fs::write(&program, STAND_IN)?;
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
        }
    }
    Ok(dir)
}

fn recipe() -> Result<Recipe> {
    let mut linked = PROGRAMS
        .iter()
        .map(|(program, package)| Tool::debian(program, package).find())
        .collect::<Result<Vec<_>>>()?;
    linked.push("/bin/busybox".into());
    linked.extend(PLUGINS.map(|plugin| Path::new("/usr/lib/cni").join(plugin)));
    let mut linked = with_base(linked)?;
    // Ours is another one, and an image may name a file once only.
    linked.retain(|program| !program.ends_with("sh") || program.ends_with("bash"));
    linked.sort();
    linked.dedup();
    let built = BUILT
        .iter()
        .map(|program| Tool::built(program).find())
        .collect::<Result<Vec<_>>>()?;
    let from = built[0].parent().context("a program lies in no folder")?;
    let from = from.display().to_string();
    Ok(Recipe {
        name: "k3s",
        linked,
        plain: [built, extensions()?].concat(),
        without: Vec::new(),
        texts: texts(),
        changes: changes(&from),
    })
}

/// Parts that iptables loads by itself.
fn extensions() -> Result<Vec<PathBuf>> {
    let place = PathBuf::from("/usr/lib/x86_64-linux-gnu/xtables");
    anyhow::ensure!(
        place.is_dir(),
        "{} is missing: apt-get install iptables",
        place.display()
    );
    Ok(vec![place])
}

fn texts() -> Vec<(&'static str, String)> {
    let mut texts = vec![
        ("bin/k3s", SCRIPT.to_owned()),
        ("bin/sh", SHELL.to_owned()),
        (
            "opt/k3s/openssl.cnf",
            "[req]\ndistinguished_name = name\n[name]\n".to_owned(),
        ),
    ];
    texts.extend(BROUGHT.map(|(file, name, manifest)| (file, played(name, manifest))));
    texts
}

/// A manifest of our clusters as it is for this one.
fn played(name: &str, manifest: &str) -> String {
    manifest
        .replace("@IMAGE@", &format!("docker.io/rancher/{name}:played"))
        .replace("@HELPER@", BASE_IMAGE)
        .replace("@FOLDER@", "/var/lib/rancher/k3s/storage")
        .replace("@FORWARD@", "forward . /etc/resolv.conf")
        .replace("@EDITION@", "played")
        .replace("10.96.0.10", "10.43.0.10")
        .replace("name: comind-ops-", "name: k3s-")
        // Its kubelets sign their certificates themselves.
        .replace(
            "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            "--kubelet-insecure-tls",
        )
}

fn changes(from: &str) -> Vec<String> {
    vec![
        "ENTRYPOINT [\"/bin/k3s\"]".into(),
        "CMD [\"agent\"]".into(),
        format!("ENV PATH={from}:/bin:/usr/bin:/sbin:/usr/sbin"),
        format!("ENV K3S_PLAYED_FROM={from}"),
        // What k3d runs in a node finds its way by these.
        "ENV KUBECONFIG=/etc/rancher/k3s/k3s.yaml".into(),
        "ENV CONTAINERD_ADDRESS=/run/k3s/containerd/containerd.sock".into(),
        "ENV CONTAINERD_NAMESPACE=k8s.io".into(),
        // As k3s' image: a file system over another one cannot hold a third.
        "VOLUME /var/lib/rancher/k3s".into(),
        "VOLUME /var/lib/kubelet".into(),
        "VOLUME /var/lib/cni".into(),
        "VOLUME /var/log".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_brings_names_only_images_that_it_makes() {
        for (_, text) in texts() {
            for line in text.lines().filter(|line| line.contains("image: ")) {
                assert!(line.contains(":played"), "{line}");
            }
            assert!(!text.contains("comind-ops-"), "{text}");
        }
    }
}
