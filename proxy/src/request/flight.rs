//! One request from its head to the last byte of its answer: what is counted and logged of it,
//! whichever way it ends. Dropped when it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, Uri, Version};

use super::body::Broken;
use crate::serve::control::Pulse;
use crate::serve::worker::Worker;
use crate::session::held::Held;
use crate::telemetry::log::Line;
use crate::telemetry::meter::RouteMeter;

/// What the body of a request tells of itself while it is on its way.
#[derive(Clone, Debug, Default)]
pub struct Told(Option<Rc<Telling>>);

#[derive(Debug, Default)]
struct Telling {
    received: Cell<u64>,
    broke: Cell<Option<&'static str>>,
}

impl Told {
    /// For a request that has one.
    pub fn of_body() -> Self {
        Self(Some(Rc::default()))
    }

    pub(super) fn received(&self, bytes: u64) {
        if let Some(telling) = &self.0 {
            telling.received.set(telling.received.get() + bytes);
        }
    }

    pub(super) fn broke(&self, broken: &Broken) {
        let Some(telling) = &self.0 else { return };
        telling.broke.set(Some(match broken {
            Broken::Source(_) => "client_aborted",
            Broken::Idle(_) => "client_slow",
            Broken::TooLarge(_) => "body_too_large",
            Broken::Ended => "session_ended",
        }));
    }

    /// Bytes so far.
    pub fn so_far(&self) -> u64 {
        self.0.as_ref().map_or(0, |telling| telling.received.get())
    }

    /// The name of what the client did wrong.
    pub fn fault(&self) -> Option<&'static str> {
        self.0.as_ref()?.broke.get()
    }
}

/// What is needed to log a request; kept only where it may be logged.
#[derive(Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its version.
    pub version: Version,
    /// The host that it is for.
    pub host: Option<http::HeaderValue>,
    /// Who says that it was sent by.
    pub agent: Option<http::HeaderValue>,
    /// The trace as the client told it.
    pub parent: Option<http::HeaderValue>,
}

/// A request under way.
#[derive(Debug)]
pub struct Flight {
    /// Whose.
    pub worker: Rc<Worker>,
    /// Who asks, where that is known.
    pub session: Option<Arc<Held>>,
    /// Its connection's signs of life.
    pub pulse: Arc<Pulse>,
    /// Its client.
    pub client: std::net::IpAddr,
    /// Where it is counted.
    pub meter: Arc<RouteMeter>,
    /// When its head was read.
    pub began: Instant,
    /// What it was answered with; 499 while it was not.
    pub status: u16,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// The answer ended as it should.
    pub whole: bool,
    /// What went wrong, by its name.
    pub fault: Option<&'static str>,
    /// Where the answer came from.
    pub endpoint: Option<Arc<crate::endpoint::Endpoint>>,
    /// About its body.
    pub told: Told,
    /// Its trace, as the upstream was told.
    pub trace: Option<http::HeaderValue>,
    /// For the log.
    pub asked: Option<Asked>,
}

impl Flight {
    pub(super) fn broke(&mut self, broken: &Broken) {
        self.fault = Some(match broken {
            Broken::Source(_) => "upstream_aborted",
            Broken::Idle(_) => "upstream_silent",
            Broken::TooLarge(_) => "too_large",
            Broken::Ended => "session_ended",
        });
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let received = self.told.so_far();
        let fault = self.fault.or_else(|| self.told.fault());
        let fault = fault.or((!self.whole).then_some("client_aborted"));
        self.meter.ended(self.status, took, received, self.sent);
        if let Some(session) = &self.session {
            session.carried(received, self.sent);
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.ends();
        }
        self.pulse.request_ends();
        if let Some(asked) = self.asked.take() {
            self.worker.tell(Line {
                asked,
                trace: self.trace.take(),
                client: self.client,
                route: self.meter.name.clone(),
                status: self.status,
                took,
                received,
                sent: self.sent,
                fault,
                endpoint: self.endpoint.clone(),
            });
        }
    }
}
