//! Brings what the proxy is told into force, while requests go on: routes, certificates, limits, logins,
//! where the access log goes, and what the collector sees. Must not open listeners or start threads.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use comind_model::health::Health;
use comind_model::ingress::{Ingress, Limits, LogForm, Route};
use comind_model::login::{Logins, Why};
use comind_model::snapshot::Snapshot;

use super::Proxy;
use crate::endpoint::Weighted;
use crate::login::gate::{Common, Gate};
use crate::login::told::Names;
use crate::route::table::Table;
use crate::serve::clients::Rate;
use crate::serve::worker::{Current, Terms};
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Exported;
use crate::tls::authority::Authority;
use crate::tls::certificates;
use crate::tunnel::resolve;
use crate::tunnel::watch::Wanted;

impl Proxy {
    /// Brings other routes, certificates and limits into force. What is under way goes on.
    /// Listeners stay as they are: a change of those takes a restart, and is warned about.
    ///
    /// # Errors
    /// When TLS could not be spoken as told: then all stays as it was.
    pub fn tell(&mut self, told: Ingress) -> Result<(), String> {
        let own = match (&told.tls.own_authority, &self.own) {
            (None, _) => None,
            (Some(_), Some(own)) => Some(own.clone()),
            (Some(folder), None) => {
                let opened = Authority::open(folder);
                Some(Arc::new(opened.map_err(|error| {
                    format!("no local authority in {}: {error}", folder.display())
                })?))
            }
        };
        let mut tls = told.tls.clone();
        let mut routes = told.routes.clone();
        if let Some(cluster) = &self.cluster.ingress {
            // The config's own go first: of two that are equal the first counts.
            tls.certificates
                .extend(cluster.certificates.iter().cloned());
            routes.extend(cluster.routes.iter().cloned().map(|route| Route {
                // Without a listener for it, a redirect to HTTPS leads nowhere.
                https_only: route.https_only && !self.told.listen_tls.is_empty(),
                ..route
            }));
        }
        let gate = self.gate(told.logins.as_ref())?;
        let before = self.shared.current.load().terms.gate.clone();
        let gateway = self.cluster.gateway.clone().unwrap_or_default();
        let listeners = gateway.listeners.as_slice();
        let (tickets, known) = (&self.tickets, &mut self.known);
        let made = certificates::make(&tls, listeners, own.clone(), tickets, known)?;
        let wanted = Wanted {
            cluster: told.tunnels.clone(),
            services: resolve::wanted(&routes),
        };
        let by_tunnel = wanted.cluster.is_some();
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
        let routes: Vec<_> = routes
            .into_iter()
            .map(|route| resolve::resolved(route, &self.pods, by_tunnel))
            .collect();
        let (table, problems) = self.compiler.compile_all(&routes, listeners);
        for problem in problems.iter().chain(&made.problems) {
            tracing::error!("{problem}");
        }
        if fixed(&told) != fixed(&self.told) {
            tracing::warn!(
                "addresses, `workers`, `drain`, `kubernetes` or the bounds of upstream connections of \
                 the proxy have changed: that takes a restart"
            );
        }
        self.own = own;
        self.shared
            .meter
            .certificate_expiry
            .store(made.expiry, Relaxed);
        self.publish(&table);
        let demands = routes.iter().filter_map(|route| route.demand.as_ref());
        let tells = demands.map(|demand| &demand.tell);
        let terms = Terms {
            trusted: told.trusted.clone(),
            proxy_protocol: told.proxy_protocol,
            limits: told.limits,
            patience: told.patience,
            rate: self.rate(&told.limits),
            tls_port: self.told.listen_tls.first().map(SocketAddr::port),
            log: self.log(told.access_log.form),
            sample: told.access_log.sample,
            gate: gate.clone(),
            names: Names::of(tells),
        };
        self.told = Ingress {
            listen: self.told.listen.clone(),
            listen_tls: self.told.listen_tls.clone(),
            ..told
        };
        self.shared.swap(Current {
            table,
            terms,
            tls: made.config,
            tls_at: made.doors,
        });
        self.end_others(gate.as_deref(), before.as_deref());
        Ok(())
    }

    fn gate(&mut self, told: Option<&Logins>) -> Result<Option<Arc<Gate>>, String> {
        let Some(told) = told else {
            return Ok(None);
        };
        let common = match &self.common {
            Some(common) => common.clone(),
            None => {
                let opened = Common::open(told, self.shared.clock).map_err(|error| {
                    let folder = told.folder.display();
                    format!("no audit log of sessions in {folder}: {error}")
                })?;
                let opened = Arc::new(opened);
                self.guards.store(Some(opened.sessions.clone()));
                self.common = Some(opened.clone());
                opened
            }
        };
        let current = self.shared.current.load();
        let before = current.terms.gate.as_deref();
        if let Some(before) = before.filter(|before| before.told == *told) {
            return Ok(Some(Arc::new(before.clone())));
        }
        Gate::new(told, common, before).map(|gate| Some(Arc::new(gate)))
    }

    /// Sessions of logins that are gone, or are others, end.
    fn end_others(&self, gate: Option<&Gate>, before: Option<&Gate>) {
        match (gate, before) {
            (Some(gate), Some(before)) => gate.end_others(before),
            (None, Some(before)) => {
                let sessions = &before.common.sessions;
                sessions.end_all(|_| true, Why::Changed, None);
            }
            (_, None) => {}
        }
    }

    /// The one in force goes on where it is the same, so that a change elsewhere, such as that of a
    /// pod, gives nobody a new budget.
    fn rate(&self, limits: &Limits) -> Option<Arc<Rate>> {
        let terms = &self.shared.current.load().terms;
        let of = |limits: &Limits| (limits.requests_per_second, limits.burst);
        match &terms.rate {
            Some(rate) if of(&terms.limits) == of(limits) => Some(rate.clone()),
            _ => Rate::new(limits).map(Arc::new),
        }
    }

    fn log(&mut self, form: LogForm) -> Option<Log> {
        if form == LogForm::Off {
            self.log = None;
        } else if self.log.as_ref().is_none_or(|(known, _)| *known != form) {
            match Log::start(form, io::stdout()) {
                Ok(log) => self.log = Some((form, log)),
                Err(error) => tracing::error!("there is no access log: {error}"),
            }
        }
        self.log.as_ref().map(|(_, log)| log.clone())
    }

    fn publish(&mut self, table: &Table) {
        let mut endpoints = Vec::new();
        for route in &table.all {
            for plan in route.doing.plans() {
                let of = |one: &Weighted| (route.meter.name.clone(), one.endpoint.clone());
                endpoints.extend(plan.endpoints.iter().map(of));
            }
        }
        // The matches of a Gateway's rule share a name and its endpoints: each is told once.
        let mut told = HashSet::new();
        endpoints.retain(|(name, endpoint)| told.insert((name.clone(), endpoint.id)));
        self.watched = endpoints
            .iter()
            .map(|(_, endpoint)| endpoint.clone())
            .collect();
        self.watched.retain(|endpoint| endpoint.target.is_some());
        let mut routes = self.compiler.meters();
        routes.push(self.shared.stray.clone());
        self.exported
            .store(Arc::new(Exported { routes, endpoints }));
    }

    /// What the collector sees decides where requests go by choice.
    pub fn see(&self, snapshot: &Snapshot) {
        for endpoint in &self.watched {
            let name = endpoint.target.as_deref().unwrap_or_default();
            let state = snapshot
                .targets
                .iter()
                .find(|state| &*state.target().name == name);
            // Of what is unknown nothing bad is assumed.
            endpoint.is_down(state.is_some_and(|state| state.standing().health == Health::Down));
        }
    }

    /// What the config says now.
    pub(super) fn take(&mut self, next: Option<&Ingress>) {
        let Some(next) = next else {
            return tracing::warn!(
                "the section `proxy` is gone: the proxy goes on as before until a restart"
            );
        };
        if *next != self.told {
            self.try_to_tell(next.clone());
        }
    }

    /// The same again, with what the cluster has shown since.
    pub(super) fn tell_again(&mut self) {
        self.try_to_tell(self.told.clone());
    }

    fn try_to_tell(&mut self, told: Ingress) {
        if let Err(error) = self.tell(told) {
            tracing::error!("the proxy goes on as before: {error}");
        }
    }
}

/// What is taken at the start only.
fn fixed(told: &Ingress) -> impl PartialEq + '_ {
    let limits = &told.limits;
    (
        (&told.listen, &told.listen_tls, &told.kubernetes),
        (told.workers, told.drain),
        (limits.upstream_connections, limits.pending),
    )
}
