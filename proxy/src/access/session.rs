//! One session: a proxy with a host for each service, looks at the ways there once a second, and the
//! proxy told whenever another way is in force. What is under way goes on meanwhile; a request that
//! meets a way that has just broken is tried on the next one, by the proxy's own rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::{
    AccessLog, Action, Cluster, Endpoint, Forward, Host, Ingress, Limits, LogForm, Path, Patience,
    Pod, Protocol, Rewrite, Route, ServiceUpstream, Timeouts, Tls, Upstream, UpstreamTls,
};
use comind_model::snapshot::Snapshot;
use comind_model::timestamp::Timestamp;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
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
/// For a connection: an API server that starts again, and a network that is away for a moment, are waited for.
const CONNECT: Duration = Duration::from_secs(30);
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
    /// What the last tunnel that was opened on trial came to, where one was.
    trial: Option<Result<(), String>>,
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
        trial: None,
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
        let mut looks = Looks::default();
        let mut number = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // What changes in the cluster is seen at once.
                changed = self.known.changed() => if changed.is_err() { return },
                _ = turns.tick() => number = number.wrapping_add(1),
                Some((what, saw)) = looks.under_way.next() => {
                    looks.busy.remove(&what);
                    self.take(what, saw);
                    self.tell();
                    continue;
                }
            }
            self.look(number, &mut looks);
            self.tell();
        }
    }

    /// Begins all looks that are not under way: a slow one holds up no other.
    fn look(&mut self, number: u32, looks: &mut Looks) {
        let known = self.known.borrow_and_update().clone();
        for (at, line) in self.lines.iter_mut().enumerate() {
            let found = known.found.get(&line.profile.service);
            line.direct = found.and_then(|found| found.address.clone());
            let pod = found.and_then(|found| a_pod(line, found));
            if pod.is_none() && matches!(line.trial, Some(Err(_))) {
                // What was tried is gone.
                line.trial = None;
            }
            let seen = tunnel(found, known.trouble.as_deref(), line.trial.as_ref());
            line.ways.take(Way::Tunnel, seen);
            let (ingress, direct) = (self.wish.ingress, line.direct.clone());
            let host = format!("{}.localhost:{}", line.profile.name, self.wish.port);
            let network = self.network.clone();
            looks.begin(What::Ingress(at), async move {
                Saw::Way(look::ingress(ingress, &host).await)
            });
            looks.begin(What::Service(at), async move {
                Saw::Way(look::service(&network, direct.as_ref()).await)
            });
            let due = number.is_multiple_of(TRIAL) || known.trouble.is_some();
            // At once where the last one failed: rights can be lost, and come back.
            let due = due || !matches!(line.trial, Some(Ok(())));
            if let Some((pod, port)) = pod.filter(|_| due) {
                let gate = self.gate.clone();
                looks.begin(What::Trial(at), async move {
                    let opened = gate.open(&pod, port, TRIAL_LIMIT).await;
                    Saw::Trial(opened.map(drop).map_err(|refusal| refusal.to_string()))
                });
            }
        }
        if number % PROOF == 1 {
            let cluster = self.wish.cluster.clone();
            looks.begin(What::Network, async move {
                Saw::Way(look::network(&cluster).await)
            });
        }
    }

    fn take(&mut self, what: What, saw: Saw) {
        match (what, saw) {
            (What::Ingress(at), Saw::Way(seen)) => self.lines[at].ways.take(Way::Ingress, seen),
            (What::Service(at), Saw::Way(seen)) => self.lines[at].ways.take(Way::Service, seen),
            (What::Network, Saw::Way(seen)) => self.network = seen,
            (What::Trial(at), Saw::Trial(trial)) => {
                let line = &mut self.lines[at];
                let known = self.known.borrow();
                let found = known.found.get(&line.profile.service);
                let seen = tunnel(found, known.trouble.as_deref(), Some(&trial));
                line.trial = Some(trial);
                line.ways.take(Way::Tunnel, seen);
            }
            (_, Saw::Way(_) | Saw::Trial(_)) => {}
        }
    }

    /// The proxy, and who looks at the start page, learn what has changed.
    fn tell(&mut self) {
        for line in &mut self.lines {
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

/// What is looked at; of a service, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Ingress(usize),
    Service(usize),
    Trial(usize),
    Network,
}

/// What a look has seen.
enum Saw {
    Way(Seen),
    Trial(Result<(), String>),
}

/// Looks under way, each thing's by itself.
#[derive(Default)]
struct Looks {
    under_way: FuturesUnordered<BoxFuture<'static, (What, Saw)>>,
    busy: BTreeSet<What>,
}

impl Looks {
    fn begin(&mut self, what: What, look: impl Future<Output = Saw> + Send + 'static) {
        if self.busy.insert(what) {
            self.under_way
                .push(look.map(move |saw| (what, saw)).boxed());
        }
    }
}

/// One of the pods of a line's service, with its port.
fn a_pod(line: &Line, found: &Found) -> Option<(Pod, u16)> {
    let place = found.places.iter().find(|place| place.pod.is_some())?;
    let pod = Pod {
        namespace: line.profile.service.namespace.clone(),
        name: place.pod.as_deref()?.into(),
    };
    Some((pod, place.port))
}

fn tunnel(
    found: Option<&Found>,
    trouble: Option<&str>,
    trial: Option<&Result<(), String>>,
) -> Seen {
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
        ([], _) if found.places.is_empty() => Err(found.lack.clone()),
        ([], _) => {
            Err("what the service has are no pods, and a tunnel leads to pods only".to_owned())
        }
        (_, Some(Err(text))) => Err(text.clone()),
        (_, None) => Err("a first tunnel is being opened".to_owned()),
        ([only], Some(Ok(()))) => Ok(format!("through the API server to pod {only}")),
        (several, Some(Ok(()))) => Ok(format!("through the API server to {} pods", several.len())),
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
