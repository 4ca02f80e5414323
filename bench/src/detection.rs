//! How long an outage goes unseen: from the fault to the event that tells of it, beside the
//! exporters' way in the same run.

use std::time::Instant;

use anyhow::Result;
use comind_peers::elasticmq::ElasticMq;
use comind_peers::minio::Minio;
use comind_peers::peer::Peer;
use comind_peers::postgres::Postgres;
use comind_peers::redis::Redis;
use comind_peers::relay::{Mode, Relay};
use tokio::sync::mpsc;

use crate::figures::{self, Samples, cell, ratio, say};
use crate::rivals::{self, Rivals};
use crate::subject::{Subject, Told, told};

/// Stops and black holes take seconds each: fewer of them than of kills.
const SILENCES: usize = 10;

struct Servers {
    postgres: Postgres,
    minio: Minio,
    redis: Redis,
    elasticmq: ElasticMq,
    /// In front of each server in the same order, for the black hole.
    relays: Vec<Relay>,
}

const NAMES: [&str; 4] = ["postgresql", "minio", "redis", "elasticmq"];

impl Servers {
    async fn start() -> Result<Self> {
        let postgres = Postgres::start().await?;
        let minio = Minio::builder().bucket("backups").start().await?;
        let redis = Redis::start().await?;
        let elasticmq = ElasticMq::builder().queue("jobs").start().await?;
        let mut relays = Vec::new();
        for addr in [
            postgres.addr(),
            minio.addr(),
            redis.addr(),
            elasticmq.addr(),
        ] {
            relays.push(Relay::start(addr).await?);
        }
        Ok(Self {
            postgres,
            minio,
            redis,
            elasticmq,
            relays,
        })
    }

    fn peer(&mut self, name: &str) -> &mut Peer {
        match name {
            "postgresql" => &mut self.postgres,
            "minio" => &mut self.minio,
            "redis" => &mut self.redis,
            _ => &mut self.elasticmq,
        }
    }

    /// Each server directly, and once more through its relay under `NAME-relayed`.
    fn targets(&self) -> Vec<String> {
        let key = self.minio.root();
        let mut lines = Vec::new();
        let rhythm = "interval: 1s, timeout: 1s";
        let mut add = |suffix: &str,
                       postgres: String,
                       minio: String,
                       redis: String,
                       elasticmq: String| {
            lines.push(format!("{{ name: postgresql{suffix}, kind: postgresql, required: true, url: \"{postgres}\", {rhythm} }}"));
            lines.push(format!(
                "{{ name: minio{suffix}, kind: minio, required: true, url: \"{minio}\", access_key: \"{}\", secret_key: \"{}\", buckets: [backups], {rhythm} }}",
                key.access, key.secret
            ));
            lines.push(format!(
                "{{ name: redis{suffix}, kind: redis, url: \"{redis}\", {rhythm} }}"
            ));
            lines.push(format!("{{ name: elasticmq{suffix}, kind: elasticmq, url: \"{elasticmq}\", queues: [jobs], {rhythm} }}"));
        };
        add(
            "",
            self.postgres.url(),
            self.minio.url(),
            self.redis.url(),
            self.elasticmq.url(),
        );
        let [p, m, r, e] = [0, 1, 2, 3].map(|place| self.relays[place].addr());
        add(
            "-relayed",
            self.postgres.url_via(p),
            self.minio.url_via(m),
            self.redis.url_via(r),
            self.elasticmq.url_via(e),
        );
        lines
    }
}

#[derive(Default)]
struct Delays {
    ours: Samples,
    theirs: Samples,
}

/// Runs it and prints.
pub(crate) async fn run(kills: usize) -> Result<()> {
    let mut servers = Servers::start().await?;
    let rivals = Rivals::start(
        &servers.postgres,
        &servers.redis,
        &servers.minio,
        &servers.elasticmq,
    )
    .await?;
    let subject = Subject::start(&servers.targets()).await?;
    let mut events = subject.listen().await?;
    let mut rows = Vec::new();
    for name in NAMES {
        say(&format!(
            "{name}: {kills} kills, {SILENCES} stops, {SILENCES} black holes"
        ));
        let killed = kill(&mut servers, &rivals, &subject, &mut events, name, kills).await?;
        rows.push(row(name, "SIGKILL", &killed));
        let stopped = stop(&mut servers, &rivals, &subject, &mut events, name).await?;
        rows.push(row(name, "SIGSTOP", &stopped));
        let swallowed = black_hole(&servers, &subject, &mut events, name).await?;
        rows.push(row(name, "black hole", &swallowed));
    }
    figures::print(
        "Delay from the fault until it is told, in ms: our event, beside the sample in Prometheus at 1 s scrapes",
        &[
            "server",
            "fault",
            "n",
            "p50",
            "p99",
            "max",
            "peer",
            "p50",
            "p99",
            "max",
            "peer/ours p50",
        ],
        &rows,
    );
    Ok(())
}

fn row(name: &str, fault: &str, delays: &Delays) -> Vec<String> {
    let Delays { ours, theirs } = delays;
    let peer = if theirs.len() > 0 {
        rivals::name(name)
    } else {
        "–"
    };
    vec![
        name.to_owned(),
        fault.to_owned(),
        ours.len().to_string(),
        cell(ours.p50()),
        cell(ours.p99()),
        cell(ours.max()),
        peer.to_owned(),
        cell(theirs.p50()),
        cell(theirs.p99()),
        cell(theirs.max()),
        ratio(theirs.p50(), ours.p50()),
    ]
}

async fn kill(
    servers: &mut Servers,
    rivals: &Rivals,
    subject: &Subject,
    events: &mut mpsc::Receiver<Told>,
    name: &str,
    times: usize,
) -> Result<Delays> {
    let mut delays = Delays::default();
    for _ in 0..times {
        all_well(rivals, subject, name).await?;
        drain(events);
        let at = servers.peer(name).kill()?;
        let (ours, theirs) =
            tokio::try_join!(told(events, name, "down"), rivals.shows_down(name, at))?;
        delays.ours.push_ms(ours - at);
        delays.theirs.push_ms(theirs);
        servers.peer(name).restart().await?;
    }
    all_well(rivals, subject, name).await?;
    Ok(delays)
}

async fn stop(
    servers: &mut Servers,
    rivals: &Rivals,
    subject: &Subject,
    events: &mut mpsc::Receiver<Told>,
    name: &str,
) -> Result<Delays> {
    let mut delays = Delays::default();
    for _ in 0..SILENCES {
        all_well(rivals, subject, name).await?;
        drain(events);
        let at = servers.peer(name).stop_signal()?;
        let (ours, theirs) =
            tokio::try_join!(told(events, name, "down"), rivals.shows_down(name, at))?;
        delays.ours.push_ms(ours - at);
        delays.theirs.push_ms(theirs);
        servers.peer(name).continue_signal()?;
    }
    all_well(rivals, subject, name).await?;
    Ok(delays)
}

async fn black_hole(
    servers: &Servers,
    subject: &Subject,
    events: &mut mpsc::Receiver<Told>,
    name: &str,
) -> Result<Delays> {
    let place = NAMES
        .iter()
        .position(|known| *known == name)
        .unwrap_or_default();
    let relay = &servers.relays[place];
    let target = format!("{name}-relayed");
    let mut delays = Delays::default();
    for _ in 0..SILENCES {
        subject.until(&target, "up").await?;
        drain(events);
        let at = Instant::now();
        relay.set(Mode::Blackhole).await?;
        delays
            .ours
            .push_ms(told(events, &target, "down").await? - at);
        relay.set(Mode::Pass).await?;
    }
    subject.until(&target, "up").await?;
    Ok(delays)
}

/// Both sides see the server up, and so does the copy behind the relay.
async fn all_well(rivals: &Rivals, subject: &Subject, name: &str) -> Result<()> {
    subject.until(name, "up").await?;
    subject.until(&format!("{name}-relayed"), "up").await?;
    rivals.shows_up(name).await
}

fn drain(events: &mut mpsc::Receiver<Told>) {
    while events.try_recv().is_ok() {}
}
