//! A cluster of plain processes, end to end: pods, Services and their addresses, volumes, logs; run again, drift,
//! crashes, stop and start, runs that are killed, and nothing left after its end.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;

use crate::ops::{Done, START, finish, pid};
use crate::platform_of::PlatformOf;

const CURL: Tool = Tool::debian("curl", "curl");
/// Containers are made from this by the cluster itself.
const HELPER: &str = "busybox";

/// Only the cluster of an environment.
struct Cluster(PlatformOf);

impl std::ops::Deref for Cluster {
    type Target = PlatformOf;

    fn deref(&self) -> &PlatformOf {
        &self.0
    }
}

impl Cluster {
    async fn run(&self, args: &[&str]) -> Result<Done> {
        self.ops.run(args).await
    }

    async fn good(&self, args: &[&str]) -> Result<Done> {
        self.ops.good(args).await
    }

    async fn row(&self, component: &str) -> Result<Value> {
        let done = self.run(&["--json", "cluster", "status"]).await?;
        let status: Value = serde_json::from_str(&done.out)?;
        let rows = status["components"].as_array().context("no components")?;
        let row = rows.iter().find(|row| row["component"] == component);
        Ok(row.context("no such component")?.clone())
    }

    /// Asks a Service, as the node does.
    async fn fetch(&self, url: &str) -> Result<String> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name()))
            .arg(CURL.find()?);
        answer(command, url).await
    }

    /// The address of the load balancer that the Service `front` was given.
    async fn address(&self) -> Result<Ipv4Addr> {
        let path = "jsonpath={.status.loadBalancer.ingress[*].ip}";
        let given = self.ask(&["get", "service", "front", "-o", path]).await?;
        given.parse().with_context(|| format!("{given:?} is none"))
    }

    /// The image with a shell that the cluster was given.
    async fn helper(&self) -> Result<String> {
        let images = self
            .ask(&[
                "get",
                "node",
                &self.name(),
                "-o",
                "jsonpath={.status.images[*].names[*]}",
            ])
            .await?;
        let found = images
            .split_whitespace()
            .find(|name| name.contains(HELPER) && !name.contains('@'));
        Ok(found
            .with_context(|| format!("not among {images}"))?
            .to_owned())
    }
}

async fn answer(mut curl: Command, url: &str) -> Result<String> {
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", url])
        .stdin(Stdio::null());
    let done = finish(curl).await?;
    ensure!(done.code == 0, "{url}: {}", done.said());
    Ok(done.out)
}

/// Two replicas that share a volume and serve what is in it.
fn workload(image: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{ name: data }}
spec: {{ accessModes: [ReadWriteOnce], resources: {{ requests: {{ storage: 10Mi }} }} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: "{image}"
          imagePullPolicy: Never
          command: [sh, -c, "[ -e /data/index.html ] || echo kept > /data/index.html; echo begins; exec busybox httpd -f -p 8080 -h /data"]
          readinessProbe: {{ httpGet: {{ path: /, port: 8080 }}, periodSeconds: 1 }}
          volumeMounts: [{{ name: data, mountPath: /data }}]
      volumes: [{{ name: data, persistentVolumeClaim: {{ claimName: data }} }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: web }}
spec: {{ clusterIP: 10.96.7.7, selector: {{ app: web }}, ports: [{{ port: 80, targetPort: 8080 }}] }}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_life_of_a_cluster() -> Result<()> {
    let cluster = Cluster(PlatformOf::new("qa")?);
    let theirs = "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters: [{ name: work, cluster: { server: 'https://127.0.0.1:1' } }]\n";
    std::fs::write(cluster.users(), theirs)?;
    let planned = cluster.run(&["cluster", "create", "--plan"]).await?;
    ensure!(planned.code == 2, "{}", planned.said());
    ensure!(
        planned
            .out
            .contains("make the network namespace comind-ops-qa"),
        "{}",
        planned.said()
    );
    ensure!(!cluster.data().exists(), "a plan changes nothing");
    cluster.good(&["cluster", "create"]).await?;
    let users = std::fs::read_to_string(cluster.users())?;
    ensure!(
        users.contains("\"work\"") && users.contains("comind-ops-qa"),
        "{users}"
    );

    pods_services_and_volumes(&cluster).await?;
    metrics_are_its_own(&cluster).await?;
    a_service_is_reached_from_this_machine(&cluster).await?;
    nothing_to_do(&cluster).await?;
    drift_is_seen_and_healed(&cluster).await?;
    a_late_etcd_is_waited_for(&cluster).await?;
    a_crash_is_repaired(&cluster).await?;
    stop_and_start(&cluster).await?;
    nothing_is_left(&cluster).await
}

async fn pods_services_and_volumes(cluster: &Cluster) -> Result<()> {
    // What lies below the home is gone at the end; what lies elsewhere would stay.
    let networks = mounts(&cluster.ops.home())?;
    let networks = networks.iter().filter(|point| point.contains("netns"));
    ensure!(networks.count() >= 2, "the pods' networks are elsewhere");
    let file = cluster.ops.dir().join("web.yaml");
    std::fs::write(&file, workload(&cluster.helper().await?))?;
    cluster
        .ask(&["apply", "-f", &file.display().to_string()])
        .await?;
    cluster
        .ask(&["rollout", "status", "deployment/web", "--timeout=90s"])
        .await?;
    let logs = cluster.ask(&["logs", "deployment/web"]).await?;
    ensure!(logs.contains("begins"), "{logs}");
    let web = ["exec", "deployment/web", "--"];
    the_service_answers(cluster).await?;
    let names = [&web[..], &["nslookup", "web.default.svc.cluster.local"]].concat();
    let names = cluster.ask(&names).await?;
    ensure!(names.contains("10.96.7.7"), "{names}");
    let claim = cluster
        .ask(&["get", "pvc", "data", "-o", "jsonpath={.status.phase}"])
        .await?;
    ensure!(claim == "Bound", "{claim}");
    Ok(())
}

/// What metrics-server serves is served by it, and by nobody else who might answer outside: without
/// it no namespace ends.
async fn metrics_are_its_own(cluster: &Cluster) -> Result<()> {
    wait_for("the node's figures", START, async || {
        let told = cluster.ask(&["top", "nodes", "--no-headers"]).await?;
        ensure!(told.contains(&cluster.name()), "{told}");
        Ok(())
    })
    .await?;
    cluster.ask(&["create", "namespace", "passing"]).await?;
    let delete = ["delete", "namespace", "passing", "--timeout=60s"];
    cluster.ask(&delete).await.map(drop)
}

async fn a_service_is_reached_from_this_machine(cluster: &Cluster) -> Result<()> {
    let expose = [
        "expose",
        "deployment/web",
        "--name=front",
        "--type=LoadBalancer",
        "--port=80",
        "--target-port=8080",
    ];
    cluster.ask(&expose).await?;
    wait_for("an address", START, async || cluster.address().await).await?;
    let [first, second, third, last] = cluster.address().await?.octets();
    ensure!(
        [first, second, third] == [10, 231, 2] && (200..=239).contains(&last),
        "{first}.{second}.{third}.{last} is not of the pool"
    );
    the_address_answers(cluster).await
}

/// It is made known a moment after it was given.
async fn the_address_answers(cluster: &Cluster) -> Result<()> {
    let url = format!("http://{}/", cluster.address().await?);
    wait_for("the address", START, async || {
        let answer = answer(Command::new(CURL.find()?), &url).await?;
        ensure!(answer == "kept\n", "{answer}");
        Ok(())
    })
    .await
}

async fn nothing_to_do(cluster: &Cluster) -> Result<()> {
    let before = cluster.writes()?;
    let again = cluster.good(&["cluster", "create"]).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );
    let plan = cluster.run(&["cluster", "create", "--plan"]).await?;
    ensure!(plan.code == 0, "{}", plan.said());
    ensure!(cluster.writes()? == before, "it wrote something");
    Ok(())
}

async fn drift_is_seen_and_healed(cluster: &Cluster) -> Result<()> {
    let set = [
        "-n",
        "kube-system",
        "scale",
        "deployment/coredns",
        "--replicas=2",
    ];
    cluster.ask(&set).await?;
    cluster
        .ask(&["-n", "kube-system", "delete", "service", "kube-dns"])
        .await?;
    let plan = cluster.run(&["cluster", "create", "--plan"]).await?;
    ensure!(plan.code == 2, "{}", plan.said());
    for change in [
        "set .spec.replicas of Deployment kube-system/coredns",
        "make Service kube-system/kube-dns",
    ] {
        ensure!(plan.out.contains(change), "{}", plan.said());
    }
    cluster.good(&["cluster", "create"]).await?;
    nothing_to_do(cluster).await
}

/// As on a disk that is busy with images: what fails by it is said, and tried again.
async fn a_late_etcd_is_waited_for(cluster: &Cluster) -> Result<()> {
    let service = ["-n", "kube-system", "delete", "service", "kube-dns"];
    cluster.ask(&service).await?;
    let etcd = pid(&cluster.row("etcd").await?)?;
    let said = cluster.ops.dir().join("late-etcd");
    kill_process(etcd, Signal::STOP)?;
    let run = cluster.ops.command(&["bootstrap", "--only", "dns"]);
    let mut run = Command::from(run)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said)?)
        .kill_on_drop(true)
        .spawn()?;
    let waits = wait_for("the reason", START, async || {
        let said = std::fs::read_to_string(&said)?;
        ensure!(
            said.contains("dns  ") && said.contains("waiting: "),
            "{said}"
        );
        Ok(())
    })
    .await;
    kill_process(etcd, Signal::CONT)?;
    waits?;
    let ended = tokio::time::timeout(START, run.wait()).await??;
    let said = std::fs::read_to_string(&said)?;
    ensure!(
        ended.success() && said.contains("make Service kube-system/kube-dns"),
        "{said}"
    );
    nothing_to_do(cluster).await
}

async fn a_crash_is_repaired(cluster: &Cluster) -> Result<()> {
    // As often as a kubelet may crash in weeks: what is long over is no reason to give up.
    for component in ["kubelet", "kubelet", "kubelet", "containerd"] {
        let before = cluster.row(component).await?;
        kill_process(pid(&before)?, Signal::KILL)?;
        wait_for(component, START, async || {
            let row = cluster.row(component).await?;
            let more = row["restarts"].as_u64() > before["restarts"].as_u64();
            if row["state"] == "running" && more && row["pid"] != before["pid"] {
                return Ok(());
            }
            bail!("{row}")
        })
        .await?;
    }
    // Containers have outlived it, and what it starts anew is looked after.
    cluster.good(&["cluster", "create"]).await?;
    let restarts = [
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ];
    let restarts = cluster.ask(&restarts).await?;
    ensure!(restarts == "0 0", "{restarts}");
    Ok(())
}

async fn stop_and_start(cluster: &Cluster) -> Result<()> {
    cluster.good(&["cluster", "stop"]).await?;
    let status = cluster.run(&["cluster", "status"]).await?;
    ensure!(
        status.code == 1 && status.out.matches("stopped").count() == 7,
        "{}",
        status.said()
    );
    ensure!(
        mounts(&cluster.ops.home())?.is_empty(),
        "{:?}",
        mounts(&cluster.ops.home())?
    );
    // As after a restart of the machine, which has no such thing any more.
    run_ip(&["netns", "delete", &cluster.name()]).await?;
    cluster.good(&["cluster", "start"]).await?;
    cluster
        .ask(&["rollout", "status", "deployment/web", "--timeout=90s"])
        .await?;
    the_service_answers(cluster).await?;
    the_address_answers(cluster).await
}

/// The way to a pod is laid a moment after the pod is ready.
async fn the_service_answers(cluster: &Cluster) -> Result<()> {
    wait_for("the Service", START, async || {
        let answer = cluster.fetch("http://10.96.7.7/").await?;
        ensure!(answer == "kept\n", "{answer}");
        Ok(())
    })
    .await
}

async fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    let refused = cluster.run(&["cluster", "delete"]).await?;
    ensure!(
        refused.code == 1 && refused.err.contains("--yes"),
        "{}",
        refused.said()
    );
    cluster.good(&["cluster", "delete", "--yes"]).await?;
    ensure!(!cluster.data().exists());
    ensure!(mounts(&cluster.ops.home())?.is_empty());
    let (links, rules) = (run_ip(&["link"]).await?, rules().await?);
    ensure!(
        !links.contains("comind-qa") && !rules.contains("comind-qa"),
        "{links}{rules}"
    );
    ensure!(!Path::new("/run/netns").join(cluster.name()).exists());
    let users = std::fs::read_to_string(cluster.users())?;
    ensure!(
        users.contains("work") && !users.contains(&cluster.name()),
        "{users}"
    );
    let groups = std::fs::read_dir("/sys/fs/cgroup")?.flatten();
    ensure!(
        groups
            .into_iter()
            .all(|one| !one.path().join(cluster.name()).exists())
    );
    cluster.good(&["cluster", "delete", "--yes"]).await?;
    Ok(())
}

fn mounts(below: &Path) -> Result<Vec<String>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below = below.display().to_string();
    Ok(points
        .filter(|point| point.starts_with(&below))
        .map(str::to_owned)
        .collect())
}

async fn run_ip(args: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    Ok(finish(command).await?.out)
}

async fn rules() -> Result<String> {
    let command = Command::new("iptables-save");
    Ok(finish(command).await?.out)
}

/// How many runs are killed; `COMIND_CLUSTER_KILLS` for another number.
fn kills() -> u64 {
    let wished = std::env::var("COMIND_CLUSTER_KILLS").ok();
    wished.and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Whenever a run is killed, the next one goes on, and it ends the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_is_gone_on_with() -> Result<()> {
    let cluster = Cluster(PlatformOf::new("stage")?);
    for round in 0..kills() {
        let command = cluster
            .ops
            .command(&["cluster", "create", "--no-kubeconfig"]);
        let mut run = Command::from(command).kill_on_drop(true).spawn()?;
        // Spread over what a run takes; which moments these are does not matter.
        let moment = Duration::from_millis(150 + 2_900 * round / kills() * 2);
        let ended = tokio::time::timeout(moment, run.wait()).await;
        if ended.is_err() {
            run.kill().await?;
        }
        if round % 2 == 1 {
            // Also with what a cut off run leaves in the network.
            run_ip(&["link", "delete", "comind-stage"]).await?;
        }
    }
    ensure!(!cluster.users().exists(), "it was to be left alone");
    cluster.good(&["cluster", "create"]).await?;
    let plan = cluster.run(&["cluster", "create", "--plan"]).await?;
    ensure!(plan.code == 0, "{}", plan.said());
    let pods = cluster
        .ask(&[
            "get",
            "pods",
            "-A",
            "-o",
            "jsonpath={.items[*].status.phase}",
        ])
        .await?;
    ensure!(pods == ["Running"; 5].join(" "), "{pods}");
    Ok(())
}
