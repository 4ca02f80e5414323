//! Tunnels beside `kubectl port-forward`, to one service of one real cluster in the same run: small
//! requests, one large answer, and what each of them outlives. The cluster is made for it (as root,
//! environment `qa`) and removed afterwards.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use comind_peers::http::get;
use comind_peers::node;
use comind_peers::port::Port;
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use comind_proxy::tunnel::stream::Tunnel;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::figures::{cell, print, ratio, say};
use crate::subject::program;

const KUBECTL: Tool = Tool::built("kubectl");
/// Whose cluster: no other bench has it.
pub(crate) const ENV: &str = "qa";
/// How long anything may take to be ready.
const READY: Duration = Duration::from_secs(180);
/// How often each measurement is made, the rivals in turn; the middle one counts.
const ROUNDS: usize = 3;
/// The large answer, in bytes.
const LARGE: u64 = 1024 * 1024 * 1024;
const RESETS: u32 = 100;
const REPLACEMENTS: u32 = 20;

/// Measures everything; `seconds` for each measurement of small requests.
pub(crate) async fn run(seconds: u64) -> Result<()> {
    let cluster = Cluster::create().await?;
    let ours = Rival::ours(&cluster).await?;
    let theirs = Rival::kubectl(&cluster).await?;
    let rivals = [&ours, &theirs];
    let ways = [Way::of(&ours), Way::of(&theirs), cluster.bare().await?];
    small(&ways, seconds, Habit::Keeps).await;
    small(&ways[..2], seconds, Habit::Opens).await;
    large(&rivals).await?;
    drop(ours);
    drop(theirs);
    survival(&cluster).await
}

/// What a client does for its next request.
#[derive(Clone, Copy)]
enum Habit {
    /// Takes the same connection, as browsers do.
    Keeps,
    /// Opens another one, as each run of curl does.
    Opens,
}

/// A connection that was made.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What requests go by.
#[derive(Clone)]
enum Way {
    /// A listener on this machine.
    Port(SocketAddr),
    /// The path behind both listeners with nothing of either on it: each connection is a WebSocket from
    /// the load to the API server, on to the kubelet and into the pod. Whoever takes that path
    /// has this above him.
    Bare(Client, String, u16),
}

impl Way {
    fn of(rival: &Rival) -> Self {
        Self::Port(rival.port.addr())
    }

    async fn connect(&self) -> Result<Box<dyn Io>> {
        match self {
            Self::Port(addr) => {
                let stream = TcpStream::connect(addr).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Bare(client, pod, port) => {
                let pods = kube::core::Request::new("/api/v1/namespaces/default/pods");
                let connection = client.connect(pods.portforward(pod, &[*port])?).await?;
                Ok(Box::new(Tunnel::new(connection.into_stream(), pod.clone())))
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(addr) => addr.fmt(f),
            Self::Bare(_, pod, _) => write!(f, "straight to {pod}"),
        }
    }
}

async fn small(ways: &[Way], seconds: u64, habit: Habit) {
    let mut rows = Vec::new();
    for connections in [1, 16, 64] {
        let mut rates = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for (rates, way) in rates.iter_mut().zip(ways) {
                let limit = Duration::from_secs(seconds);
                rates.push(rate(way, connections, limit, habit).await);
            }
        }
        let rates: Vec<_> = rates.into_iter().map(middle).collect();
        let (ours, theirs) = (rates[0], rates[1]);
        // Of rates the larger is the better one.
        let mut row = vec![
            connections.to_string(),
            cell(ours),
            cell(theirs),
            ratio(ours, theirs),
        ];
        if let Some(bare) = rates.get(2) {
            row.extend([cell(*bare), ratio(*bare, theirs)]);
        }
        rows.push(row);
    }
    let header = [
        "at once",
        "comind-ops",
        "kubectl",
        "ratio",
        "neither",
        "neither/kubectl",
    ];
    let header = if ways.len() > 2 {
        &header[..]
    } else {
        &header[..4]
    };
    let title = match habit {
        Habit::Keeps => "1 KiB requests a second through a tunnel, on kept connections",
        Habit::Opens => "1 KiB requests a second through a tunnel, each on a connection of its own",
    };
    print(title, header, &rows);
}

fn middle(mut all: Vec<Option<f64>>) -> Option<f64> {
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    all.get(all.len() / 2).copied().flatten()
}

/// None where a connection broke: then there is no rate.
async fn rate(way: &Way, at_once: usize, limit: Duration, habit: Habit) -> Option<f64> {
    let end = Instant::now() + limit;
    let began = Instant::now();
    let all = (0..at_once).map(|_| tokio::spawn(requests(way.clone(), end, habit)));
    let all: Vec<_> = all.collect();
    let mut count = 0;
    for one in all {
        match one.await {
            Ok(Ok(more)) => count += more,
            Ok(Err(error)) => {
                say(&format!("{way}: {error:#}"));
                return None;
            }
            Err(_) => return None,
        }
    }
    Some(count as f64 / began.elapsed().as_secs_f64())
}

async fn requests(way: Way, end: Instant, habit: Habit) -> Result<u64> {
    let mut count = 0;
    while Instant::now() < end {
        count += connection(&way, end, habit).await?;
    }
    Ok(count)
}

/// What one connection carries.
async fn connection(way: &Way, end: Instant, habit: Habit) -> Result<u64> {
    let stream = way.connect().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut count = 0;
    while Instant::now() < end {
        sender.ready().await?;
        let request = hyper::Request::get("/bytes?n=1024")
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status() == 200);
        ensure!(answer.into_body().collect().await?.to_bytes().len() == 1024);
        count += 1;
        if matches!(habit, Habit::Opens) {
            break;
        }
    }
    driver.abort();
    Ok(count)
}

async fn large(rivals: &[&Rival; 2]) -> Result<()> {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (rates, rival) in rates.iter_mut().zip(rivals) {
            rates.push(download(rival.port.addr()).await.ok());
        }
    }
    let [ours, theirs] = rates.map(middle);
    let row = vec![
        "1 GiB".to_owned(),
        cell(ours),
        cell(theirs),
        ratio(ours, theirs),
    ];
    let header = ["answer", "comind-ops", "kubectl", "ratio"];
    print("MiB a second through a tunnel", &header, &[row]);
    Ok(())
}

async fn download(addr: SocketAddr) -> Result<f64> {
    let began = Instant::now();
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(format!("/bytes?n={LARGE}"))
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())?;
    let mut body = sender.send_request(request).await?.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.into_data().map_or(0, |data| data.len() as u64);
    }
    driver.abort();
    ensure!(length == LARGE, "{length} bytes");
    Ok(LARGE as f64 / (1024.0 * 1024.0) / began.elapsed().as_secs_f64())
}

/// After each harm one good request is made, once: nobody helps.
async fn survival(cluster: &Cluster) -> Result<()> {
    let (mut resets, mut replaced) = (Vec::new(), Vec::new());
    for ours in [true, false] {
        let rival = cluster.rival(ours).await?;
        let mut good = 0;
        for _ in 0..RESETS {
            let _ = get(rival.port.addr(), "/reset").await;
            good += u32::from(answers(&rival).await);
        }
        resets.push(good);
        drop(rival);
        let rival = cluster.rival(ours).await?;
        let mut good = 0;
        for _ in 0..REPLACEMENTS {
            cluster.replace().await?;
            good += u32::from(answers(&rival).await);
        }
        replaced.push(good);
    }
    let row = |what: &str, of: u32, good: &[u32]| {
        let shown = |good: u32| format!("{good} of {of}");
        vec![what.to_owned(), shown(good[0]), shown(good[1])]
    };
    let rows = [
        row("backend resets", RESETS, &resets),
        row("pod replacements", REPLACEMENTS, &replaced),
    ];
    let header = ["harm", "comind-ops", "kubectl"];
    print("Good answers to the request after a harm", &header, &rows);
    Ok(())
}

async fn answers(rival: &Rival) -> bool {
    get(rival.port.addr(), "/count").await.is_ok()
}

/// A way to the service, ended by its id when dropped.
struct Rival {
    port: Port,
    process: Child,
    _dir: TempDir,
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Rival {
    async fn ours(cluster: &Cluster) -> Result<Self> {
        cluster.rival(true).await
    }

    async fn kubectl(cluster: &Cluster) -> Result<Self> {
        cluster.rival(false).await
    }
}

/// A cluster with one pod behind a service. Removed when dropped.
pub(crate) struct Cluster {
    home: TempDir,
    program: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command(&["-qy", "cluster", "delete"]).status();
    }
}

impl Cluster {
    pub(crate) async fn create() -> Result<Self> {
        let this = Self {
            home: tempfile::Builder::new().prefix("bench-").tempdir()?,
            program: program()?,
        };
        let made = this
            .command(&["-q", "cluster", "create", "--no-kubeconfig"])
            .status()?;
        ensure!(made.success(), "the cluster could not be made");
        let image = this.kubectl(
            &[
                "get",
                "node",
                "-o",
                "jsonpath={.items[*].status.images[*].names[*]}",
            ],
            "",
        )?;
        let image = image
            .split_whitespace()
            .find(|name| name.contains("busybox") && !name.contains('@'))
            .context("the cluster has no image with a shell")?;
        this.kubectl(&["apply", "-f", "-"], &node::service(image, 1).to_string())?;
        this.rolled_out()?;
        Ok(this)
    }

    /// The program, in this cluster's surroundings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("ENV", ENV)
            .env("COMIND_HOME", self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let data = format!("data/cluster-{ENV}/config/admin.kubeconfig");
        self.home.path().join(data)
    }

    fn kubectl_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(KUBECTL.find()?);
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// What kubectl answers.
    pub(crate) fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let file = self.home.path().join("input");
        std::fs::write(&file, input)?;
        let mut command = self.kubectl_command(args)?;
        let done = command.stdin(std::fs::File::open(&file)?).output()?;
        if !done.status.success() {
            bail!(
                "kubectl {args:?}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn rolled_out(&self) -> Result<()> {
        let rollout = ["rollout", "status", "deployment/web", "--timeout=180s"];
        self.kubectl(&rollout, "").map(drop)
    }

    /// Another pod takes over as a roll-out has it: the new one is ready before the old one ends.
    async fn replace(&self) -> Result<()> {
        self.kubectl(&["rollout", "restart", "deployment/web"], "")?;
        self.rolled_out()?;
        wait_for("the old pod to be gone", READY, async || {
            let pods = self.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"], "")?;
            ensure!(pods.lines().count() == 1, "{pods}");
            Ok(())
        })
        .await
    }

    async fn bare(&self) -> Result<Way> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let of = |what: &str| format!("jsonpath={{.items[0]{what}}}");
        let pod = of(".metadata.name");
        let pod = self.kubectl(&["get", "pods", "-l", "app=web", "-o", &pod], "")?;
        let label = "kubernetes.io/service-name=web";
        let port = of(".ports[?(@.name==\"http\")].port");
        let port = self.kubectl(&["get", "endpointslices", "-l", label, "-o", &port], "")?;
        let client = Client::try_from(config)?;
        Ok(Way::Bare(
            client,
            pod.trim().to_owned(),
            port.trim().parse()?,
        ))
    }

    async fn rival(&self, ours: bool) -> Result<Rival> {
        let dir = tempfile::tempdir()?;
        let port = Port::free()?;
        let mut command = match ours {
            true => self.ours(dir.path(), &port)?,
            false => {
                let ports = format!("{}:80", port.number());
                self.kubectl_command(&["port-forward", "service/web", &ports])?
            }
        };
        let log = std::fs::File::create(dir.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let rival = Rival {
            process: command.spawn()?,
            port,
            _dir: dir,
        };
        wait_for("the first answer", READY, async || {
            ensure!(answers(&rival).await);
            Ok(())
        })
        .await?;
        Ok(rival)
    }

    fn ours(&self, dir: &Path, port: &Port) -> Result<Command> {
        let api = Port::free()?;
        let config = format!(
            "api: {{ listen: {} }}\ndata_dir: {}\ntargets: []\nproxy:\n  listen: {}\n  workers: 1\n  \
             tunnels: {{ kubeconfig: {} }}\n  routes: [{{ host: \"*\", upstream: \"service://default/web:80\", timeouts: {{ connect: 10s }} }}]\n",
            api.addr(),
            dir.display(),
            port.addr(),
            self.kubeconfig().display(),
        );
        let file = dir.join("comind.yaml");
        std::fs::write(&file, config)?;
        let mut command = self.command(&["serve", "--config"]);
        command.arg(file);
        Ok(command)
    }
}
