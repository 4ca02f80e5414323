//! What the config decides for the parts that follow it while it runs: one writer (the reloader),
//! many readers. Must not know files or what the parts do with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comind_model::ingress::Ingress;
use tokio::sync::watch;

use crate::access::gate::Gate;
use crate::config::Config;
use crate::config::maintenance::Maintenance;
use crate::config::probe_policy::ProbePolicy;
use crate::history::Terms;
use crate::notify::Wishes;

/// Where the parts read.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What `/probe` may look at.
    pub policy: watch::Receiver<Arc<ProbePolicy>>,
    /// Whether metrics bear the names of other exporters too.
    pub compat: watch::Receiver<bool>,
    /// Who is told.
    pub wishes: watch::Receiver<Arc<Wishes>>,
    /// How much history is kept, and what does not count.
    pub terms: watch::Receiver<Arc<Terms>>,
    /// Who is let in.
    pub gate: watch::Receiver<Arc<Gate>>,
    /// What the ingress proxy is told.
    pub proxy: watch::Receiver<Option<Arc<Ingress>>>,
}

/// Writes it.
#[derive(Clone, Debug)]
pub struct Decider {
    planned: Arc<Mutex<Planned>>,
    policy: watch::Sender<Arc<ProbePolicy>>,
    compat: watch::Sender<bool>,
    wishes: watch::Sender<Arc<Wishes>>,
    terms: watch::Sender<Arc<Terms>>,
    gate: watch::Sender<Arc<Gate>>,
    proxy: watch::Sender<Option<Arc<Ingress>>>,
}

/// Maintenance by the config, and that which somebody began.
#[derive(Debug)]
struct Planned {
    of_config: Vec<Maintenance>,
    begun: Arc<[Maintenance]>,
}

impl Planned {
    fn all(&self) -> Arc<[Maintenance]> {
        self.of_config.iter().chain(&*self.begun).cloned().collect()
    }
}

impl Decider {
    /// Begins with this config, and with maintenance that was `begun` before.
    ///
    /// # Errors
    /// When the system gives no randomness for a gate.
    pub fn new(config: &Config, begun: Arc<[Maintenance]>) -> Result<(Self, Decided), String> {
        let planned = Planned {
            of_config: config.maintenance.clone(),
            begun,
        };
        let all = planned.all();
        let (policy, policy_reader) = watch::channel(Arc::new(config.probe.clone()));
        let (compat, compat_reader) = watch::channel(config.compat_metrics);
        let (wishes, wishes_reader) = watch::channel(Arc::new(wishes(config, all.clone())));
        let (terms, terms_reader) = watch::channel(Arc::new(terms(config, all)));
        let gate = Gate::new(config.access.clone())?;
        let (gate, gate_reader) = watch::channel(Arc::new(gate));
        let (proxy, proxy_reader) = watch::channel(config.proxy.clone());
        let decided = Decided {
            policy: policy_reader,
            compat: compat_reader,
            wishes: wishes_reader,
            terms: terms_reader,
            gate: gate_reader,
            proxy: proxy_reader,
        };
        let decider = Self {
            planned: Arc::new(Mutex::new(planned)),
            policy,
            compat,
            wishes,
            terms,
            gate,
            proxy,
        };
        Ok((decider, decided))
    }

    /// Brings another config into force. A new gate forgets who was let in: whoever has lost a
    /// password is out at once.
    pub fn decide(&self, config: &Config) {
        let mut planned = self.planned();
        planned.of_config.clone_from(&config.maintenance);
        let all = planned.all();
        self.policy.send_replace(Arc::new(config.probe.clone()));
        self.compat.send_replace(config.compat_metrics);
        self.terms
            .send_replace(Arc::new(terms(config, all.clone())));
        self.proxy.send_replace(config.proxy.clone());
        match Gate::new(config.access.clone()) {
            Ok(gate) => drop(self.gate.send_replace(Arc::new(gate))),
            Err(error) => tracing::error!("the gate before stays in force: {error}"),
        }
        self.wishes.send_replace(Arc::new(wishes(config, all)));
    }

    fn planned(&self) -> MutexGuard<'_, Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What somebody began is this from now on: in force when it returns.
    pub fn maintain(&self, begun: Arc<[Maintenance]>) {
        let mut planned = self.planned();
        planned.begun = begun;
        let all = planned.all();
        self.terms
            .send_modify(|terms| Arc::make_mut(terms).maintenance = all.clone());
        self.wishes
            .send_modify(|wishes| Arc::make_mut(wishes).maintenance = all);
    }
}

fn wishes(config: &Config, maintenance: Arc<[Maintenance]>) -> Wishes {
    Wishes {
        notify: config.notify.clone(),
        maintenance,
    }
}

fn terms(config: &Config, maintenance: Arc<[Maintenance]>) -> Terms {
    Terms {
        limits: config.history,
        maintenance,
    }
}
