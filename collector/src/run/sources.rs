//! Owns the running sources: starts, keeps and stops them as the config says.
//! Must not know why the config changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::target::{Identity, TargetConfig};
use crate::metrics::schedule::ScheduleMeter;
use crate::source::hints::Hints;
use crate::source::{Rhythm, Source};
use crate::store::{Input, Watched};
use crate::vitals::Vitals;

/// From one that ended badly to the next.
const AGAIN: Duration = Duration::from_secs(1);

struct Running {
    identity: Identity,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The running sources, by name of target.
pub struct Sources {
    clock: Clock,
    store: mpsc::Sender<Input>,
    meter: ScheduleMeter,
    hints: Hints,
    vitals: Vitals,
    running: HashMap<Arc<str>, Running>,
}

impl Sources {
    /// None yet. `hints` is where each of them can be asked to look at once.
    pub fn new(
        clock: Clock,
        store: mpsc::Sender<Input>,
        meter: ScheduleMeter,
        hints: Hints,
        vitals: Vitals,
    ) -> Self {
        Self {
            clock,
            store,
            meter,
            hints,
            vitals,
            running: HashMap::new(),
        }
    }

    /// From now on these are watched. What did not change goes on untouched.
    pub async fn watch(&mut self, targets: Vec<TargetConfig>) {
        let kept: Vec<bool> = targets.iter().map(|config| self.runs(config)).collect();
        let stay: Vec<_> = targets
            .iter()
            .zip(&kept)
            .filter(|(_, kept)| **kept)
            .collect();
        let stay: std::collections::HashSet<_> = stay
            .iter()
            .map(|(config, _)| config.target.name.clone())
            .collect();
        let leaving: Vec<_> = self
            .running
            .keys()
            .filter(|name| !stay.contains(*name))
            .cloned()
            .collect();
        for name in leaving {
            self.stop(&name).await;
        }
        // After the old sources have ended and before the new ones begin: no observation
        // reaches the store under the wrong rules.
        let list = targets.iter().zip(&kept).map(|(config, keep)| Watched {
            target: config.target.clone(),
            keep: *keep,
        });
        if self.store.send(Input::Watch(list.collect())).await.is_err() {
            return;
        }
        let count = targets.len().max(1) as f64;
        for (place, (config, kept)) in targets.into_iter().zip(kept).enumerate() {
            if !kept {
                self.start(config, place as f64 / count);
            }
        }
    }

    /// Stops all.
    pub async fn end(&mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        let names: Vec<_> = self.running.keys().cloned().collect();
        for name in names {
            self.stop(&name).await;
        }
    }

    fn runs(&self, config: &TargetConfig) -> bool {
        let running = self.running.get(&config.target.name);
        running.is_some_and(|running| {
            running.identity == config.identity && !running.task.is_finished()
        })
    }

    async fn stop(&mut self, name: &str) {
        if let Some(running) = self.running.remove(name) {
            running.stop.cancel();
            if let Err(error) = running.task.await {
                tracing::error!(target = name, "its source had ended badly: {error}");
            }
        }
    }

    fn start(&mut self, config: TargetConfig, phase: f64) {
        let stop = CancellationToken::new();
        let name = config.target.name.clone();
        let source = Source {
            target: config.target,
            probe: config.probe,
            rhythm: Rhythm {
                interval: config.interval,
                timeout: config.timeout,
                deep_interval: config.deep_interval,
                deep_timeout: config.deep_timeout,
                heartbeat: config.heartbeat,
            },
            phase,
            clock: self.clock,
            store: self.store.clone(),
            meter: self.meter.clone(),
            hints: self.hints.clone(),
        };
        let task = tokio::spawn(keep(source, self.vitals.clone(), stop.clone()));
        let running = Running {
            identity: config.identity,
            stop,
            task,
        };
        self.running.insert(name, running);
    }
}

/// Runs a source until `stop`. A probe that panics takes only its own looks with it: they are
/// started again, and that is counted.
async fn keep(source: Source, vitals: Vitals, stop: CancellationToken) {
    loop {
        let mut running = JoinSet::new();
        running.spawn(source.clone().run(stop.clone()));
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                vitals.restarted("source");
                let target = &*source.target.name;
                tracing::error!(
                    target,
                    "its source ended badly and is started again: {error}"
                );
            }
            _ => return,
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::config::node::Node;
    use crate::config::sections::Defaults;
    use crate::config::target;
    use crate::probe::failure::Failure;
    use crate::probe::{Probe, Session};

    /// A probe with a defect that shows in its first two looks.
    struct Defective(AtomicU32);

    impl Probe for Defective {
        fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
            let asked = self.0.fetch_add(1, Ordering::Relaxed);
            assert!(asked >= 2, "a defect, on purpose");
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_panics_is_started_again_and_counted() {
        let keys = [("name", "a"), ("kind", "tcp"), ("url", "tcp://127.0.0.1:9")];
        let mut config = target::single(&Node::from_pairs(&keys), &Defaults::default()).unwrap();
        let probe = Arc::new(Defective(AtomicU32::new(0)));
        config.probe = probe.clone();
        let (inbox, mut heard) = mpsc::channel(16);
        let vitals = Vitals::default();
        let mut sources = Sources::new(
            Clock::system(),
            inbox,
            ScheduleMeter::default(),
            Hints::default(),
            vitals.clone(),
        );
        sources.watch(vec![config]).await;
        // The third try hangs, and its deadline makes it a failed look like any other.
        let looked = async {
            while let Some(input) = heard.recv().await {
                if matches!(input, Input::Observed { .. }) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looked)
            .await
            .unwrap();
        assert!(probe.0.load(Ordering::Relaxed) >= 3);
        let all = vitals.all(tokio::time::Instant::now());
        assert_eq!((all[0].task, all[0].restarts), ("source", 2));
        sources.end().await;
    }
}
