//! The watch lane: runs a target's watch, tells the store what it sees, and opens it again when
//! it ends. A watch that brings no sign of life in time is ended here.
//!
//! Must not know kinds: what is watched and how is the watch's own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use comind_model::fact::Facts;
use comind_model::observation::{Attention, Depth, Hint, Observation, Outcome};
use comind_model::reason::Reason;
use comind_model::target::Target;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::probe::Seen;
use crate::probe::failure::Failure;
use crate::source::backoff::Backoff;
use crate::source::hints::Hints;
use crate::store::Input;

/// The hint that a watch told of a change.
pub const WATCH: &str = "watch";
/// The hint that a watch broke off.
pub const WATCH_BROKEN: &str = "watch_broken";

/// Something that tells by itself what happens, such as a watch of the Kubernetes API.
pub trait Watch: Send {
    /// Sees the whole once ([`Teller::begin`], [`Teller::part`] for each, [`Teller::finish`]),
    /// then every change, until it cannot go on. Calls [`Teller::alive`] at every sign of
    /// life. May be called again after it ended; must be safe to drop at any moment.
    fn run<'a>(&'a mut self, teller: &'a mut Teller) -> BoxFuture<'a, Failure>;

    /// The longest time without a sign of life that is still normal.
    fn patience(&self) -> Duration;
}

/// How a watch tells the store what it sees.
pub struct Teller {
    target: Arc<Target>,
    clock: Clock,
    store: mpsc::Sender<Input>,
    hints: Hints,
    /// The parts that the store knows of.
    parts: HashSet<Arc<str>>,
    /// Those of them that the whole, which is just being told, does not hold so far.
    missing: Option<HashSet<Arc<str>>>,
    signs: watch::Sender<Instant>,
}

impl Teller {
    /// For the watch of `target`.
    pub fn new(
        target: Arc<Target>,
        clock: Clock,
        store: mpsc::Sender<Input>,
        hints: Hints,
    ) -> Self {
        Self {
            target,
            clock,
            store,
            hints,
            parts: HashSet::new(),
            missing: None,
            signs: watch::Sender::new(Instant::now()),
        }
    }

    /// The target that is watched.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The time, for facts that are made of it.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// From now until [`Teller::finish`] the whole is told.
    pub fn begin(&mut self) {
        self.sign();
        self.missing = Some(self.parts.clone());
    }

    /// A part is as `outcome` says. `facts` replace those told before.
    pub async fn part(&mut self, part: Target, outcome: Outcome, facts: Facts, hint: Option<Hint>) {
        self.sign();
        if let Some(missing) = &mut self.missing {
            missing.remove(&part.name);
        }
        self.parts.insert(part.name.clone());
        let target = Arc::new(part);
        let observation = self.observation(target.name.clone(), outcome, facts, hint);
        self.tell(Input::Part {
            target,
            observation,
        })
        .await;
    }

    /// A part is gone for good.
    pub async fn gone(&mut self, part: &str) {
        self.sign();
        if let Some(part) = self.parts.take(part) {
            self.forget(vec![part]).await;
        }
    }

    /// The whole is told: parts that were not in it are gone.
    pub async fn finish(&mut self) {
        self.sign();
        let missing = self.missing.take().unwrap_or_default();
        if !missing.is_empty() {
            self.parts.retain(|part| !missing.contains(part));
            self.forget(missing.into_iter().collect()).await;
        }
    }

    /// The watch lives, and the target as a whole is as `seen` says.
    pub async fn alive(&mut self, seen: Seen) {
        self.sign();
        let attention: Vec<Attention> = seen.attention;
        self.own(Outcome::Good { attention }, seen.facts).await;
    }

    /// Asks another target's source to look at once. Whether there is one.
    pub fn hint(&self, target: &str, what: &'static str) -> bool {
        let at = self.clock.now();
        self.hints.ring(target, Hint { what, at })
    }

    /// A hint of this moment.
    pub fn now(&self, what: &'static str) -> Hint {
        Hint {
            what,
            at: self.clock.now(),
        }
    }

    async fn forget(&self, parts: Vec<Arc<str>>) {
        let parent = self.target.name.clone();
        self.tell(Input::Gone { parent, parts }).await;
    }

    async fn failed(&self, failure: Failure) {
        let (reason, message) = (failure.reason, failure.message);
        self.own(Outcome::Bad { reason, message }, failure.facts)
            .await;
    }

    async fn own(&self, outcome: Outcome, facts: Facts) {
        let observation = self.observation(self.target.name.clone(), outcome, facts, None);
        self.tell(Input::Observed {
            observation,
            connect: None,
        })
        .await;
    }

    fn observation(
        &self,
        target: Arc<str>,
        outcome: Outcome,
        facts: Facts,
        hint: Option<Hint>,
    ) -> Observation {
        Observation {
            target,
            at: self.clock.now(),
            depth: Depth::Watch,
            outcome,
            latency: Duration::ZERO,
            looks: 1,
            hint,
            facts,
        }
    }

    async fn tell(&self, input: Input) {
        // The store is gone only when the program ends, and then so is this.
        let _ = self.store.send(input).await;
    }

    fn sign(&mut self) {
        self.signs.send_replace(Instant::now());
    }
}

/// Runs `watch` for ever. `again` asks for the whole once more: the target was out, and what
/// the store knew of its parts is forgotten.
pub async fn run(mut watch: Box<dyn Watch>, mut teller: Teller, again: &Notify, most: Duration) {
    let mut backoff = Backoff::new(Duration::from_millis(100), most);
    loop {
        teller.sign();
        let started = Instant::now();
        let failure = tokio::select! {
            failure = until_silent(&mut *watch, &mut teller) => Some(failure),
            () = again.notified() => None,
        };
        if let Some(failure) = failure {
            teller.failed(failure).await;
        }
        if started.elapsed() > most {
            backoff.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_wait()) => {}
            () = again.notified() => backoff.reset(),
        }
    }
}

/// The watch until it ends, or until it was silent for longer than its patience.
async fn until_silent(watch: &mut dyn Watch, teller: &mut Teller) -> Failure {
    let patience = watch.patience();
    let signs = teller.signs.subscribe();
    let mut running = watch.run(teller);
    loop {
        let last = *signs.borrow();
        tokio::select! {
            failure = &mut running => return failure,
            () = tokio::time::sleep_until(last + patience) => {
                if *signs.borrow() == last {
                    let seconds = patience.as_secs_f64();
                    let message = format!("the watch brought no sign of life for {seconds:.1} s");
                    return Failure::new(Reason::WatchStale, message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
