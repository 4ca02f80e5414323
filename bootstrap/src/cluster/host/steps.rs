//! The steps that make a cluster of plain processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::applied::Applied;
use crate::cluster::host::certificates;
use crate::cluster::host::command::run;
use crate::cluster::host::components::{self, Component, Maker};
use crate::cluster::host::configs;
use crate::cluster::host::groups;
use crate::cluster::host::image::Recipe;
use crate::cluster::host::images::Images;
use crate::cluster::host::load_balancer;
use crate::cluster::host::network;
use crate::cluster::host::place::Place;
use crate::cluster::host::stale;
use crate::cluster::ready::Workload;
use crate::cluster::{kubeconfig, objects, why};
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Planned, Step};
use crate::programs::Programs;
use crate::supervise::control;
use crate::supervise::crashes::Crashes;
use crate::supervise::logs;
use crate::supervise::state::Phase;
use crate::wait::Look;

pub use crate::cluster::known::Known;

/// The steps, in the order in which they are shown.
///
/// # Errors
/// When a program that an image is made from is missing.
pub fn all(known: &Arc<Known>) -> Result<Vec<Box<dyn Planned>>> {
    let programs = &known.programs;
    let sandbox = sandbox(programs)?;
    let coredns = alone(programs, "/bin/coredns")?;
    let local_path = alone(programs, "/bin/local-path-provisioner")?;
    let metrics_server = alone(programs, "/bin/metrics-server")?;
    let controller = alone(programs, "/bin/metallb-controller")?;
    let speaker = alone(programs, "/bin/metallb-speaker")?;
    let (controller_image, speaker_image) = (controller.reference()?, speaker.reference()?);
    let (sandbox_image, dns_image, volumes_image, metrics_image) = (
        sandbox.reference()?,
        coredns.reference()?,
        local_path.reference()?,
        metrics_server.reference()?,
    );
    let process = |component, needs: &'static [Id]| -> Box<dyn Planned> {
        Box::new(Process {
            known: known.clone(),
            sandbox_image: sandbox_image.clone(),
            component,
            needs,
            crashes: Crashes::default(),
        })
    };
    let addon = |id, text: &str, deployment| -> Result<Box<dyn Planned>> {
        Ok(Box::new(Applied {
            id,
            needs: &["kubelet", "kube-proxy", "controller-manager", "scheduler"],
            limit: Duration::from_secs(120),
            kubeconfig: known.place.kubeconfig(),
            wanted: objects::parse(text)?,
            works: vec![Workload::Deployment("kube-system", deployment)],
        }))
    };
    // Without a name server that pods can reach there is nobody to pass questions on to.
    let forward = match components::name_servers()?.is_empty() {
        true => "",
        false => "forward . /etc/resolv.conf",
    };
    let dns = include_str!("../../../manifests/coredns.yaml")
        .replace("@IMAGE@", &dns_image)
        .replace("@FORWARD@", forward);
    let dns = objects::with_edition(&dns);
    let volumes = include_str!("../../../manifests/local-path.yaml")
        .replace("@IMAGE@", &volumes_image)
        .replace("@HELPER@", &sandbox_image)
        .replace(
            "@FOLDER@",
            &known.place.data("volumes").display().to_string(),
        );
    let metrics =
        include_str!("../../../manifests/metrics-server.yaml").replace("@IMAGE@", &metrics_image);
    let [load_balancer, addresses] = load_balancer::steps(
        known.place.env,
        &known.place.kubeconfig(),
        &load_balancer::Images {
            controller: &controller_image,
            speaker: &speaker_image,
        },
    )?;
    Ok(vec![
        Box::new(Network(known.clone())),
        Box::new(Certificates(known.clone())),
        Box::new(Kubeconfig(known.clone())),
        process(Component::Etcd, &["network", "certificates"]),
        process(Component::Containerd, &["network"]),
        Box::new(Images {
            known: known.clone(),
            id: "images",
            recipes: vec![
                (sandbox_image.clone(), sandbox),
                (dns_image, coredns),
                (volumes_image, local_path),
                (metrics_image, metrics_server),
                (controller_image, controller),
                (speaker_image, speaker),
            ],
        }),
        process(Component::ApiServer, &["etcd", "kubeconfig"]),
        process(Component::ControllerManager, &["apiserver"]),
        process(Component::Scheduler, &["apiserver"]),
        process(Component::Kubelet, &["apiserver", "images"]),
        process(Component::KubeProxy, &["apiserver"]),
        addon("dns", &dns, "coredns")?,
        addon("volumes", &volumes, "local-path-provisioner")?,
        addon("metrics", &metrics, "metrics-server")?,
        load_balancer,
        addresses,
    ])
}

pub(crate) const BUILT: &str = "run `make setup-cluster`";

/// A program that needs nothing but itself.
///
/// # Errors
/// When it is missing.
pub(crate) fn alone(programs: &Programs, entry: &'static str) -> Result<Recipe> {
    let path = entry.trim_start_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    Ok(Recipe {
        name,
        files: vec![(path, programs.find(name, BUILT)?)],
        entrypoint: vec![entry],
        user: "65532:65532",
        ..Recipe::default()
    })
}

/// Holds a pod's namespaces by sleeping, and helps with volumes by a shell.
fn sandbox(programs: &Programs) -> Result<Recipe> {
    let busybox = programs.find(
        "busybox",
        "run `make setup-cluster`, or: apt-get install busybox-static",
    )?;
    Ok(Recipe {
        name: "busybox",
        files: vec![("bin/busybox", busybox)],
        links: APPLETS
            .iter()
            .map(|name| (format!("bin/{name}"), "busybox"))
            .collect(),
        entrypoint: vec!["/bin/sleep", "2147483647"],
        ..Recipe::default()
    })
}

const APPLETS: [&str; 10] = [
    "sh", "sleep", "mkdir", "rm", "chmod", "wget", "nslookup", "cat", "httpd", "nc",
];

struct Network(Arc<Known>);

impl Step for Network {
    type Seen = network::Seen;

    fn id(&self) -> Id {
        "network"
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn observe(&self) -> Result<network::Seen> {
        network::look(&self.0.place).await
    }

    fn diff(&self, seen: &network::Seen) -> Vec<Change> {
        network::diff(&self.0.place, seen)
    }

    async fn apply(&self, seen: network::Seen, _: About<'_>) -> Result<()> {
        if !seen.namespace {
            // Addresses of pods in a namespace that is gone are free again.
            crate::store::remove(&configs::leases(&self.0.place))?;
        }
        network::make(&self.0.place, &seen).await
    }
}

struct Certificates(Arc<Known>);

impl Step for Certificates {
    type Seen = certificates::Seen;

    fn id(&self) -> Id {
        "certificates"
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn observe(&self) -> Result<certificates::Seen> {
        certificates::look(&self.0.place, Timestamp::now())
    }

    fn diff(&self, seen: &certificates::Seen) -> Vec<Change> {
        certificates::diff(seen)
    }

    async fn apply(&self, seen: certificates::Seen, _: About<'_>) -> Result<()> {
        certificates::make(&self.0.place, &seen)
    }
}

/// One of the cluster's programs, supervised.
struct Process {
    known: Arc<Known>,
    sandbox_image: String,
    component: Component,
    needs: &'static [Id],
    crashes: Crashes,
}

/// So many crashes while it is waited for mean that it cannot run. Their pauses add up to 6 s: by then what one
/// of them needs of another, as the kubelet of containerd, is back.
const HOPELESS_CRASHES: u32 = 6;

impl Process {
    fn unit(&self, write: bool) -> Result<crate::supervise::unit::Unit> {
        let maker = Maker {
            place: &self.known.place,
            programs: &self.known.programs,
            sandbox_image: &self.sandbox_image,
            registry: self.known.ways.registry.as_ref(),
            write,
        };
        maker.unit(self.component)
    }

    fn name(&self) -> String {
        self.known.place.unit(self.component.name())
    }

    async fn answers(&self) -> Result<(), String> {
        let place = &self.known.place;
        match self.component {
            Component::Containerd => {
                let socket = place.runtime_socket().display().to_string();
                let asked = run("ctr", ["-a", socket.as_str(), "version"]).await;
                asked.map(drop).map_err(|error| format!("{error:#}"))
            }
            Component::ApiServer => {
                let client = objects::client(&place.kubeconfig()).await;
                let client = client.map_err(|error| format!("{error:#}"))?;
                let request = http::Request::get("/readyz").body(Vec::new());
                let request = request.map_err(|error| error.to_string())?;
                let answer = client.request_text(request).await;
                answer.map(drop).map_err(|error| why::error(&error))
            }
            Component::Kubelet => {
                let client = objects::client(&place.kubeconfig()).await;
                let client = client.map_err(|error| format!("{error:#}"))?;
                stale::node(place, &client).await
            }
            _ => Ok(()),
        }
    }
}

/// What is known of a supervised program before it is started.
struct Standing {
    as_wanted: bool,
    runs: bool,
}

impl Step for Process {
    type Seen = Standing;

    fn id(&self) -> Id {
        self.component.name()
    }

    fn needs(&self) -> &'static [Id] {
        self.needs
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(120)
    }

    async fn observe(&self) -> Result<Standing> {
        let run_dir = self.known.place.home.run(&self.name());
        let standing = control::look(&run_dir)?;
        let wanted = self.unit(false)?.fingerprint();
        let runs = standing
            .as_ref()
            .is_some_and(|one| one.pid.is_some() && one.supervised);
        let as_wanted = standing.is_some_and(|one| one.fingerprint == Some(wanted));
        Ok(Standing { as_wanted, runs })
    }

    fn diff(&self, seen: &Standing) -> Vec<Change> {
        let name = self.component.name();
        match seen {
            Standing {
                runs: true,
                as_wanted: true,
            } => Vec::new(),
            Standing {
                runs: true,
                as_wanted: false,
            } => vec![Change::new(format!("restart {name} with changed settings"))],
            Standing { runs: false, .. } => vec![Change::new(format!("start {name}"))],
        }
    }

    async fn apply(&self, _: Standing, _: About<'_>) -> Result<()> {
        if self.component == Component::Kubelet {
            groups::make(&self.known.place)?;
        }
        control::start(&self.unit(true)?, &self.known.launcher)
            .await
            .map(drop)
    }

    async fn ready(&self) -> Look<(), String> {
        match control::look(&self.known.place.home.run(&self.name())) {
            Ok(Some(standing)) => {
                let crashes = self.crashes.since_first_look(standing.restarts);
                let reason = standing.reason;
                if crashes >= HOPELESS_CRASHES {
                    let reason = reason.unwrap_or_default();
                    return Look::Hopeless(format!("it crashed {crashes} times: {reason}"));
                }
                if standing.phase != Phase::Running {
                    return Look::NotYet(reason.unwrap_or_else(|| "its process begins".to_owned()));
                }
            }
            Ok(None) => return Look::Hopeless("its files are gone".to_owned()),
            Err(error) => return Look::Hopeless(format!("{error:#}")),
        }
        match self.answers().await {
            Ok(()) => Look::Done(()),
            Err(reason) => Look::NotYet(reason),
        }
    }

    fn last_lines(&self) -> Vec<String> {
        let log = self.known.place.home.log(&self.name());
        logs::tail(&log, 5).unwrap_or_default()
    }
}

/// The cluster in the user's own kubeconfig.
struct Kubeconfig(Arc<Known>);

impl Kubeconfig {
    fn note(&self) -> PathBuf {
        note(&self.0.place)
    }
}

/// Where it is noted which file knows the cluster.
pub fn note(place: &Place) -> PathBuf {
    place.data("kubeconfig-of")
}

impl Step for Kubeconfig {
    type Seen = (String, bool);

    fn id(&self) -> Id {
        "kubeconfig"
    }

    fn needs(&self) -> &'static [Id] {
        &["certificates"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn observe(&self) -> Result<(String, bool)> {
        let place = &self.0.place;
        let ours = configs::kubeconfig(place, &place.server(), "admin")?;
        let own = crate::store::read(&place.kubeconfig())?.as_deref() == Some(&ours);
        let users = match &self.0.users_kubeconfig {
            None => true,
            Some(file) => {
                let text = crate::store::read(file)?.unwrap_or_default();
                let before: Value = serde_saphyr::from_str(&text).unwrap_or_default();
                let wanted: Value = serde_json::from_str(&ours)?;
                kubeconfig::merged(&before, &wanted, true)? == before
            }
        };
        Ok((ours, own && users))
    }

    fn diff(&self, (_, there): &(String, bool)) -> Vec<Change> {
        if *there {
            return Vec::new();
        }
        let name = self.0.place.name();
        let mut changes = vec![Change::new(format!(
            "write {}",
            self.0.place.kubeconfig().display()
        ))];
        if let Some(file) = &self.0.users_kubeconfig {
            changes.push(Change::new(format!(
                "put the context {name} into {}",
                file.display()
            )));
        }
        changes
    }

    async fn apply(&self, (ours, _): (String, bool), _: About<'_>) -> Result<()> {
        let own = self.0.place.kubeconfig();
        if let Some(dir) = own.parent() {
            std::fs::create_dir_all(dir)?;
        }
        crate::store::write(&own, ours.as_bytes())?;
        if let Some(file) = &self.0.users_kubeconfig {
            kubeconfig::merge_into(file, &ours, &self.note())?;
        }
        Ok(())
    }
}
