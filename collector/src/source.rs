//! One target's sources of observations: a look lane on a held connection, a deep lane on
//! fresh ones, and a watch lane for kinds that tell by themselves. Has the schedule, the
//! deadlines and the second opinions.
//!
//! Must not know kinds, verdicts or readers: it sends observations and nothing else.

pub mod attempt;
pub mod backoff;
pub mod hints;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use comind_model::observation::{Depth, Hint, Observation, Outcome};
use comind_model::target::Target;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::metrics::schedule::ScheduleMeter;
use crate::probe::{Probe, Session};
use crate::source::attempt::{Ask, Attempt};
use crate::source::backoff::Backoff;
use crate::source::hints::Hints;
use crate::source::watch::Teller;
use crate::store::Input;
use crate::traces;

/// The hint that a held connection was closed.
pub const CONNECTION_CLOSED: &str = "connection_closed";
/// The hint that a held connection fell silent.
pub const CONNECTION_SILENT: &str = "connection_silent";

/// Within this time of the start every target is looked at.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How often and how long one target is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// From look to look.
    pub interval: Duration,
    /// The deadline of one look, connecting included.
    pub timeout: Duration,
    /// From deep look to deep look.
    pub deep_interval: Duration,
    /// The deadline of one deep look, connecting included.
    pub deep_timeout: Duration,
    /// The longest that a held connection stays unasked.
    pub heartbeat: Duration,
}

/// What one source works with.
#[derive(Clone)]
pub struct Source {
    /// What is watched.
    pub target: Arc<Target>,
    /// How it is looked at.
    pub probe: Arc<dyn Probe>,
    /// How often.
    pub rhythm: Rhythm,
    /// Where in the interval its looks fall, 0 to 1, so that targets spread out.
    pub phase: f64,
    /// Gives the time.
    pub clock: Clock,
    /// Takes the observations.
    pub store: mpsc::Sender<Input>,
    /// Takes how late looks start.
    pub meter: ScheduleMeter,
    /// Where its own hints come in, and those for others go out.
    pub hints: Hints,
}

/// What the lanes tell each other.
#[derive(Default)]
struct Bell {
    ring: Notify,
    /// The target has recovered: the watch tells the whole once more.
    again: Notify,
    hint: std::sync::Mutex<Option<Hint>>,
}

impl Bell {
    fn ring(&self, hint: Option<Hint>) {
        if let Ok(mut slot) = self.hint.lock() {
            *slot = hint;
        }
        self.ring.notify_one();
    }

    fn hint(&self) -> Option<Hint> {
        self.hint.lock().ok().and_then(|mut slot| slot.take())
    }
}

impl Source {
    /// Looks until `stop`, or until the store is gone.
    pub async fn run(self, stop: CancellationToken) {
        let bell = Bell::default();
        let outside = self.hints.enter(&self.target.name);
        let lanes = async {
            tokio::join!(
                self.look_lane(&bell, outside),
                self.deep_lane(&bell),
                self.watch_lane(&bell)
            );
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = lanes => {}
            () = self.store.closed() => {}
        }
        self.hints.leave(&self.target.name);
    }

    async fn watch_lane(&self, bell: &Bell) {
        let Some(watch) = self.probe.watch() else {
            return;
        };
        let teller = Teller::new(
            self.target.clone(),
            self.clock,
            self.store.clone(),
            self.hints.clone(),
        );
        watch::run(watch, teller, &bell.again, self.rhythm.interval).await;
    }

    async fn look_lane(&self, bell: &Bell, outside: mpsc::Receiver<Hint>) {
        let mut lane = LookLane::new(self, outside);
        loop {
            let wake = lane.wait().await;
            lane.meter(&wake);
            let attempt = lane.attempt(&wake, bell).await;
            if !lane.conclude(wake, attempt, bell).await {
                return;
            }
        }
    }

    async fn deep_lane(&self, bell: &Bell) {
        if !self.probe.has_deep() {
            return;
        }
        let mut backoff = Backoff::new(Duration::from_millis(250), self.deep_retry_limit());
        let mut due = Instant::now() + self.rhythm.interval.min(FIRST_LOOK).mul_f64(self.phase);
        loop {
            tokio::select! {
                () = bell.ring.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
            let hint = bell.hint();
            let looking = attempt::deep(&*self.probe, self.rhythm.deep_timeout);
            let attempt = self.traced("deep look", looking).await;
            let good = attempt.result.is_ok();
            if !self.send(Depth::Deep, attempt, hint).await {
                return;
            }
            let wait = if good {
                backoff.reset();
                self.rhythm.deep_interval
            } else {
                backoff.next_wait()
            };
            due = Instant::now() + wait;
        }
    }

    /// A look with what it took and what came of it as a span, where traces are wanted.
    async fn traced(&self, what: &'static str, looking: impl Future<Output = Attempt>) -> Attempt {
        let span = tracing::trace_span!(
            target: traces::TARGET,
            "look",
            otel.name = what,
            target = &*self.target.name,
            kind = self.target.kind,
            reason = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let attempt = looking.instrument(span.clone()).await;
        let (status, reason) = match &attempt.result {
            Ok(_) => ("OK", "ok"),
            Err(failure) => ("ERROR", failure.reason.as_str()),
        };
        span.record("reason", reason);
        span.record("otel.status_code", status);
        attempt
    }

    /// A failed deep look is repeated sooner than its interval, but never in a storm.
    fn deep_retry_limit(&self) -> Duration {
        let sooner = self.rhythm.deep_interval / 6;
        sooner
            .max(self.rhythm.interval)
            .min(self.rhythm.deep_interval)
    }

    async fn send(&self, depth: Depth, attempt: Attempt, hint: Option<Hint>) -> bool {
        let (outcome, facts) = match attempt.result {
            Ok(seen) => {
                let attention = seen.attention;
                (Outcome::Good { attention }, seen.facts)
            }
            Err(failure) => {
                let (reason, message) = (failure.reason, failure.message);
                (Outcome::Bad { reason, message }, failure.facts)
            }
        };
        let observation = Observation {
            target: self.target.name.clone(),
            at: self.clock.now(),
            depth,
            outcome,
            latency: attempt.latency,
            looks: attempt.looks,
            hint,
            facts,
        };
        let input = Input::Observed {
            observation,
            connect: attempt.connect,
        };
        self.store.send(input).await.is_ok()
    }
}

/// Why the look lane woke.
enum Wake {
    Look { planned: Instant },
    Heartbeat,
    Retry,
    Hint(Hint),
}

struct LookLane<'a> {
    source: &'a Source,
    session: Option<Box<dyn Session>>,
    /// The fixed grid of looks; hints and retries do not move it.
    next_look: Instant,
    retry: Option<Instant>,
    asked: Instant,
    backoff: Backoff,
    failing: bool,
    /// Hints that came to nothing make later ones wait until `muted`; a waiting one is `pending`.
    false_hints: Backoff,
    muted: Instant,
    pending: Option<Hint>,
    /// Hints from outside.
    outside: mpsc::Receiver<Hint>,
}

impl<'a> LookLane<'a> {
    fn new(source: &'a Source, outside: mpsc::Receiver<Hint>) -> Self {
        let now = Instant::now();
        let rhythm = &source.rhythm;
        Self {
            source,
            session: None,
            next_look: now + rhythm.interval.mul_f64(source.phase),
            // The first look does not wait for its place in a long interval.
            retry: Some(now + rhythm.interval.min(FIRST_LOOK).mul_f64(source.phase)),
            asked: now,
            backoff: Backoff::new(Duration::from_millis(100), rhythm.interval),
            failing: false,
            false_hints: Backoff::new(Duration::from_millis(100), rhythm.interval),
            muted: now,
            pending: None,
            outside,
        }
    }

    async fn wait(&mut self) -> Wake {
        loop {
            let heartbeat = self.asked + self.source.rhythm.heartbeat;
            let planned = self.next_look;
            let (timer, otherwise) = match self.retry {
                Some(retry) => (retry.min(planned), Wake::Retry),
                None if self.session.is_some() => (heartbeat.min(planned), Wake::Heartbeat),
                None => (planned, Wake::Heartbeat),
            };
            let closed = async {
                match &mut self.session {
                    Some(session) => session.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = closed => {
                    self.session = None;
                    let hint = self.closed();
                    if let Some(wake) = self.take_hint(hint) {
                        return wake;
                    }
                }
                Some(hint) = self.outside.recv() => {
                    if let Some(wake) = self.take_hint(hint) {
                        return wake;
                    }
                }
                () = tokio::time::sleep_until(timer) => {
                    if timer == planned {
                        return Wake::Look { planned };
                    }
                    return self.pending.take().map_or(otherwise, Wake::Hint);
                }
            }
        }
    }

    /// Looks at once, or when the time of false hints is over.
    fn take_hint(&mut self, hint: Hint) -> Option<Wake> {
        if Instant::now() >= self.muted {
            return Some(Wake::Hint(hint));
        }
        self.pending = Some(hint);
        self.retry = Some(self.muted);
        None
    }

    fn closed(&self) -> Hint {
        Hint {
            what: CONNECTION_CLOSED,
            at: self.source.clock.now(),
        }
    }

    /// A peer that closes every connection after its answer must not make us ask in a storm:
    /// after a hint that came to nothing, the next one waits, ever longer up to the interval.
    fn weigh(&mut self, wake: &Wake, good: bool) {
        match wake {
            Wake::Hint(_) if good => self.muted = Instant::now() + self.false_hints.next_wait(),
            Wake::Look { .. } if good && self.pending.is_none() && self.muted <= Instant::now() => {
                self.false_hints.reset();
            }
            _ => {}
        }
        self.pending = None;
    }

    fn meter(&self, wake: &Wake) {
        if let Wake::Look { planned } = wake {
            self.source.meter.late(Instant::now() - *planned);
        }
    }

    async fn attempt(&mut self, wake: &Wake, bell: &Bell) -> Attempt {
        let ask = match wake {
            Wake::Heartbeat => Ask::Heartbeat,
            Wake::Look { .. } | Wake::Retry | Wake::Hint(_) => Ask::Look,
        };
        if let Wake::Hint(hint) = wake {
            bell.ring(Some(*hint));
        }
        self.asked = Instant::now();
        let source = self.source;
        let what = match ask {
            Ask::Heartbeat => "heartbeat",
            Ask::Look => "look",
        };
        let timeout = source.rhythm.timeout;
        let looking = attempt::look(&*source.probe, &mut self.session, ask, timeout);
        source.traced(what, looking).await
    }

    /// Reports, and plans what comes next. False once nobody listens.
    async fn conclude(&mut self, wake: Wake, attempt: Attempt, bell: &Bell) -> bool {
        let good = attempt.result.is_ok();
        let now = Instant::now();
        self.weigh(&wake, good);
        if let Wake::Look { planned } = wake {
            self.next_look = next_on_grid(planned, self.source.rhythm.interval, now);
        }
        let hint = match (&wake, attempt.lost) {
            (Wake::Hint(hint), _) => Some(*hint),
            (_, Some(at)) => Some(Hint {
                what: CONNECTION_CLOSED,
                at: self.source.clock.at(at),
            }),
            (_, None) if attempt.silent => Some(Hint {
                what: CONNECTION_SILENT,
                at: self.source.clock.at(self.asked),
            }),
            _ => None,
        };
        if good {
            self.backoff.reset();
            self.retry = None;
            if std::mem::take(&mut self.failing) {
                bell.ring(None);
                bell.again.notify_one();
            }
        } else {
            self.plan_retry(now);
        }
        // A heartbeat that was answered proves life and nothing more.
        if good && matches!(wake, Wake::Heartbeat) && attempt.heartbeat_only {
            return true;
        }
        self.source.send(Depth::Look, attempt, hint).await
    }

    /// After the first failure the second look follows at once, then ever slower.
    fn plan_retry(&mut self, now: Instant) {
        let wait = if std::mem::replace(&mut self.failing, true) {
            self.backoff.next_wait()
        } else {
            Duration::ZERO
        };
        self.retry = Some(now + wait);
    }
}

/// The next point of the grid that `planned` lies on, after `now`: a look that took too long
/// skips points instead of piling them up.
fn next_on_grid(planned: Instant, interval: Duration, now: Instant) -> Instant {
    let mut next = planned + interval;
    if next <= now {
        let behind = (now - planned).as_nanos() / interval.as_nanos().max(1);
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        next = planned + interval.saturating_mul(behind.saturating_add(1));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_look_skips_points_of_the_grid() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(next_on_grid(start, second, start), start + second);
        assert_eq!(
            next_on_grid(start, second, start + second),
            start + 2 * second
        );
        let late = start + Duration::from_millis(3500);
        assert_eq!(next_on_grid(start, second, late), start + 4 * second);
    }
}
