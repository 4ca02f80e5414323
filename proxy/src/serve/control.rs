//! What is known of one client connection, and how it is told to end. The socket's side writes it
//! (`Pulse`, which may be moved between threads because upgrades demand it), the worker reads it.
//! Must not know HTTP.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Poll, Waker};

use super::head_scan::Seen;

/// Signs of life of a connection. Only its own worker writes, so nothing is contended.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Requests under way.
    busy: AtomicU32,
    /// Bytes of a head have come, and no request is under way.
    in_head: AtomicBool,
    /// Grows whenever one of the two changes: an epoch that lasts is a stay in one phase.
    epoch: AtomicU32,
    suspicions: AtomicU8,
    /// Something was read since the last head that was no part of it.
    beyond_head: AtomicBool,
    /// Something was written that has not been flushed.
    unflushed: AtomicBool,
    rests: AtomicBool,
}

const BOTH_LENGTHS: u8 = 1;
const BARE_LINE_FEED: u8 = 2;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for a request.
    Idle,
    /// Has a part of a head.
    Head,
    /// Carries requests.
    Busy,
}

impl Pulse {
    fn turn(&self) {
        self.epoch.fetch_add(1, Relaxed);
    }

    /// Whether a head is what comes next.
    pub fn awaits_head(&self) -> bool {
        self.busy.load(Relaxed) == 0
    }

    /// A head begins; true when this is its first piece.
    pub fn head_begins(&self) -> bool {
        let first = !self.in_head.swap(true, Relaxed);
        if first {
            self.suspicions.store(0, Relaxed);
            self.beyond_head.store(false, Relaxed);
            self.turn();
        }
        first
    }

    /// What was seen in the head so far.
    pub fn suspect(&self, seen: Seen) {
        let mut found = 0;
        if seen.length && seen.encoding {
            found |= BOTH_LENGTHS;
        }
        if seen.bare_line_feed {
            found |= BARE_LINE_FEED;
        }
        self.suspicions.fetch_or(found, Relaxed);
    }

    /// A request begins; gives what was suspicious: both lengths, a bare line feed.
    pub fn request_begins(&self) -> (bool, bool) {
        self.busy.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
        self.turn();
        let found = self.suspicions.swap(0, Relaxed);
        (found & BOTH_LENGTHS != 0, found & BARE_LINE_FEED != 0)
    }

    /// A request has ended, its answer included.
    pub fn request_ends(&self) {
        self.busy.fetch_sub(1, Relaxed);
        self.turn();
    }

    /// Bytes were read that belong to no head: HTTP may hold some of them.
    pub fn read_beyond_head(&self) {
        self.beyond_head.store(true, Relaxed);
    }

    /// Something is written.
    pub fn writes(&self) {
        self.unflushed.store(true, Relaxed);
    }

    /// All that was written is on its way.
    pub fn flushed(&self) {
        self.unflushed.store(false, Relaxed);
    }

    /// Lets it rest if nothing would be lost by that: whatever was read was understood, whatever
    /// was answered is on its way.
    pub fn may_rest(&self) -> bool {
        let rests = self.phase() == Phase::Idle
            && self.epoch.load(Relaxed) > 0
            && !self.beyond_head.load(Relaxed)
            && !self.unflushed.load(Relaxed);
        self.rests.store(rests, Relaxed);
        rests
    }

    /// It rests: its stream is to be kept.
    pub fn rests(&self) -> bool {
        self.rests.load(Relaxed)
    }

    /// The next request comes.
    pub fn wakes(&self) {
        self.rests.store(false, Relaxed);
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match (self.busy.load(Relaxed), self.in_head.load(Relaxed)) {
            (0, false) => Phase::Idle,
            (0, true) => Phase::Head,
            _ => Phase::Busy,
        }
    }
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    #[default]
    Serve,
    /// Keep the stream alone until the next request, if that is possible.
    Rest,
    /// Finish what is under way, then close.
    Drain,
    /// Close at once.
    Close,
}

/// The worker's handle on a connection.
#[derive(Debug, Default)]
pub struct Control {
    /// Its signs of life.
    pub pulse: Arc<Pulse>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    seen_epoch: Cell<u32>,
    stayed: Cell<u32>,
}

impl Control {
    /// Tells it what to do.
    pub fn tell(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Tells it to rest, unless it was told something that matters more.
    pub fn rest(&self) {
        if self.order.get() == Order::Serve {
            self.tell(Order::Rest);
        }
    }

    /// What it is to do; `waker` is woken when that changes.
    pub fn order(&self, waker: &Waker) -> Order {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        self.order.get()
    }

    /// Until it is told to end, politely or not.
    pub async fn told_to_end(&self) {
        std::future::poll_fn(|cx| match self.order(cx.waker()) {
            Order::Serve | Order::Rest => Poll::Pending,
            Order::Drain | Order::Close => Poll::Ready(()),
        })
        .await;
    }

    /// Takes the order to rest, which is obeyed once.
    pub fn rested(&self) {
        if self.order.get() == Order::Rest {
            self.order.set(Order::Serve);
        }
    }

    /// Called once a turn: for how many turns it has been in its phase.
    pub fn turn(&self) -> (Phase, u32) {
        let epoch = self.pulse.epoch.load(Relaxed);
        let stayed = match epoch == self.seen_epoch.replace(epoch) {
            true => self.stayed.get() + 1,
            false => 0,
        };
        self.stayed.set(stayed);
        (self.pulse.phase(), stayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_what_happens() {
        let control = Control::default();
        assert_eq!(control.turn(), (Phase::Idle, 1));
        assert!(control.pulse.head_begins() && !control.pulse.head_begins());
        assert_eq!(control.turn(), (Phase::Head, 0));
        assert_eq!(control.turn(), (Phase::Head, 1));
        control.pulse.suspect(Seen {
            length: true,
            encoding: true,
            bare_line_feed: false,
        });
        assert_eq!(control.pulse.request_begins(), (true, false));
        assert_eq!(control.turn(), (Phase::Busy, 0));
        control.pulse.request_ends();
        assert_eq!(control.turn(), (Phase::Idle, 0));
        assert_eq!(control.pulse.request_begins(), (false, false));
    }
}
