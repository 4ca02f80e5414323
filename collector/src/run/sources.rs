//! Owns the running sources: starts, keeps and stops them as the config says.
//! Must not know why the config changed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::target::{Identity, TargetConfig};
use crate::metrics::schedule::ScheduleMeter;
use crate::source::hints::Hints;
use crate::source::{Rhythm, Source};
use crate::store::{Input, Watched};

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
    running: HashMap<Arc<str>, Running>,
}

impl Sources {
    /// None yet. `hints` is where each of them can be asked to look at once.
    pub fn new(
        clock: Clock,
        store: mpsc::Sender<Input>,
        meter: ScheduleMeter,
        hints: Hints,
    ) -> Self {
        Self {
            clock,
            store,
            meter,
            hints,
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
        let task = tokio::spawn(source.run(stop.clone()));
        let running = Running {
            identity: config.identity,
            stop,
            task,
        };
        self.running.insert(name, running);
    }
}
