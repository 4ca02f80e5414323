//! `comind-ops access` while the ingress behind it is killed and comes back: 1,000 requests a minute
//! through one URL, evenly and in bursts. The cluster is made for it (as root, environment `qa`) and
//! removed afterwards; the ingress is a proxy in the cluster's network, straight before the service.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http_body_util::Full;
use hyper::{Method, Request};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::figures::{Samples, cell, print, say};
use crate::subject::program;
use crate::tunnel::{Cluster, ENV};

/// How long anything may take to be ready, or an answer to come.
const READY: Duration = Duration::from_secs(120);
/// Before the kill, and while the ingress is away.
const PHASE: Duration = Duration::from_secs(10);
/// Answers after a kill that count as those of the break.
const BREAK: Duration = Duration::from_secs(2);
/// The ingress, on the node.
const INGRESS_PORT: u16 = 30080;
/// Of so many requests one changes something, and must not be repeated.
const CHANGES: u64 = 10;

/// How requests come: so many at once, so often. Both are 1,000 a minute.
#[derive(Clone, Copy)]
struct Rhythm {
    name: &'static str,
    at_once: u64,
    every: Duration,
    path: &'static str,
}

const RHYTHMS: [Rhythm; 2] = [
    Rhythm {
        name: "one each 60 ms",
        at_once: 1,
        every: Duration::from_millis(60),
        path: "/count",
    },
    // All of a burst are under way when the ingress is killed.
    Rhythm {
        name: "50 at once each 3 s",
        at_once: 50,
        every: Duration::from_secs(3),
        path: "/think?ms=100",
    },
];

/// Measures both rhythms, over so many kills each.
pub(crate) async fn run(rounds: usize) -> Result<()> {
    let cluster = Cluster::create().await?;
    let service = cluster.kubectl(
        &["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"],
        "",
    )?;
    let mut ingress = Ingress::new(&cluster, service.trim())?;
    ingress.start().await?;
    let access = Access::start(&cluster, &ingress).await?;
    let (mut counts, mut times) = (Vec::new(), Vec::new());
    for rhythm in RHYTHMS {
        say(&format!("{}: {rounds} kills", rhythm.name));
        let measured = measure(rhythm, rounds, &mut ingress, &access).await?;
        counts.extend(measured.counts(rhythm.name));
        times.push(measured.times(rhythm.name));
    }
    let header = [
        "requests",
        "kind",
        "sent",
        "by ingress",
        "by tunnel",
        "failed",
        "how",
    ];
    print("1,000 requests a minute through one URL", &header, &counts);
    let header = [
        "requests",
        "kills",
        "fall-back p50",
        "max",
        "slowest GET of the break",
        "fall-forward p50",
        "max",
    ];
    print(
        "From the kill to the first answer by tunnel, and from the ingress' first answer of its own to the \
         first by it again, in ms",
        &header,
        &times,
    );
    Ok(())
}

/// One request as it went.
struct Done {
    method: Method,
    began: Instant,
    ended: Instant,
    /// Whether the ingress answered, or why nobody did.
    by_ingress: Result<bool, String>,
}

/// What was asked, and what came of it.
#[derive(Default)]
struct Asked {
    begun: usize,
    done: Vec<Done>,
}

type All = Arc<Mutex<Asked>>;

struct Measured {
    all: All,
    kills: usize,
    back: Samples,
    slowest: Samples,
    forward: Samples,
}

async fn measure(
    rhythm: Rhythm,
    rounds: usize,
    ingress: &mut Ingress,
    access: &Access,
) -> Result<Measured> {
    let all = All::default();
    let asking = tokio::spawn(ask(rhythm, access.port.addr(), all.clone()));
    let mut measured = Measured {
        all: all.clone(),
        kills: rounds,
        back: Samples::default(),
        slowest: Samples::default(),
        forward: Samples::default(),
    };
    for _ in 0..rounds {
        tokio::time::sleep(PHASE).await;
        let killed = after_a_beginning(&all, || ingress.kill()).await?;
        let back = first(&all, killed, false).await?;
        measured.back.push_ms(back.duration_since(killed));
        tokio::time::sleep(PHASE).await;
        measured.slowest.push_ms(slowest(&all, killed));
        ingress.start().await?;
        let there = Instant::now();
        let forward = first(&all, there, true).await?;
        measured.forward.push_ms(forward.duration_since(there));
    }
    asking.abort();
    Ok(measured)
}

fn seen<T>(all: &All, look: impl FnOnce(&mut Asked) -> T) -> T {
    look(&mut all.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Kills while requests are under way: as soon as one has begun that had not before. Those that take
/// long are then waited for at the ingress.
async fn after_a_beginning(all: &All, kill: impl FnOnce() -> Result<()>) -> Result<Instant> {
    let before = seen(all, |all| all.begun);
    wait_for("the next request", READY, async || {
        ensure!(seen(all, |all| all.begun) > before, "none yet");
        Ok(())
    })
    .await?;
    let at = Instant::now();
    kill()?;
    Ok(at)
}

/// When the first good answer came by that way after `since`: to a request that was under way, or a later one.
async fn first(all: &All, since: Instant, by_ingress: bool) -> Result<Instant> {
    wait_for("an answer that way", READY, async || {
        let found = seen(all, |all| {
            let mut good = all
                .done
                .iter()
                .filter(|done| done.ended >= since && done.by_ingress == Ok(by_ingress));
            good.next().map(|done| done.ended)
        });
        found.context("none yet")
    })
    .await
}

fn slowest(all: &All, killed: Instant) -> Duration {
    seen(all, |all| {
        let of_break = all.done.iter().filter(|done| {
            done.method == Method::GET && done.ended >= killed && done.began < killed + BREAK
        });
        let took = of_break.map(|done| done.ended.duration_since(done.began));
        took.max().unwrap_or_default()
    })
}

/// Never waits for an answer before it asks the next: until it is aborted.
async fn ask(rhythm: Rhythm, addr: std::net::SocketAddr, all: All) {
    let mut turns = interval(rhythm.every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            Some(_) = asked.join_next() => {}
            _ = turns.tick() => for _ in 0..rhythm.at_once {
                number += 1;
                let method = match number % CHANGES {
                    0 => Method::POST,
                    _ => Method::GET,
                };
                let all = all.clone();
                seen(&all, |all| all.begun += 1);
                asked.spawn(async move {
                    let began = Instant::now();
                    let by_ingress = one(addr, &method, rhythm.path).await;
                    let ended = Instant::now();
                    seen(&all, |all| all.done.push(Done { method, began, ended, by_ingress }));
                });
            }
        }
    }
}

async fn one(addr: std::net::SocketAddr, method: &Method, path: &str) -> Result<bool, String> {
    let host = format!("web.localhost:{}", addr.port());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Full::new(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let answer = send(addr, request).await;
    let answer = answer.map_err(|error| error.root_cause().to_string())?;
    match answer.status().as_u16() {
        200 => Ok(answer.headers().contains_key("x-by")),
        other => Err(format!("status {other}")),
    }
}

impl Measured {
    fn counts(&self, name: &str) -> Vec<Vec<String>> {
        let of = |method: Method| {
            seen(&self.all, |all| {
                let (mut sent, mut ways, mut failed) = (0, [0, 0], BTreeMap::new());
                for done in all.done.iter().filter(|done| done.method == method) {
                    sent += 1;
                    match &done.by_ingress {
                        Ok(by_ingress) => ways[usize::from(!by_ingress)] += 1,
                        Err(how) => *failed.entry(how.clone()).or_insert(0) += 1,
                    }
                }
                let how: Vec<String> = failed
                    .iter()
                    .map(|(how, count)| format!("{count} × {how}"))
                    .collect();
                vec![
                    name.to_owned(),
                    method.to_string(),
                    sent.to_string(),
                    ways[0].to_string(),
                    ways[1].to_string(),
                    failed.values().sum::<usize>().to_string(),
                    how.join(", "),
                ]
            })
        };
        vec![of(Method::GET), of(Method::POST)]
    }

    fn times(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            self.kills.to_string(),
            cell(self.back.p50()),
            cell(self.back.max()),
            cell(self.slowest.max()),
            cell(self.forward.p50()),
            cell(self.forward.max()),
        ]
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command, dir: &Path) -> Result<Running> {
    let log = std::fs::File::create(dir.join("log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(Running(command.spawn()?))
}

/// A proxy on the node, as an ingress is.
struct Ingress {
    dir: TempDir,
    at: std::net::SocketAddr,
    running: Option<Running>,
}

impl Ingress {
    fn new(cluster: &Cluster, service: &str) -> Result<Self> {
        let node = cluster.kubectl(
            &[
                "get",
                "node",
                "-o",
                "jsonpath={.items[0].status.addresses[0].address}",
            ],
            "",
        )?;
        let at = std::net::SocketAddr::new(node.trim().parse()?, INGRESS_PORT);
        let dir = tempfile::tempdir()?;
        let config = format!(
            "api: {{ listen: \"127.0.0.1:30081\" }}\ndata_dir: {}\ntargets: []\nproxy:\n  listen: {at}\n  workers: 1\n  \
             routes: [{{ host: \"*\", upstream: \"http://{service}:80\", rewrite: {{ response: {{ set: {{ x-by: ingress }} }} }} }}]\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("comind.yaml"), config)?;
        Ok(Self {
            dir,
            at,
            running: None,
        })
    }

    /// Until it answers by itself.
    async fn start(&mut self) -> Result<()> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/comind-ops-{ENV}"))
            .arg(program()?)
            .args(["serve", "--config"])
            .arg(self.dir.path().join("comind.yaml"));
        self.running = Some(spawn(&mut command, self.dir.path())?);
        let answers = wait_for("the ingress", READY, async || {
            one(self.at, &Method::GET, "/count")
                .await
                .map_err(anyhow::Error::msg)
        });
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let by_ingress = answers.await.with_context(log)?;
        ensure!(by_ingress, "somebody else listens at {}", self.at);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            bail!("it does not run");
        };
        Ok(running.0.kill()?)
    }
}

struct Access {
    port: Port,
    _running: Running,
    _dir: TempDir,
}

impl Access {
    async fn start(cluster: &Cluster, ingress: &Ingress) -> Result<Self> {
        let (port, dir) = (Port::free()?, tempfile::tempdir()?);
        let mut command = cluster.command(&["access", "web=default/web:http", "--ingress"]);
        command
            .arg(ingress.at.to_string())
            .args(["--port", &port.number().to_string(), "--kubeconfig"])
            .arg(cluster.kubeconfig());
        let running = spawn(&mut command, dir.path())?;
        wait_for("an answer by the ingress", READY, async || {
            let by_ingress = one(port.addr(), &Method::GET, "/count").await;
            ensure!(by_ingress == Ok(true), "{by_ingress:?}");
            Ok(())
        })
        .await?;
        Ok(Self {
            port,
            _running: running,
            _dir: dir,
        })
    }
}
