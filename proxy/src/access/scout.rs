//! Looks at the ways to the services of one cluster, once a second, and says what that comes to. Each
//! cluster has one of its own: one that is away holds up no other.

use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::{Pod, Route};
use futures_util::future::join_all;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::board::Row;
use super::choose::{Seen, Way, Ways};
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
    /// What the last tunnel that was opened on trial came to.
    trial: Result<(), String>,
    /// Whether it speaks TLS itself, once that is known.
    tls: Option<bool>,
    /// That has just changed: it is asked again.
    doubt: bool,
}

/// What was seen of a service in one turn.
struct Sight {
    ways: [Seen; 3],
    trial: Result<(), String>,
    tls: Option<bool>,
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
                trial: Ok(()),
                tls: None,
                doubt: false,
            }
        };
        Self {
            lines: site.profiles.iter().map(made).collect(),
            site: site.clone(),
            alone: wish.sites.len() == 1,
            network: Err("not looked at yet".to_owned()),
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

    /// Looks until `stop`, and tells what it knows after each turn.
    pub async fn until(mut self, stop: CancellationToken, tell: impl Fn(Part)) {
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
            tell(self.part());
        }
    }

    async fn look(&mut self, number: u32) -> Vec<Sight> {
        let known = self.known.borrow_and_update().clone();
        let due = number.is_multiple_of(TRIAL);
        let looks = self
            .lines
            .iter()
            .map(|line| self.look_at(line, &known, due));
        let proof = async {
            match number % PROOF {
                1 => Some(look::network(&self.site.cluster).await),
                _ => None,
            }
        };
        let (looked, network) = tokio::join!(join_all(looks), proof);
        if let Some(network) = network {
            self.network = network;
        }
        looked
    }

    async fn look_at(&self, line: &Line, known: &Known, due: bool) -> Sight {
        let service = &line.profile.service;
        let found = known.found.get(service);
        let trouble = known.trouble.get(&service.cluster).map(String::as_str);
        let asks = line.profile.needs.perhaps_tls && (due || line.tls.is_none() || line.doubt);
        let handshake = asks.then(|| self.handshake.clone());
        let (ingress, (direct, by_address), (trial, by_tunnel)) = tokio::join!(
            look::ingress(self.site.ingress, &line.host),
            direct(&self.network, found, handshake.clone()),
            trial(&self.gate, line, found, due || trouble.is_some(), handshake),
        );
        let tunnel = tunnel(found, trouble, &trial);
        Sight {
            ways: [ingress, direct, tunnel],
            trial,
            tls: by_address.or(by_tunnel),
        }
    }

    fn take(&mut self, looked: Vec<Sight>) {
        for (line, sight) in self.lines.iter_mut().zip(looked) {
            line.trial = sight.trial;
            let known = self.known.borrow();
            let found = known.found.get(&line.profile.service);
            line.direct = found.and_then(|found| found.address.clone());
            line.doubt = sight.tls.is_some() && sight.tls != line.tls;
            line.tls = sight.tls.or(line.tls);
            for (way, seen) in Way::ALL.into_iter().zip(sight.ways) {
                line.ways.take(way, seen);
            }
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
    found: Option<&Found>,
    handshake: Option<Arc<ClientConfig>>,
) -> (Seen, Option<bool>) {
    let reached = look::service(network, found.and_then(|found| found.address.as_ref())).await;
    let (said, stream): (String, TcpStream) = match reached {
        Ok(reached) => reached,
        Err(text) => return (Err(text), None),
    };
    let tls = match handshake {
        Some(config) => look::speaks_tls(stream, config).await,
        None => None,
    };
    (Ok(said), tls)
}

/// Opens a tunnel now and then, and at once where the last one failed (rights can be lost) or
/// something is to be asked through it.
async fn trial(
    gate: &Gate,
    line: &Line,
    found: Option<&Found>,
    due: bool,
    handshake: Option<Arc<ClientConfig>>,
) -> (Result<(), String>, Option<bool>) {
    let first = line.ways.chosen().way.is_none();
    if !(first || due || line.trial.is_err() || handshake.is_some()) {
        return (Ok(()), None);
    }
    let place = found.and_then(|found| found.places.iter().find(|place| place.pod.is_some()));
    let Some((place, name)) = place.and_then(|place| Some((place, place.pod.as_deref()?))) else {
        return (Ok(()), None);
    };
    let service = &line.profile.service;
    let pod = Pod {
        cluster: service.cluster.clone(),
        namespace: service.namespace.clone(),
        name: name.into(),
    };
    let tunnel: Opened = match gate.open(&pod, place.port, TRIAL_LIMIT).await {
        Ok(tunnel) => tunnel,
        Err(refusal) => return (Err(refusal.to_string()), None),
    };
    let tls = match handshake {
        Some(config) => look::speaks_tls(tunnel, config).await,
        None => None,
    };
    (Ok(()), tls)
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
        ([], Ok(())) if found.places.is_empty() => Err(match trouble {
            Some(trouble) => format!("{}, as far as is known: {trouble}", found.lack),
            None => found.lack.clone(),
        }),
        ([], Ok(())) => {
            Err("what the service has are no pods, and a tunnel leads to pods only".to_owned())
        }
        ([only], Ok(())) => Ok(format!("through the API server to pod {only}")),
        (several, Ok(())) => Ok(format!("through the API server to {} pods", several.len())),
    }
}
