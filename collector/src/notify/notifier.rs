//! Decides who is told what, whenever something happened: the one owner of the book of alerts
//! and of the tasks that tell. Must not know how telling is done, nor what is wrong.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use comind_model::alert::{Alert, Book, Notice, Open};
use comind_model::event::Event;
use comind_model::health::Health;
use comind_model::observation::Hint;
use comind_model::snapshot::Snapshot;
use comind_model::target::Target;
use comind_model::timestamp::Timestamp;
use serde_json::json;
use tokio::sync::{Notify as Bell, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::maintenance;
use crate::config::notify::Receiver;
use crate::leader::Leads;
use crate::notify::Wishes;
use crate::notify::alertmanager::{self, Alertmanager, Desired};
use crate::notify::outbox::{Letter, Outbox};
use crate::notify::post::Poster;
use crate::notify::status::{Alerts, Meter, Meters, Telling};
use crate::notify::webhook::Webhook;
use crate::source::hints::Hints;
use crate::store::Readers;
use crate::vitals::{self, Vitals};

/// The hint that a target which depends on this one went down.
pub const DEPENDENT_DOWN: &str = "dependent_down";

/// For this long a resolution is told again, for an Alertmanager that was away.
const RESOLVED_FOR: Duration = Duration::from_secs(300);

/// What the notifier works with.
pub struct Parts {
    /// What is known.
    pub readers: Readers,
    /// Gives the time.
    pub clock: Clock,
    /// To look at once at what a dead target depends on.
    pub hints: Hints,
    /// What the config says.
    pub wishes: watch::Receiver<Arc<Wishes>>,
    /// Whether this process tells.
    pub leads: Leads,
    /// What survives a restart.
    pub outbox: Outbox,
    /// Where it gives its signs of life.
    pub vitals: Vitals,
    /// What passes from one leader to the next, where there are several.
    pub handover: Option<Handover>,
}

/// What passes from one leader to the next: the alerts that were told, as JSON.
#[derive(Debug)]
pub struct Handover {
    /// Ours, for the next one.
    pub told: watch::Sender<String>,
    /// Those of the one before, when we begin to lead.
    pub found: watch::Receiver<String>,
}

/// So many messages for webhooks wait in memory while the disk takes none; the oldest go first.
const MOST_OWED: usize = 10_000;

/// The one that decides.
pub struct Notifier {
    parts: Parts,
    book: Book,
    /// What was kept of each open alert, so that only changes are written.
    kept: HashMap<Arc<str>, String>,
    /// Messages for webhooks that could not be kept yet.
    owed: Vec<Letter>,
    resolved: Vec<(Alert, Timestamp)>,
    desired: watch::Sender<Arc<Desired>>,
    alerts: watch::Sender<Arc<Alerts>>,
    meters: Meters,
    tellers: JoinSet<()>,
    /// Names of the webhooks, as the outbox knows them, and what wakes each.
    webhooks: Vec<(String, Arc<Bell>)>,
    led: bool,
    keeps: bool,
}

impl Notifier {
    /// A notifier, and what readers hold of it.
    pub fn new(parts: Parts) -> (Self, Telling) {
        let (telling, alerts, meters) = Telling::new();
        let led = *parts.leads.borrow();
        let notifier = Self {
            book: Book::default(),
            kept: HashMap::new(),
            owed: Vec::new(),
            resolved: Vec::new(),
            desired: watch::channel(Arc::default()).0,
            alerts,
            meters,
            tellers: JoinSet::new(),
            webhooks: Vec::new(),
            led,
            keeps: true,
            parts,
        };
        (notifier, telling)
    }

    /// Decides until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let before = self.parts.outbox.alerts().await;
        self.kept = before
            .iter()
            .map(|open| (open.alert.target.clone(), text(open)))
            .collect();
        let wishes = self.parts.wishes.borrow_and_update().clone();
        self.book = Book::new(wishes.notify.policy(), before);
        self.hire(&wishes).await;
        let (mut events, _) = self.parts.readers.subscribe();
        let pulse = self.parts.vitals.task("notifier", vitals::PATIENCE);
        loop {
            pulse.beat();
            let snapshot = self.parts.readers.snapshot();
            self.turn(&snapshot).await;
            let now = self.parts.clock.now();
            let next = self.book.next_turn(&snapshot.targets, now);
            let wait = next
                .since(now)
                .clamp(Duration::from_millis(10), vitals::BEAT);
            let next = Instant::now() + wait;
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => self.heard(event, &mut events),
                Ok(()) = self.parts.wishes.changed() => {
                    let wishes = self.parts.wishes.borrow_and_update().clone();
                    self.book.set_policy(wishes.notify.policy());
                    self.hire(&wishes).await;
                }
                Ok(()) = self.parts.leads.changed() => {
                    self.parts.leads.borrow_and_update();
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Takes in an event and all that wait behind it: one turn serves a whole burst.
    fn heard(
        &mut self,
        first: Result<Arc<Event>, broadcast::error::RecvError>,
        events: &mut broadcast::Receiver<Arc<Event>>,
    ) {
        // What a slow reader misses is only how often targets changed; the level is in the snapshot.
        let rest = std::iter::from_fn(|| events.try_recv().ok());
        for event in first.into_iter().chain(rest) {
            self.book.note(&event);
            if event.to == Health::Down {
                self.look_at_dependencies(&event);
            }
        }
    }

    fn look_at_dependencies(&self, event: &Event) {
        let snapshot = self.parts.readers.snapshot();
        let Some(state) = snapshot.target(&event.target) else {
            return;
        };
        for name in state.target().depends_on.iter() {
            let hint = Hint {
                what: DEPENDENT_DOWN,
                at: event.at,
            };
            self.parts.hints.ring(name, hint);
        }
    }

    async fn turn(&mut self, snapshot: &Snapshot) {
        // Before the config is in force every target would look removed.
        if !snapshot.complete {
            return;
        }
        let leads = *self.parts.leads.borrow();
        let changed = std::mem::replace(&mut self.led, leads) != leads;
        if changed && leads {
            self.book.take_over();
            self.adopt();
        }
        let now = self.parts.clock.now();
        let wishes = self.parts.wishes.borrow().clone();
        let on = |target: &Target| maintenance::on(&wishes.maintenance, &target.name, now);
        let notices = self.book.turn(&snapshot.targets, &on, now);
        let resolutions = notices.iter().filter_map(|notice| match notice {
            Notice::Resolved(alert, at) => Some((alert.clone(), *at)),
            Notice::Firing(_) => None,
        });
        self.resolved.extend(resolutions);
        let before = self.resolved.len();
        self.resolved
            .retain(|(_, at)| now.since(*at) < RESOLVED_FOR);
        let told_enough = self.resolved.len() < before;
        if changed || told_enough || !notices.is_empty() {
            self.publish_desired();
        }
        if leads {
            self.owe(&notices, now);
        }
        self.keep().await;
        self.show();
    }

    fn adopt(&mut self) {
        let Some(handover) = &mut self.parts.handover else {
            return;
        };
        let text = handover.found.borrow_and_update().clone();
        match serde_json::from_str::<Vec<Alert>>(&text) {
            Ok(told) => self.book.adopt(told),
            Err(_) if text.is_empty() => {}
            Err(error) => tracing::warn!("what the leader before had told cannot be read: {error}"),
        }
    }

    /// What Alertmanagers should know. They are told before anything is written to disk.
    fn publish_desired(&self) {
        if !self.led {
            // Another one tells: what we once said must not be said again.
            self.desired.send_replace(Arc::default());
            return;
        }
        let told = self.book.open().filter(|open| open.told);
        let firing: Vec<_> = told.map(|open| open.alert.clone()).collect();
        // Down again under the same labels: an end that is told again would end that, too.
        let again = |alert: &Alert| {
            let same = |other: &&Alert| other.target == alert.target && other.name == alert.name;
            firing.iter().any(|open| same(&open))
        };
        if let Some(handover) = &self.parts.handover {
            let text = serde_json::to_string(&firing).unwrap_or_default();
            handover.told.send_replace(text);
        }
        let resolved = self.resolved.iter().filter(|(alert, _)| !again(alert));
        let resolved = resolved.cloned().collect();
        self.desired
            .send_replace(Arc::new(Desired { firing, resolved }));
    }

    /// Messages for webhooks, until they are on disk.
    fn owe(&mut self, notices: &[Notice], now: Timestamp) {
        self.owed
            .extend(notices.iter().map(|notice| letter(notice, now)));
        let excess = self.owed.len().saturating_sub(MOST_OWED);
        if excess > 0 {
            tracing::error!(
                "{excess} messages for webhooks are given up: notify.sqlite takes none"
            );
            self.owed.drain(..excess);
        }
    }

    /// Puts on disk what changed and what is owed. What cannot be put there is tried again.
    async fn keep(&mut self) {
        let open: HashMap<_, _> = self
            .book
            .open()
            .map(|open| (open.alert.target.clone(), text(open)))
            .collect();
        let mut changed: Vec<(Arc<str>, Option<String>)> = Vec::new();
        for (target, text) in &open {
            if self.kept.get(target) != Some(text) {
                changed.push((target.clone(), Some(text.clone())));
            }
        }
        let closed = self
            .kept
            .keys()
            .filter(|target| !open.contains_key(*target));
        changed.extend(closed.map(|target| (target.clone(), None)));
        if changed.is_empty() && self.owed.is_empty() {
            return;
        }
        let receivers = self.webhooks.iter().map(|(name, _)| name.clone()).collect();
        let letters = self.owed.clone();
        let kept = self.parts.outbox.keep(changed, letters, receivers).await;
        match kept {
            Ok(()) => {
                self.kept = open;
                self.owed.clear();
                self.keeps = true;
                self.webhooks.iter().for_each(|(_, bell)| bell.notify_one());
            }
            // Tried again at the next turn: what was not kept still differs, or is still owed.
            Err(error) if std::mem::take(&mut self.keeps) => {
                tracing::error!("failed to keep open alerts: {error}");
            }
            Err(_) => {}
        }
    }

    fn show(&self) {
        let not_kept = match (self.parts.outbox.not_kept(), self.keeps) {
            (Some(why), _) => Some(why.to_string()),
            (None, false) => Some("the last write to notify.sqlite failed".to_owned()),
            (None, true) => None,
        };
        self.alerts.send_replace(Arc::new(Alerts {
            open: self.book.open().cloned().collect(),
            flapping: self.book.flapping().cloned().collect(),
            leads: self.led,
            not_kept,
        }));
    }

    /// Lets go whoever tells, and hires who is wished for. Nothing is lost: what Alertmanagers
    /// should know is told to new ones at once, and messages for webhooks wait on disk.
    async fn hire(&mut self, wishes: &Wishes) {
        self.tellers.shutdown().await;
        let mut meters = Vec::new();
        self.webhooks.clear();
        for receiver in &wishes.notify.alertmanager {
            let poster = match Poster::new(receiver, alertmanager::PATH) {
                Ok(poster) => poster,
                Err(error) => {
                    tracing::error!("an Alertmanager cannot be told: {error}");
                    continue;
                }
            };
            let meter = self.meter(format!("alertmanager {}", poster.place()), &mut meters);
            let alertmanager = Alertmanager {
                poster,
                desired: self.desired.subscribe(),
                resend: wishes.notify.resend.0,
                meter,
                clock: self.parts.clock,
            };
            self.tellers.spawn(alertmanager.run());
        }
        for receiver in &wishes.notify.webhooks {
            let poster = match Poster::new(receiver, "") {
                Ok(poster) => poster,
                Err(error) => {
                    tracing::error!("a webhook cannot be told: {error}");
                    continue;
                }
            };
            let meter = self.meter(format!("webhook {}", poster.place()), &mut meters);
            let (name, bell) = (
                webhook_name(receiver, poster.place()),
                Arc::new(Bell::new()),
            );
            self.webhooks.push((name.clone(), bell.clone()));
            let webhook = Webhook {
                poster,
                secret: receiver.secret.clone(),
                outbox: self.parts.outbox.clone(),
                receiver: name,
                bell,
                meter,
                clock: self.parts.clock,
            };
            self.tellers.spawn(webhook.run());
        }
        *self.meters.write().unwrap_or_else(PoisonError::into_inner) = meters;
        self.forget_others().await;
        self.publish_desired();
    }

    /// Counters go on under the same name over a reload.
    fn meter(&self, receiver: String, meters: &mut Vec<Arc<Meter>>) -> Arc<Meter> {
        let before = self.meters.read().unwrap_or_else(PoisonError::into_inner);
        let known = before
            .iter()
            .find(|meter| meter.receiver == receiver)
            .cloned();
        let meter = known.unwrap_or_else(|| Arc::new(Meter::new(receiver)));
        meters.push(meter.clone());
        meter
    }

    async fn forget_others(&self) {
        let names = self.webhooks.iter().map(|(name, _)| name.clone()).collect();
        match self.parts.outbox.forget_others(names).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(
                "{count} messages waited for webhooks that the config no longer names; they are given up"
            ),
            Err(error) => tracing::error!("failed to look for forgotten messages: {error}"),
        }
    }
}

/// A name that tells webhooks apart without their URLs, which may hold a token.
fn webhook_name(receiver: &Receiver, place: &str) -> String {
    let url = receiver.url.reveal().as_str();
    let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
    let print: String = digest.as_ref()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{place}#{print}")
}

fn text(open: &Open) -> String {
    serde_json::to_string(open).unwrap_or_default()
}

fn letter(notice: &Notice, now: Timestamp) -> Letter {
    let (word, alert, ended) = match notice {
        Notice::Firing(alert) => ("firing", alert, None),
        Notice::Resolved(alert, at) => ("resolved", alert, Some(*at)),
    };
    let event_id = format!("{}-{word}", alert.id);
    let body = json!({
        "id": event_id,
        "status": word,
        "at": now,
        "alert": {
            "id": alert.id,
            "name": alert.name.as_str(),
            "severity": alert.name.severity(),
            "target": alert.target,
            "kind": alert.kind,
            "required": alert.required,
            "reason": alert.reason,
            "message": alert.message,
            "advice": alert.reason.advice(),
            "starts_at": alert.starts_at,
            "ends_at": ended,
        },
    });
    Letter {
        event_id,
        body: body.to_string(),
    }
}
