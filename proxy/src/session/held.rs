//! What a session carries: each request holds it, and the right by which it was let in. A right
//! that is lost ends what it carries, and leaves the rest of the session alone.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comind_model::login::Right;
use tokio_util::sync::CancellationToken;

use super::table::Session;

/// A session in use by one request, or by one connection that it became.
#[derive(Debug)]
pub struct Held {
    session: Arc<Session>,
    /// Ends with the session, or with the right.
    pub end: CancellationToken,
    slot: Option<Arc<Slot>>,
}

impl Deref for Held {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.session.live.fetch_sub(1, Relaxed);
        if let Some(slot) = &self.slot {
            slot.live.fetch_sub(1, Relaxed);
        }
    }
}

/// What is carried under one right.
#[derive(Debug)]
pub struct Slot {
    /// The right; nothing where it is enough to be known.
    pub right: Option<Arc<Right>>,
    end: CancellationToken,
    live: AtomicUsize,
    /// When it was last known to hold, in milliseconds.
    proved: AtomicU64,
}

impl Slot {
    /// It holds at this moment.
    pub fn prove(&self, now: u64) {
        self.proved.fetch_max(now, Relaxed);
    }

    /// When it was last known to hold.
    pub fn proved(&self) -> u64 {
        self.proved.load(Relaxed)
    }
}

/// All of a session.
#[derive(Debug, Default)]
pub struct Slots(Mutex<Vec<Arc<Slot>>>);

impl Slots {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is carried.
    pub(super) fn any(&self) -> bool {
        let all = self.all();
        all.iter().any(|slot| slot.live.load(Relaxed) > 0)
    }
}

impl Session {
    /// A request holds it, counted for as long as it lasts.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.held(self.end.clone(), None)
    }

    fn held(self: &Arc<Self>, end: CancellationToken, slot: Option<Arc<Slot>>) -> Held {
        self.live.fetch_add(1, Relaxed);
        Held {
            session: self.clone(),
            end,
            slot,
        }
    }

    /// The same, by a right that holds now and may be lost.
    pub fn hold_by(self: &Arc<Self>, right: Option<&Arc<Right>>, now: u64) -> Held {
        let mut all = self.slots.all();
        let known = all.iter().find(|slot| slot.right.as_ref() == right);
        let slot = match known {
            Some(known) => known.clone(),
            None => {
                let slot = Arc::new(Slot {
                    right: right.cloned(),
                    end: self.end.child_token(),
                    live: AtomicUsize::new(0),
                    proved: AtomicU64::new(now),
                });
                all.push(slot.clone());
                slot
            }
        };
        slot.prove(now);
        slot.live.fetch_add(1, Relaxed);
        self.held(slot.end.clone(), Some(slot))
    }

    /// What is carried now; what is carried no more is forgotten.
    pub fn carries(&self) -> Vec<Arc<Slot>> {
        let mut all = self.slots.all();
        all.retain(|slot| slot.live.load(Relaxed) > 0);
        all.clone()
    }

    /// The right is lost, and what it carries ends.
    pub fn lose(&self, slot: &Arc<Slot>) {
        self.slots.all().retain(|known| !Arc::ptr_eq(known, slot));
        slot.end.cancel();
    }
}
