//! Looks at the ways to the services of one cluster, once a second, and says what that comes to. Each
//! cluster has one of its own: one that is away holds up no other; nor does a slow look another look.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::{Pod, Route};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::board::Row;
use super::choose::{OPENING, SOUGHT, Seen, UNSEEN, Way, Ways};
use super::look;
use super::profile::Profile;
use super::told;
use super::wish::{Site, Wish};
use crate::tunnel::gate::{Gate, Opened};
use crate::tunnel::resolve::{Found, Known};

/// How often the ways are looked at.
const TURN: Duration = Duration::from_secs(1);
/// Whether the cluster's network can be reached is looked at in every so manieth turn.
const PROOF: u32 = 5;
/// A tunnel is opened only to see whether that works in every so manieth turn, and it is then asked
/// again whether TLS is spoken.
const TRIAL: u32 = 15;
/// How long that may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(3);

/// What one cluster adds to the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The routes to its services.
    pub routes: Vec<Route>,
    /// How they are reached.
    pub rows: Vec<Row>,
}

/// One service, and what has been seen of its ways.
struct Line {
    profile: Profile,
    /// With the port, as browsers ask for it.
    host: String,
    ways: Ways,
    row: Row,
    /// The Service's own address.
    direct: Option<(String, u16)>,
    /// What the last tunnel that was opened on trial came to, where one was.
    trial: Option<Result<(), String>>,
    /// Whether it speaks TLS itself, once that is known.
    tls: Option<bool>,
    /// That has just changed: it is asked again.
    doubt: bool,
}

impl Line {
    /// Whether it is to be asked whether it speaks TLS.
    fn asks(&self, due: bool) -> bool {
        self.profile.needs.perhaps_tls && (due || self.tls.is_none() || self.doubt)
    }

    /// An answer to that, where one came.
    fn hears(&mut self, tls: Option<bool>) {
        if tls.is_some() {
            self.doubt = tls != self.tls;
            self.tls = tls;
        }
    }

    /// One of the pods of its service, with its port.
    fn pod(&self, found: &Found) -> Option<(Pod, u16)> {
        let place = found.places.iter().find(|place| place.pod.is_some())?;
        let service = &self.profile.service;
        let pod = Pod {
            cluster: service.cluster.clone(),
            namespace: service.namespace.clone(),
            name: place.pod.as_deref()?.into(),
        };
        Some((pod, place.port))
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

/// What a look has seen, and whether TLS is spoken there, where that was asked.
enum Saw {
    Way(Seen, Option<bool>),
    Trial(Result<(), String>, Option<bool>),
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
            let look = look.map(move |saw| (what, saw));
            self.under_way.push(look.boxed());
        }
    }
}

/// Who looks.
pub struct Scout {
    site: Site,
    alone: bool,
    lines: Vec<Line>,
    /// What was seen of the network of Services.
    network: Seen,
    gate: Arc<Gate>,
    known: watch::Receiver<Known>,
    handshake: Arc<ClientConfig>,
}

impl Scout {
    /// Nothing has been looked at.
    pub fn new(
        wish: &Wish,
        site: &Site,
        (gate, known): (Arc<Gate>, watch::Receiver<Known>),
        handshake: Arc<ClientConfig>,
    ) -> Self {
        let now = jiff::Timestamp::now();
        let made = |profile: &Profile| {
            let host = site.host(profile);
            Line {
                ways: Ways::default(),
                row: Row {
                    name: profile.name.clone(),
                    context: site.label.is_some().then(|| site.name()),
                    url: wish.url(site, profile),
                    service: profile.service.to_string(),
                    chosen: Ways::default().chosen(),
                    since: now,
                },
                host: format!("{host}:{}", wish.port),
                profile: profile.clone(),
                direct: None,
                trial: None,
                tls: None,
                doubt: false,
            }
        };
        Self {
            lines: site.profiles.iter().map(made).collect(),
            site: site.clone(),
            alone: wish.sites.len() == 1,
            network: Err(UNSEEN.to_owned()),
            gate,
            known,
            handshake,
        }
    }

    /// What it knows now.
    pub fn part(&self) -> Part {
        let routes = self.lines.iter().flat_map(|line| {
            let found = told::Found {
                ways: &line.ways,
                direct: line.direct.as_ref(),
                tls: line.tls == Some(true),
            };
            told::routes(&self.site, &line.profile, &found, self.alone)
        });
        Part {
            routes: routes.collect(),
            rows: self.lines.iter().map(|line| line.row.clone()).collect(),
        }
    }

    /// Looks until `stop`, and tells what it knows whenever a look has ended.
    pub async fn until(mut self, stop: CancellationToken, tell: impl Fn(Part)) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = Looks::default();
        let mut number = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some((what, saw)) = looks.under_way.next() => {
                    looks.busy.remove(&what);
                    self.take(what, saw);
                    self.choose();
                    tell(self.part());
                    continue;
                }
                // What changes in the cluster is seen at once.
                changed = self.known.changed() => if changed.is_err() { return },
                _ = turns.tick() => number = number.wrapping_add(1),
            }
            self.look(number, &mut looks);
            self.choose();
            tell(self.part());
        }
    }

    /// Begins all looks that are not under way.
    fn look(&mut self, number: u32, looks: &mut Looks) {
        let known = self.known.borrow_and_update().clone();
        let due = number.is_multiple_of(TRIAL);
        for at in 0..self.lines.len() {
            self.look_at(at, &known, due, looks);
        }
        if number % PROOF == 1 {
            let cluster = self.site.cluster.clone();
            looks.begin(What::Network, async move {
                Saw::Way(look::network(&cluster).await, None)
            });
        }
    }

    fn look_at(&mut self, at: usize, known: &Known, due: bool, looks: &mut Looks) {
        let line = &mut self.lines[at];
        let service = &line.profile.service;
        let found = known.found.get(service);
        let trouble = known.trouble.get(&service.cluster).map(String::as_str);
        let pod = found.and_then(|found| line.pod(found));
        if pod.is_none() && matches!(line.trial, Some(Err(_))) {
            // What was tried is gone.
            line.trial = None;
        }
        let seen = tunnel(found, trouble, line.trial.as_ref());
        line.direct = found.and_then(|found| found.address.clone());
        line.ways.take(Way::Tunnel, seen);

        let handshake = line.asks(due).then(|| self.handshake.clone());
        let (ingress, host) = (self.site.ingress, line.host.clone());
        looks.begin(What::Ingress(at), async move {
            Saw::Way(look::ingress(ingress, &host).await, None)
        });
        let (network, address, asks) =
            (self.network.clone(), line.direct.clone(), handshake.clone());
        looks.begin(What::Service(at), async move {
            let (seen, tls) = direct(&network, address.as_ref(), asks).await;
            Saw::Way(seen, tls)
        });
        // At once where the last one failed: rights can be lost, and come back.
        let failed = !matches!(line.trial, Some(Ok(())));
        let tries = due || trouble.is_some() || failed || handshake.is_some();
        if let Some((pod, port)) = pod.filter(|_| tries) {
            let gate = self.gate.clone();
            looks.begin(What::Trial(at), async move {
                let (came, tls) = trial(&gate, &pod, port, handshake).await;
                Saw::Trial(came, tls)
            });
        }
    }

    fn take(&mut self, what: What, saw: Saw) {
        match (what, saw) {
            (What::Network, Saw::Way(seen, _)) => self.network = seen,
            (What::Ingress(at), Saw::Way(seen, _)) => self.lines[at].ways.take(Way::Ingress, seen),
            (What::Service(at), Saw::Way(seen, tls)) => {
                self.lines[at].ways.take(Way::Service, seen);
                self.lines[at].hears(tls);
            }
            (What::Trial(at), Saw::Trial(trial, tls)) => {
                let line = &mut self.lines[at];
                let (known, service) = (self.known.borrow(), &line.profile.service);
                let trouble = known.trouble.get(&service.cluster).map(String::as_str);
                let seen = tunnel(known.found.get(service), trouble, Some(&trial));
                line.trial = Some(trial);
                line.ways.take(Way::Tunnel, seen);
                line.hears(tls);
            }
            (_, Saw::Way(..) | Saw::Trial(..)) => {}
        }
    }

    fn choose(&mut self) {
        for line in &mut self.lines {
            let chosen = line.ways.chosen();
            if chosen.way != line.row.chosen.way {
                line.row.since = jiff::Timestamp::now();
            }
            line.row.chosen = chosen;
        }
    }
}

/// The Service's own address, and whether TLS is spoken there, where that is asked.
async fn direct(
    network: &Seen,
    address: Option<&(String, u16)>,
    handshake: Option<Arc<ClientConfig>>,
) -> (Seen, Option<bool>) {
    let (said, stream): (String, TcpStream) = match look::service(network, address).await {
        Ok(reached) => reached,
        Err(text) => return (Err(text), None),
    };
    let tls = match handshake {
        Some(config) => look::speaks_tls(stream, config).await,
        None => None,
    };
    (Ok(said), tls)
}

/// Opens a tunnel, and asks through it whether TLS is spoken.
async fn trial(
    gate: &Gate,
    pod: &Pod,
    port: u16,
    handshake: Option<Arc<ClientConfig>>,
) -> (Result<(), String>, Option<bool>) {
    let tunnel: Opened = match gate.open(pod, port, TRIAL_LIMIT).await {
        Ok(tunnel) => tunnel,
        Err(refusal) => return (Err(refusal.to_string()), None),
    };
    let tls = match handshake {
        Some(config) => look::speaks_tls(tunnel, config).await,
        None => None,
    };
    (Ok(()), tls)
}

fn tunnel(
    found: Option<&Found>,
    trouble: Option<&str>,
    trial: Option<&Result<(), String>>,
) -> Seen {
    let Some(found) = found else {
        return Err(trouble.unwrap_or(SOUGHT).to_owned());
    };
    let pods: Vec<&str> = found
        .places
        .iter()
        .filter_map(|place| place.pod.as_deref())
        .collect();
    match (pods.as_slice(), trial) {
        ([], _) if found.places.is_empty() => Err(match trouble {
            Some(trouble) => format!("{}, as far as is known: {trouble}", found.lack),
            None => found.lack.clone(),
        }),
        ([], _) => {
            Err("what the service has are no pods, and a tunnel leads to pods only".to_owned())
        }
        (_, Some(Err(text))) => Err(text.clone()),
        (_, None) => Err(OPENING.to_owned()),
        ([only], Some(Ok(()))) => Ok(format!("through the API server to pod {only}")),
        (several, Some(Ok(()))) => Ok(format!("through the API server to {} pods", several.len())),
    }
}
