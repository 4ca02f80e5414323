//! What became of telling, for those who look: page, API and metrics. Must not know HTTP.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use comind_model::alert::Open;
use comind_model::timestamp::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

/// How one receiver fares. Written by its task, read by all.
#[derive(Debug)]
pub struct Meter {
    /// Its kind, host and port: nothing secret.
    pub receiver: String,
    /// Deliveries that it accepted.
    pub delivered: AtomicU64,
    /// Tries that failed.
    pub failed: AtomicU64,
    /// Messages that wait for it.
    pub waiting: AtomicU64,
    /// Messages that were given up, because too many waited.
    pub dropped: AtomicU64,
    last_success: AtomicI64,
    error: Mutex<Option<String>>,
}

impl Meter {
    /// Nothing has been told yet.
    pub fn new(receiver: String) -> Self {
        Self {
            receiver,
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            last_success: AtomicI64::new(0),
            error: Mutex::new(None),
        }
    }

    /// It accepted a delivery.
    pub fn accepted(&self, now: Timestamp) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(now.as_micros(), Ordering::Relaxed);
        let before = self.error_slot().take();
        if before.is_some() {
            tracing::info!(receiver = self.receiver, "notifications are accepted again");
        }
    }

    /// A delivery failed.
    pub fn refused(&self, error: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let before = self.error_slot().replace(error.to_owned());
        if before.is_none() {
            tracing::warn!(
                receiver = self.receiver,
                "failed to notify, and will try again: {error}"
            );
        }
    }

    /// When it last accepted a delivery.
    pub fn last_success(&self) -> Option<Timestamp> {
        match self.last_success.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Timestamp::from_micros(micros)),
        }
    }

    /// Why the last delivery failed, unless one succeeded since.
    pub fn error(&self) -> Option<String> {
        self.error_slot().clone()
    }

    fn error_slot(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open alerts, and the targets that flap.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Alerts {
    /// All that are open, told or muted.
    pub open: Vec<Open>,
    /// Targets that change too often.
    pub flapping: Vec<Arc<str>>,
    /// Whether this process is the one that tells.
    pub leads: bool,
    /// Why what is open would not survive a restart.
    pub not_kept: Option<String>,
}

/// The meters of all receivers: the notifier replaces the list, others read it.
pub type Meters = Arc<RwLock<Vec<Arc<Meter>>>>;

/// What readers hold.
#[derive(Clone, Debug)]
pub struct Telling {
    alerts: watch::Receiver<Arc<Alerts>>,
    meters: Meters,
}

impl Telling {
    /// For readers; the sender and the list of meters are the notifier's.
    pub fn new() -> (Self, watch::Sender<Arc<Alerts>>, Meters) {
        let (sender, alerts) = watch::channel(Arc::new(Alerts::default()));
        let meters = Arc::new(RwLock::new(Vec::new()));
        let telling = Self {
            alerts,
            meters: meters.clone(),
        };
        (telling, sender, meters)
    }

    /// What is open now.
    pub fn alerts(&self) -> Arc<Alerts> {
        self.alerts.borrow().clone()
    }

    /// How each receiver fares.
    pub fn receivers(&self) -> Vec<Arc<Meter>> {
        let meters = self.meters.read().unwrap_or_else(PoisonError::into_inner);
        meters.clone()
    }
}
