//! One session: a proxy with a host for each service, looks at the ways there once a second, and the
//! proxy told whenever another way is in force. What is under way goes on meanwhile; a request that
//! meets a way that has just broken is tried on the next one, by the proxy's own rules.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::{
    AccessLog, Action, Cluster, Endpoint, Forward, Host, Ingress, Limits, LogForm, Path, Patience,
    Pod, Protocol, Rewrite, Route, ServiceUpstream, Timeouts, Tls, Upstream, UpstreamTls,
};
use comind_model::snapshot::Snapshot;
use comind_model::timestamp::Timestamp;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Row};
use super::choose::{Seen, Way, Ways};
use super::profile::Profile;
use super::{look, page};
use crate::run::{Proxy, StartError};
use crate::tunnel::gate::Gate;
use crate::tunnel::resolve::{Found, Known};

/// How often the ways are looked at.
const TURN: Duration = Duration::from_secs(1);
/// Whether the cluster's network can be reached is looked at in every so manieth turn.
const PROOF: u32 = 5;
/// A tunnel is opened only to see whether that works in every so manieth turn.
const TRIAL: u32 = 15;
/// How long that may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(3);
/// For a connection: an API server that starts again is waited for.
const CONNECT: Duration = Duration::from_secs(10);
/// What is under way has so long at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// What is to be reached, and where we listen.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The cluster.
    pub cluster: Cluster,
    /// Its ingress, as it is reached from here.
    pub ingress: Option<SocketAddr>,
    /// The services.
    pub profiles: Vec<Profile>,
    /// Our port, on loopback.
    pub port: u16,
}

impl Wish {
    /// Where a service is reached.
    pub fn url(&self, profile: &Profile) -> String {
        format!("http://{}.localhost:{}/", profile.name, self.port)
    }

    /// The start page.
    pub fn start(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// What is reachable now.
    pub board: watch::Receiver<Board>,
    /// Ends after its token was cancelled, and what was under way has ended.
    pub task: JoinHandle<()>,
}

/// One service, and what has been seen of its ways.
struct Line {
    profile: Profile,
    ways: Ways,
    row: Row,
    /// The Service's own address.
    direct: Option<(String, u16)>,
    /// What the last tunnel that was opened on trial came to.
    trial: Result<(), String>,
}

/// Opens a session: when this returns, its port listens.
///
/// # Errors
/// When the port is taken.
pub async fn open(wish: Wish, stop: CancellationToken) -> Result<Session, StartError> {
    let (listener, page_at) = page::listen().await.map_err(|error| StartError::Listen {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        error,
    })?;
    let now = jiff::Timestamp::now();
    let made = |profile: &Profile| Line {
        ways: Ways::default(),
        row: Row {
            name: profile.name.clone(),
            url: wish.url(profile),
            service: profile.service.to_string(),
            chosen: Ways::default().chosen(),
            since: now,
        },
        profile: profile.clone(),
        direct: None,
        trial: Ok(()),
    };
    let lines: Vec<Line> = wish.profiles.iter().map(made).collect();
    let first = Arc::new(told(&wish, &lines, page_at));
    let proxy = Proxy::start(Ingress::clone(&first), &[], None)?;
    let (tell, heard) = watch::channel(Some(first));
    let (_, seen) = watch::channel(Arc::new(Snapshot::empty(Timestamp::from_micros(
        now.as_microsecond(),
    ))));
    let (show, board) = watch::channel(shown(&lines));
    let (gate, known) = (proxy.tunnels(), proxy.pods());
    let looking = Looking {
        wish,
        network: Err("not looked at yet".to_owned()),
        page_at,
        lines,
        gate,
        known,
        tell,
        show,
    };
    let shown = board.clone();
    let task = tokio::spawn(async move {
        let pages = page::serve(listener, shown, stop.clone());
        let carried = proxy.follow(heard, seen, stop.clone());
        tokio::join!(pages, carried, looking.until(stop));
    });
    Ok(Session { board, task })
}

fn shown(lines: &[Line]) -> Board {
    Board {
        rows: lines.iter().map(|line| line.row.clone()).collect(),
    }
}

struct Looking {
    wish: Wish,
    page_at: SocketAddr,
    lines: Vec<Line>,
    /// What was seen of the network of Services.
    network: Seen,
    gate: Arc<Gate>,
    known: watch::Receiver<Known>,
    tell: watch::Sender<Option<Arc<Ingress>>>,
    show: watch::Sender<Board>,
}

impl Looking {
    async fn until(mut self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // What changes in the cluster is seen at once.
                changed = self.known.changed() => if changed.is_err() { return },
                _ = turns.tick() => number = number.wrapping_add(1),
            }
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look(number) => looked,
            };
            self.take(looked);
        }
    }

    async fn look(&mut self, number: u32) -> Vec<([Seen; 3], Result<(), String>)> {
        let known = self.known.borrow_and_update().clone();
        let looks = self.lines.iter().map(|line| {
            let host = format!("{}.localhost:{}", line.profile.name, self.wish.port);
            let (gate, known, network) = (&self.gate, &known, &self.network);
            let ingress = self.wish.ingress;
            let service = &line.profile.service;
            async move {
                let found = known.found.get(service);
                let (ingress, direct, trial) = tokio::join!(
                    look::ingress(ingress, &host),
                    look::service(network, found.and_then(|found| found.address.as_ref())),
                    trial(
                        gate,
                        line,
                        found,
                        number.is_multiple_of(TRIAL) || known.trouble.is_some()
                    ),
                );
                let tunnel = tunnel(found, known.trouble.as_deref(), &trial);
                ([ingress, direct, tunnel], trial)
            }
        });
        let proof = async {
            match number % PROOF {
                1 => Some(look::network(&self.wish.cluster).await),
                _ => None,
            }
        };
        let (looked, network) = tokio::join!(join_all(looks), proof);
        if let Some(network) = network {
            self.network = network;
        }
        looked
    }

    fn take(&mut self, looked: Vec<([Seen; 3], Result<(), String>)>) {
        for (line, (seen, trial)) in self.lines.iter_mut().zip(looked) {
            line.trial = trial;
            let known = self.known.borrow();
            let found = known.found.get(&line.profile.service);
            line.direct = found.and_then(|found| found.address.clone());
            for (way, seen) in Way::ALL.into_iter().zip(seen) {
                line.ways.take(way, seen);
            }
            let chosen = line.ways.chosen();
            if chosen.way != line.row.chosen.way {
                line.row.since = jiff::Timestamp::now();
            }
            line.row.chosen = chosen;
        }
        let told = told(&self.wish, &self.lines, self.page_at);
        self.tell.send_if_modified(|before| {
            let changed = before.as_deref() != Some(&told);
            if changed {
                *before = Some(Arc::new(told));
            }
            changed
        });
        let shown = shown(&self.lines);
        self.show.send_if_modified(|before| {
            let changed = *before != shown;
            *before = shown;
            changed
        });
    }
}

/// Opens a tunnel now and then, and at once where the last one failed: rights can be lost.
async fn trial(gate: &Gate, line: &Line, found: Option<&Found>, due: bool) -> Result<(), String> {
    let first = line.ways.chosen().way.is_none();
    if !(first || due || line.trial.is_err()) {
        return Ok(());
    }
    let place = found.and_then(|found| found.places.iter().find(|place| place.pod.is_some()));
    let Some((place, name)) = place.and_then(|place| Some((place, place.pod.as_deref()?))) else {
        return Ok(());
    };
    let pod = Pod {
        namespace: line.profile.service.namespace.clone(),
        name: name.into(),
    };
    match gate.open(&pod, place.port, TRIAL_LIMIT).await {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.to_string()),
    }
}

fn tunnel(found: Option<&Found>, trouble: Option<&str>, trial: &Result<(), String>) -> Seen {
    let Some(found) = found else {
        return Err(trouble
            .unwrap_or("the service is being looked for")
            .to_owned());
    };
    let pods: Vec<&str> = found
        .places
        .iter()
        .filter_map(|place| place.pod.as_deref())
        .collect();
    match (pods.as_slice(), trial) {
        (_, Err(text)) => Err(text.clone()),
        ([], Ok(())) if found.places.is_empty() => Err(found.lack.clone()),
        ([], Ok(())) => {
            Err("what the service has are no pods, and a tunnel leads to pods only".to_owned())
        }
        ([only], Ok(())) => Ok(format!("through the API server to pod {only}")),
        (several, Ok(())) => Ok(format!("through the API server to {} pods", several.len())),
    }
}

/// What the proxy is told.
fn told(wish: &Wish, lines: &[Line], page_at: SocketAddr) -> Ingress {
    let start = |host: &str| {
        let endpoint = Endpoint::plain(page_at.ip().to_string().into(), page_at.port());
        route(host, upstream(vec![endpoint], Vec::new()))
    };
    let mut routes = vec![start("localhost"), start("127.0.0.1")];
    for line in lines {
        let host = format!("{}.localhost", line.profile.name);
        routes.push(route(&host, ways(wish, line)));
    }
    Ingress {
        listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), wish.port)],
        listen_tls: Vec::new(),
        tls: Tls::default(),
        workers: 1,
        routes,
        trusted: Vec::new(),
        proxy_protocol: false,
        limits: Limits::default(),
        patience: Patience::default(),
        drain: DRAIN,
        access_log: AccessLog {
            form: LogForm::Off,
            sample: 1.0,
        },
        kubernetes: None,
        logins: None,
        tunnels: Some(wish.cluster.clone()),
    }
}

/// Those that work, the best first; a tunnel in any case, which then says why there is none.
fn ways(wish: &Wish, line: &Line) -> Upstream {
    let mut endpoints = Vec::new();
    if let Some(at) = wish.ingress.filter(|_| line.ways.is_usable(Way::Ingress)) {
        endpoints.push(tier(at.ip().to_string(), at.port(), Way::Ingress));
    }
    if let Some((host, port)) = line
        .direct
        .as_ref()
        .filter(|_| line.ways.is_usable(Way::Service))
    {
        endpoints.push(tier(host.clone(), *port, Way::Service));
    }
    let service = ServiceUpstream {
        service: line.profile.service.clone(),
        weight: 1,
        target: None,
        tier: Way::Tunnel as u8,
    };
    upstream(endpoints, vec![service])
}

fn tier(host: String, port: u16, way: Way) -> Endpoint {
    Endpoint {
        tier: way as u8,
        ..Endpoint::plain(host.into(), port)
    }
}

fn upstream(endpoints: Vec<Endpoint>, services: Vec<ServiceUpstream>) -> Upstream {
    Upstream {
        protocol: Protocol::Http,
        endpoints,
        services,
        tls: UpstreamTls::default(),
        send_proxy: None,
        lack: None,
    }
}

fn route(host: &str, upstream: Upstream) -> Route {
    let action = Action::Forward(Box::new(Forward {
        upstream,
        rewrite: Rewrite::default(),
        timeouts: Timeouts {
            connect: CONNECT,
            ..Timeouts::default()
        },
    }));
    let path = Path::Prefix("/".to_owned());
    Route::open(host, Host::Exact(host.to_owned()), path, action)
}
