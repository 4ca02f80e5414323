//! Random faults on all four servers; then the truth must be known, nothing may have leaked,
//! and no secret may have been told.
//!
//! `COMIND_CHAOS_FAULTS` says how many faults (40), `COMIND_CHAOS_SEED` repeats a run.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::elasticmq::ElasticMq;
use comind_peers::minio::Minio;
use comind_peers::peer::Peer;
use comind_peers::postgres::Postgres;
use comind_peers::redis::Redis;
use comind_peers::relay::{Mode, Relay};
use comind_peers::wait::wait_for;

use crate::dice::Dice;
use crate::events::Events;
use crate::serve::{LATER, SOON, Serve, USUAL, hides};

/// How soon after the last fault the truth must be known.
const TRUTH: Duration = Duration::from_secs(5);
/// The longest pause between two faults.
const PAUSE: u64 = 1500;

const SECRETS: [&str; 4] = [
    "pg-Aesh7ief",
    "redis-Ohth4xai",
    "minio-Paim5ohv",
    "mq-Quee3sho",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    Stop,
    Continue,
    Restart,
    Cut,
    Blackhole,
    Refuse,
    Pass,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Runs,
    Stopped,
    Dead,
}

enum Server {
    Postgres(Postgres),
    Redis(Redis),
    Minio(Minio),
    ElasticMq(ElasticMq),
}

impl Server {
    fn peer(&mut self) -> &mut Peer {
        match self {
            Self::Postgres(server) => server,
            Self::Redis(server) => server,
            Self::Minio(server) => server,
            Self::ElasticMq(server) => server,
        }
    }
}

/// One server with the way to it, and how both are.
struct Victim {
    name: &'static str,
    server: Server,
    relay: Relay,
    life: Life,
    passes: bool,
}

impl Victim {
    async fn new(name: &'static str, mut server: Server) -> Result<Self> {
        let relay = Relay::start(server.peer().addr()).await?;
        let life = Life::Runs;
        Ok(Self {
            name,
            server,
            relay,
            life,
            passes: true,
        })
    }

    fn works(&self) -> bool {
        self.life == Life::Runs && self.passes
    }

    fn possible(&self) -> Vec<Fault> {
        let mut faults = vec![Fault::Cut];
        faults.extend(match self.life {
            Life::Runs => &[Fault::Kill, Fault::Stop, Fault::Restart][..],
            Life::Stopped => &[Fault::Continue, Fault::Continue, Fault::Kill],
            Life::Dead => &[Fault::Restart, Fault::Restart],
        });
        faults.extend(match self.passes {
            true => &[Fault::Blackhole, Fault::Refuse][..],
            false => &[Fault::Pass, Fault::Pass],
        });
        faults
    }

    async fn suffer(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill => self.server.peer().kill().map(drop)?,
            Fault::Stop => self.server.peer().stop_signal().map(drop)?,
            Fault::Continue => self.server.peer().continue_signal().map(drop)?,
            Fault::Restart => self.server.peer().restart().await?,
            Fault::Cut => self.relay.cut().await?,
            Fault::Blackhole => self.relay.set(Mode::Blackhole).await?,
            Fault::Refuse => self.relay.set(Mode::Refuse).await?,
            Fault::Pass => self.relay.set(Mode::Pass).await?,
        }
        match fault {
            Fault::Kill => self.life = Life::Dead,
            Fault::Stop => self.life = Life::Stopped,
            Fault::Continue | Fault::Restart => self.life = Life::Runs,
            Fault::Blackhole | Fault::Refuse => self.passes = false,
            Fault::Pass => self.passes = true,
            Fault::Cut => {}
        }
        Ok(())
    }

    async fn heal(&mut self) -> Result<()> {
        match self.life {
            Life::Runs => {}
            Life::Stopped => self.suffer(Fault::Continue).await?,
            Life::Dead => self.suffer(Fault::Restart).await?,
        }
        if !self.passes {
            self.suffer(Fault::Pass).await?;
        }
        Ok(())
    }
}

async fn victims() -> Result<Vec<Victim>> {
    let [pg, redis, minio, _] = SECRETS;
    let pg = Postgres::builder().password(pg).start();
    let redis = Redis::builder().password(redis).start();
    let minio = Minio::builder().root("keeper", minio).bucket("backups");
    let mq = ElasticMq::builder().queue("jobs").start();
    let (pg, redis, minio, mq) = tokio::try_join!(pg, redis, minio.start(), mq)?;
    Ok(vec![
        Victim::new("pg", Server::Postgres(pg)).await?,
        Victim::new("cache", Server::Redis(redis)).await?,
        Victim::new("store", Server::Minio(minio)).await?,
        Victim::new("mq", Server::ElasticMq(mq)).await?,
    ])
}

fn item(victim: &Victim) -> String {
    let (name, addr) = (victim.name, victim.relay.addr());
    let [_, _, minio_secret, mq_secret] = SECRETS;
    match &victim.server {
        Server::Postgres(server) => {
            let url = server.url_via(addr);
            format!("name: {name}, kind: postgresql, required: true, url: \"{url}\"")
        }
        Server::Redis(server) => {
            let url = server.url_via(addr);
            format!("name: {name}, kind: redis, url: \"{url}\"")
        }
        Server::Minio(server) => {
            let url = server.url_via(addr);
            format!(
                "name: {name}, kind: minio, required: true, url: \"{url}\", \
                 access_key: keeper, secret_key: {minio_secret}, buckets: [backups]"
            )
        }
        Server::ElasticMq(server) => {
            let url = server.url_via(addr);
            format!(
                "name: {name}, kind: elasticmq, url: \"{url}\", queues: [jobs], \
                 secret_key: {mq_secret}"
            )
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults() -> Result<()> {
    let count = number("COMIND_CHAOS_FAULTS").unwrap_or(40);
    let seed = number("COMIND_CHAOS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap_or_default().as_micros() as u64
    });
    eprintln!("COMIND_CHAOS_SEED={seed} COMIND_CHAOS_FAULTS={count}");
    let mut victims = victims().await?;
    let items: Vec<String> = victims.iter().map(item).collect();
    let serve = Serve::start(USUAL, &items).await?;
    until_truth(&serve, &victims, LATER).await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    let before = Footprint::of(&serve)?;

    let mut history = Vec::new();
    let mut dice = Dice(seed);
    for _ in 0..count {
        let place = dice.below(victims.len() as u64) as usize;
        let victim = &mut victims[place];
        let fault = dice.pick(&victim.possible());
        history.push((victim.name, fault));
        victim.suffer(fault).await?;
        // A pause of random length is the subject here: faults fall into every phase of a look.
        let pause = Duration::from_millis(dice.below(PAUSE));
        let _ = events.next("a pause", pause, |_| false).await;
    }
    let told = || format!("after {history:?}");
    until_truth(&serve, &victims, TRUTH)
        .await
        .with_context(told)?;
    for victim in &mut victims {
        victim.heal().await?;
    }
    until_truth(&serve, &victims, TRUTH)
        .await
        .with_context(told)?;

    every_down_has_its_up(&serve, &events)
        .await
        .with_context(told)?;
    nothing_leaked(&serve, &victims, &before)
        .await
        .with_context(told)?;
    nothing_told(&serve, &events).await
}

/// Waits until each target's health is that of its server.
async fn until_truth(serve: &Serve, victims: &[Victim], deadline: Duration) -> Result<()> {
    let waited = wait_for("the state to be the truth", deadline, async || {
        for victim in victims {
            let target = serve.target(victim.name).await?;
            let up = target["health"] == "up";
            ensure!(
                up == victim.works() && target["health"] != "unknown",
                "{} {:?} passes={}: {target}",
                victim.name,
                victim.life,
                victim.passes
            );
        }
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

/// The transitions of each target form a chain that ends with up, and none is missing.
async fn every_down_has_its_up(serve: &Serve, events: &Events) -> Result<()> {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut seq = None;
    for seen in events.all() {
        let number = seen.data["seq"].as_u64();
        if seen.event == "transition" {
            ensure!(
                number == seq.map(|seq: u64| seq + 1),
                "a gap before {seen:?}"
            );
            let word = |key: &str| seen.data[key].as_str().unwrap_or_default().to_owned();
            let before = last.insert(word("target"), word("to"));
            let before = before.unwrap_or_else(|| "up".to_owned());
            ensure!(before == word("from"), "{before} and then {seen:?}");
        }
        seq = number;
    }
    for (target, to) in &last {
        ensure!(to == "up", "the last transition of {target} is to {to}");
    }
    let state = serve.state().await?;
    ensure!(
        state["seq"].as_u64() == seq,
        "the stream ends at {seq:?}: {state}"
    );
    Ok(())
}

/// What the program holds of the system.
#[derive(Debug)]
struct Footprint {
    descriptors: usize,
    threads: usize,
}

impl Footprint {
    fn of(serve: &Serve) -> Result<Self> {
        let proc = format!("/proc/{}", serve.pid().as_raw_nonzero());
        let count = |what: &str| {
            Ok::<_, std::io::Error>(std::fs::read_dir(format!("{proc}/{what}"))?.count())
        };
        Ok(Self {
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}

async fn nothing_leaked(serve: &Serve, victims: &[Victim], before: &Footprint) -> Result<()> {
    // One held connection a target, and a deep look for a moment.
    wait_for(
        "connections to be as few as in the beginning",
        SOON,
        async || {
            for victim in victims {
                let open = victim.relay.counts().open;
                ensure!(open <= 2, "{} has {open} connections", victim.name);
                let served = connections(victim).await?;
                ensure!(served <= 2, "{} serves {served} connections", victim.name);
            }
            let now = Footprint::of(serve)?;
            ensure!(
                now.descriptors <= before.descriptors + 4,
                "{before:?} {now:?}"
            );
            // Threads for blocking work (name lookups, scrapes) come and go.
            ensure!(now.threads <= before.threads + 4, "{before:?} {now:?}");
            Ok(())
        },
    )
    .await
}

/// How many of the program's connections the server itself counts, where it does.
async fn connections(victim: &Victim) -> Result<i64> {
    match &victim.server {
        Server::Postgres(server) => {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'comind-ops'";
            let row = server.admin().await?.query_one(sql, &[]).await?;
            Ok(row.try_get(0)?)
        }
        Server::Redis(server) => {
            let mut admin = server.admin().await?;
            let mut command = redis::cmd("CLIENT");
            let list: String = command.arg("LIST").query_async(&mut admin).await?;
            let by_tcp = list.lines().filter(|line| line.contains("addr=127.0.0.1"));
            Ok(i64::try_from(by_tcp.count())?)
        }
        Server::Minio(_) | Server::ElasticMq(_) => Ok(0),
    }
}

async fn nothing_told(serve: &Serve, events: &Events) -> Result<()> {
    for path in [
        "/",
        "/metrics",
        "/api/v1/state",
        "/api/v1/openapi.json",
        "/readyz",
    ] {
        hides(path, &serve.get(path).await?, &SECRETS)?;
    }
    hides("the event stream", &format!("{:?}", events.all()), &SECRETS)?;
    hides("the log", &serve.log()?, &SECRETS)
}
