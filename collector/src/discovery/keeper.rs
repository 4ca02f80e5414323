//! Owns discovery while the program runs: starts and stops the tasks as the config says, and
//! turns what they find into targets. Must not know how targets are watched.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::finder::{Finder, Found};
use super::judge::{Judge, Terms};
use super::meter::DiscoveryMeter;
use super::tell::{Teller, Verdicts};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::discovery::Kubernetes;
use crate::config::probe_policy::ProbePolicy;
use crate::config::target::TargetConfig;
use crate::leader::Leads;
use crate::store::Readers;

struct Running {
    section: Kubernetes,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

/// The owner.
pub struct Keeper {
    readers: Readers,
    clock: Clock,
    leads: Leads,
    meter: DiscoveryMeter,
    found: watch::Receiver<Arc<Found>>,
    find: watch::Sender<Arc<Found>>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    judge: Option<Judge>,
    running: Option<Running>,
}

impl Keeper {
    /// Nothing is looked for yet.
    pub fn new(readers: Readers, clock: Clock, leads: Leads, meter: DiscoveryMeter) -> Self {
        let (find, found) = watch::channel(Arc::default());
        Self {
            readers,
            clock,
            leads,
            meter,
            found,
            find,
            verdicts: watch::channel(Arc::default()).0,
            judge: None,
            running: None,
        }
    }

    /// Brings a config into force.
    pub async fn take(&mut self, config: &Config) {
        let same =
            self.running.as_ref().map(|running| &running.section) == config.discovery.as_ref();
        if !same {
            self.end().await;
            if config.discovery.is_none() {
                self.find.send_replace(Arc::default());
            }
        }
        self.judge = config.discovery.as_ref().map(|section| {
            let taken = config
                .targets
                .iter()
                .map(|made| made.target.name.to_string());
            Judge::new(Terms {
                defaults: config.defaults.clone(),
                taken: taken.collect(),
                allow: ProbePolicy {
                    allow: section.allow.clone(),
                },
                most: section.max_targets,
            })
        });
        if let Some(section) = config.discovery.as_ref().filter(|_| !same) {
            self.start(section.clone());
        }
    }

    fn start(&mut self, section: Kubernetes) {
        let access = match section.access() {
            Ok(access) => access,
            Err(problem) => return tracing::error!("discovery cannot begin: {problem}"),
        };
        let stop = CancellationToken::new();
        let finder = Finder::new(
            section.clone(),
            access.clone(),
            self.meter.clone(),
            self.find.clone(),
        );
        let teller = Teller {
            access,
            verdicts: self.verdicts.subscribe(),
            readers: self.readers.clone(),
            clock: self.clock,
            leads: self.leads.clone(),
            meter: self.meter.clone(),
        };
        self.running = Some(Running {
            section,
            tasks: [
                tokio::spawn(finder.run(stop.clone())),
                tokio::spawn(teller.run(stop.clone())),
            ],
            stop,
        });
    }

    /// Returns when there may be other targets than [`Self::targets`] last said.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The targets that the cluster asks for.
    pub fn targets(&mut self) -> Vec<TargetConfig> {
        let found = self.found.borrow_and_update().clone();
        let Some(judge) = &mut self.judge else {
            return Vec::new();
        };
        let judgement = judge.judge(&found);
        self.meter.judged(judgement.verdicts.iter());
        self.verdicts.send_replace(Arc::new(judgement.verdicts));
        judgement.targets
    }

    /// Stops the tasks.
    pub async fn end(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.stop.cancel();
        for task in running.tasks {
            if let Err(error) = task.await {
                tracing::error!("a task of discovery had ended badly: {error}");
            }
        }
        self.meter.reset();
    }
}
