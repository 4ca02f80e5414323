//! The configuration files of the cluster's programs. Pure: places in, text out.
//! Keys as in the programs' own references: kubernetes.io/docs/reference/config-api (release 1.34),
//! containerd 1.6 `config default`, cni.dev.

use std::path::Path;

use anyhow::Result;

use crate::cluster::host::certificates::{AUTHORITY, base64_of};
use crate::cluster::host::place::{DNS_SERVICE, PODS, Place};
use crate::cluster::registry::address::Address;

/// Where containerd is told of registries that are not spoken to as by default: a folder for each.
pub const REGISTRIES: &str = "registries";

/// containerd, with this image for the container that holds a pod's namespaces.
pub fn containerd(place: &Place, sandbox_image: &str) -> String {
    let run = place.home.run(&place.unit("containerd"));
    format!(
        r#"version = 2
root = {root:?}
state = {state:?}
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = {socket:?}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {sandbox_image:?}
# Where a sandbox around us forbids to lower a score, no container would start.
restrict_oom_score_adj = true
# Pods' networks among our own mounts, which go with the cluster, and not among the machine's.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {registries:?}

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = {cni:?}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = place.data("containerd"),
        state = run.join("state"),
        socket = place.runtime_socket(),
        registries = place.config(REGISTRIES),
        cni = place.config("cni"),
    )
}

/// A registry that is spoken to without TLS, as containerd is told of it.
pub fn registry(address: &Address) -> String {
    let url = address.url();
    format!("server = {url:?}\n\n[host.{url:?}]\ncapabilities = [\"pull\", \"resolve\"]\n")
}

/// How pods are connected.
pub fn cni(place: &Place) -> String {
    let value = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": place.name(),
        "plugins": [
            {
                "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": leases(place),
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    format!("{value:#}\n")
}

/// Where it is noted which pod has which address. Worth nothing without the network namespace.
pub fn leases(place: &Place) -> std::path::PathBuf {
    place.data("addresses")
}

/// The kubelet.
pub fn kubelet(place: &Place) -> String {
    let pki = |file: &str| place.pki(file);
    let value = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki(AUTHORITY) },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki("kubelet.crt"),
        "tlsPrivateKeyFile": pki("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", place.runtime_socket().display()),
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": place.config("resolv.conf"),
        "cgroupDriver": "cgroupfs",
        // Kubelets remove groups that they do not know: each has its own.
        "cgroupRoot": format!("/{}", place.name()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "podLogsDir": place.data("pod-logs"),
        "volumePluginDir": place.data("volume-plugins"),
        "seccompDefault": true,
        // Images were brought in by us and could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi", "nodefs.inodesFree": "1%" },
        "rotateCertificates": false,
        "shutdownGracePeriod": "0s",
    });
    format!("{value:#}\n")
}

/// kube-proxy.
pub fn kube_proxy(place: &Place) -> String {
    let value = serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": place.name(),
        "clientConnection": { "kubeconfig": place.config("proxy.kubeconfig") },
        // Limits of this machine are its owner's.
        "conntrack": { "maxPerCore": 0, "min": 0 },
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    });
    format!("{value:#}\n")
}

/// What the API server writes down: who changed what, without contents.
pub fn audit() -> &'static str {
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n  \
     - { level: None, verbs: [get, list, watch] }\n  \
     - { level: None, resources: [{ group: coordination.k8s.io, resources: [leases] }] }\n  \
     - { level: Metadata }\n"
}

/// What CoreDNS may ask: this machine's name servers, except those that only it can reach.
pub fn resolv_conf(text: &str) -> String {
    let loopback = |address: &str| address.starts_with("127.") || address == "::1";
    text.lines()
        .filter(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some("nameserver")
                && words.next().is_some_and(|address| !loopback(address))
        })
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}

/// A kubeconfig for the holder of a certificate.
///
/// # Errors
/// When the certificate cannot be read.
pub fn kubeconfig(place: &Place, server: &str, certificate: &str) -> Result<String> {
    let name = place.name();
    let data = |path: &Path| base64_of(path);
    let value = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{ "name": name, "cluster": {
            "server": server,
            "certificate-authority-data": data(&place.pki(AUTHORITY))?,
        } }],
        "users": [{ "name": name, "user": {
            "client-certificate-data": data(&place.pki(&format!("{certificate}.crt")))?,
            "client-key-data": data(&place.pki(&format!("{certificate}.key")))?,
        } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
    });
    Ok(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::resolv_conf;

    #[test]
    fn pods_ask_only_name_servers_that_they_can_reach() {
        let text = "# x\nsearch a.test\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n  nameserver ::1\nnameserver fd00::1\n";
        assert_eq!(
            resolv_conf(text),
            "nameserver 10.0.0.2\nnameserver fd00::1\n"
        );
    }
}
