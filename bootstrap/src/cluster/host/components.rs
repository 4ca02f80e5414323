//! The cluster's programs: places in, units out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cluster::host::certificates::{ACCOUNTS_KEY, ACCOUNTS_PUBLIC, AUTHORITY, edition};
use crate::cluster::host::configs::{self, REGISTRIES};
use crate::cluster::host::place::{API_PORT, Place, SERVICES};
use crate::cluster::registry::address::Address;
use crate::fingerprint;
use crate::programs::Programs;
use crate::store;
use crate::supervise::unit::{StopSignal, Unit};

const BUILT: &str = "run `make setup-cluster`";
const ETCD: &str = "run `make setup-cluster`, or: apt-get install etcd-server";
const CONTAINERD: &str =
    "run `make setup-cluster`, or: apt-get install containerd runc containernetworking-plugins";

/// One of the programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Component {
    /// Keeps the objects.
    Etcd,
    /// The API.
    ApiServer,
    /// Deployments to replica sets, replica sets to pods, and so on.
    ControllerManager,
    /// Pods to nodes.
    Scheduler,
    /// Runs containers.
    Containerd,
    /// Runs pods.
    Kubelet,
    /// Addresses of Services.
    KubeProxy,
}

impl Component {
    /// All, in the order of their start.
    pub const ALL: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Containerd,
        Self::Kubelet,
        Self::KubeProxy,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// What units are made from.
pub struct Maker<'a> {
    /// Where everything is.
    pub place: &'a Place,
    /// Where programs are.
    pub programs: &'a Programs,
    /// The image of the container that holds a pod's namespaces.
    pub sandbox_image: &'a str,
    /// Where images are pulled from, if they are.
    pub registry: Option<&'a Address>,
    /// Whether files are written, or it is only asked what the unit would be.
    pub write: bool,
}

impl Maker<'_> {
    /// The unit of a program. With `write` also the folders and the configuration that it needs.
    ///
    /// # Errors
    /// When its program is missing, or its files cannot be written.
    pub fn unit(&self, component: Component) -> Result<Unit> {
        match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.apiserver(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
            Component::Containerd => self.containerd(),
            Component::Kubelet => self.kubelet(),
            Component::KubeProxy => self.kube_proxy(),
        }
    }

    fn pki(&self, file: &str) -> String {
        text(&self.place.pki(file))
    }

    fn etcd(&self) -> Result<Unit> {
        let data = self.place.data("etcd");
        let mut unit = self.plain(Component::Etcd, self.programs.find("etcd", ETCD)?)?;
        unit.args = flags(&[
            ("name", self.place.name()),
            ("data-dir", text(&data)),
            ("listen-client-urls", "https://127.0.0.1:2379".into()),
            ("advertise-client-urls", "https://127.0.0.1:2379".into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            (
                "initial-advertise-peer-urls",
                "http://127.0.0.1:2380".into(),
            ),
            (
                "initial-cluster",
                format!("{}=http://127.0.0.1:2380", self.place.name()),
            ),
            ("listen-metrics-urls", "http://127.0.0.1:2381".into()),
            ("cert-file", self.pki("etcd.crt")),
            ("key-file", self.pki("etcd.key")),
            ("trusted-ca-file", self.pki(AUTHORITY)),
            ("client-cert-auth", "true".into()),
            ("auto-compaction-retention", "1".into()),
            // There is nobody to be elected beside it. What counts is that etcd gives requests up after 5 s and
            // twice this: a disk that is slow, or busy with images, may need longer for one fsync.
            ("heartbeat-interval", "500".into()),
            ("election-timeout", "5000".into()),
            ("log-level", "warn".into()),
        ]);
        self.reads(&mut unit, &["etcd"], &[])?;
        Ok(unit)
    }

    fn apiserver(&self) -> Result<Unit> {
        let policy = self.config("audit-policy.yaml", configs::audit())?;
        let mut unit = self.plain(
            Component::ApiServer,
            self.programs.find("kube-apiserver", BUILT)?,
        )?;
        let node = self.place.node().to_string();
        unit.args = flags(&[
            ("advertise-address", node),
            ("bind-address", "0.0.0.0".into()),
            ("secure-port", API_PORT.to_string()),
            ("etcd-servers", "https://127.0.0.1:2379".into()),
            ("etcd-cafile", self.pki(AUTHORITY)),
            ("etcd-certfile", self.pki("apiserver-client.crt")),
            ("etcd-keyfile", self.pki("apiserver-client.key")),
            ("tls-cert-file", self.pki("apiserver.crt")),
            ("tls-private-key-file", self.pki("apiserver.key")),
            ("client-ca-file", self.pki(AUTHORITY)),
            ("kubelet-certificate-authority", self.pki(AUTHORITY)),
            (
                "kubelet-client-certificate",
                self.pki("apiserver-client.crt"),
            ),
            ("kubelet-client-key", self.pki("apiserver-client.key")),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("requestheader-client-ca-file", self.pki(AUTHORITY)),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            (
                "requestheader-extra-headers-prefix",
                "X-Remote-Extra-".into(),
            ),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("proxy-client-cert-file", self.pki("front-proxy.crt")),
            ("proxy-client-key-file", self.pki("front-proxy.key")),
            ("service-cluster-ip-range", SERVICES.into()),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc.cluster.local".into(),
            ),
            ("service-account-signing-key-file", self.pki(ACCOUNTS_KEY)),
            ("service-account-key-file", self.pki(ACCOUNTS_PUBLIC)),
            ("authorization-mode", "Node,RBAC".into()),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("anonymous-auth", "false".into()),
            ("allow-privileged", "true".into()),
            ("profiling", "false".into()),
            ("audit-policy-file", text(&policy)),
            ("audit-log-path", text(&self.place.data("audit.log"))),
            ("audit-log-maxsize", "50".into()),
            ("audit-log-maxbackup", "2".into()),
        ]);
        self.reads(
            &mut unit,
            &["apiserver", "apiserver-client", "front-proxy"],
            &[configs::audit()],
        )?;
        Ok(unit)
    }

    fn controller_manager(&self) -> Result<Unit> {
        let kubeconfig = self.kubeconfig("controller-manager")?;
        let program = self.programs.find("kube-controller-manager", BUILT)?;
        let mut unit = self.plain(Component::ControllerManager, program)?;
        unit.args = flags(&[
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".into()),
            ("root-ca-file", self.pki(AUTHORITY)),
            ("service-account-private-key-file", self.pki(ACCOUNTS_KEY)),
            ("use-service-account-credentials", "true".into()),
            ("cluster-signing-cert-file", self.pki(AUTHORITY)),
            ("cluster-signing-key-file", self.pki("ca.key")),
            ("service-cluster-ip-range", SERVICES.into()),
            ("allocate-node-cidrs", "false".into()),
            // There is one of it: nothing to elect, and a start without a wait.
            ("leader-elect", "false".into()),
            ("profiling", "false".into()),
        ]);
        self.reads(&mut unit, &["controller-manager"], &[])?;
        Ok(unit)
    }

    fn scheduler(&self) -> Result<Unit> {
        let kubeconfig = self.kubeconfig("scheduler")?;
        let program = self.programs.find("kube-scheduler", BUILT)?;
        let mut unit = self.plain(Component::Scheduler, program)?;
        unit.args = flags(&[
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".into()),
            ("leader-elect", "false".into()),
            ("profiling", "false".into()),
        ]);
        self.reads(&mut unit, &["scheduler"], &[])?;
        Ok(unit)
    }

    fn containerd(&self) -> Result<Unit> {
        let config = configs::containerd(self.place, self.sandbox_image);
        let cni = configs::cni(self.place);
        let file = self.config("containerd.toml", &config)?;
        self.config("cni/10-comind.conflist", &cni)?;
        let registry = self.registry.filter(|address| address.plain());
        let registry = registry.map(|address| (address.host(), configs::registry(address)));
        if let Some((host, text)) = &registry {
            self.config(&format!("{REGISTRIES}/{host}/hosts.toml"), text)?;
        }
        let program = self.programs.find("containerd", CONTAINERD)?;
        let mut unit = self.plain(Component::Containerd, program)?;
        unit.args = vec!["--config".into(), text(&file)];
        let registry = registry.map_or(String::new(), |(_, text)| text);
        self.reads(&mut unit, &[], &[&config, &cni, &registry])?;
        Ok(unit)
    }

    fn kubelet(&self) -> Result<Unit> {
        let kubeconfig = self.kubeconfig("kubelet")?;
        let config = configs::kubelet(self.place);
        let file = self.config("kubelet.json", &config)?;
        self.config("resolv.conf", &name_servers()?)?;
        let mut unit = self.plain(Component::Kubelet, self.programs.find("kubelet", BUILT)?)?;
        unit.args = flags(&[
            ("config", text(&file)),
            ("kubeconfig", kubeconfig),
            ("hostname-override", self.place.name()),
            ("node-ip", self.place.node().to_string()),
            ("root-dir", text(&self.place.data("kubelet"))),
            ("cert-dir", text(&self.place.data("kubelet-pki"))),
        ]);
        self.reads(&mut unit, &["kubelet"], &[&config])?;
        Ok(unit)
    }

    fn kube_proxy(&self) -> Result<Unit> {
        self.kubeconfig("proxy")?;
        let config = configs::kube_proxy(self.place);
        let file = self.config("kube-proxy.json", &config)?;
        let mut unit = self.plain(
            Component::KubeProxy,
            self.programs.find("kube-proxy", BUILT)?,
        )?;
        unit.args = flags(&[("config", text(&file))]);
        self.reads(&mut unit, &["proxy"], &[&config])?;
        Ok(unit)
    }

    /// Started anew when these certificates or texts change.
    fn reads(&self, unit: &mut Unit, certificates: &[&str], texts: &[&str]) -> Result<()> {
        let certificates = edition(self.place, certificates)?;
        unit.reads = fingerprint::of(&(certificates, texts));
        Ok(())
    }

    fn kubeconfig(&self, certificate: &str) -> Result<String> {
        let kubeconfig = configs::kubeconfig(self.place, &self.place.server(), certificate)?;
        let file = self.config(&format!("{certificate}.kubeconfig"), &kubeconfig)?;
        Ok(text(&file))
    }

    /// Written only where it differs.
    fn config(&self, name: &str, content: &str) -> Result<PathBuf> {
        let file = self.place.config(name);
        if !self.write {
            return Ok(file);
        }
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        if store::read(&file)?.as_deref() != Some(content) {
            store::write(&file, content.as_bytes())?;
        }
        Ok(file)
    }

    fn plain(&self, component: Component, program: PathBuf) -> Result<Unit> {
        let name = self.place.unit(component.name());
        let home = &self.place.home;
        let data = self.place.dir();
        if self.write {
            std::fs::create_dir_all(&data)?;
            std::fs::create_dir_all(home.run(&name))?;
        }
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Ok(Unit {
            run_dir: home.run(&name),
            log: home.log(&name),
            name,
            program,
            args: Vec::new(),
            env: BTreeMap::from([
                ("HOME".to_owned(), text(&data)),
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
                ("PATH".to_owned(), path.to_owned()),
            ]),
            directory: data,
            run_as: None,
            stop_signal: StopSignal::Term,
            stop_grace_ms: 15_000,
            reads: String::new(),
            network: Some(self.place.namespace()),
        })
    }
}

/// The name servers of this machine that pods can reach, as a `resolv.conf`.
///
/// # Errors
/// When this machine's own cannot be read.
pub fn name_servers() -> Result<String> {
    let own = store::read(Path::new("/etc/resolv.conf"))?.unwrap_or_default();
    Ok(configs::resolv_conf(&own))
}

fn flags(all: &[(&str, String)]) -> Vec<String> {
    all.iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
