//! All sessions that last, by what their clients show. Requests without a session never come
//! here; those with one read one of several shards.
//!
//! A key is a hash: nobody who sees the table, or a list of it, can act for anyone.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use comind_model::login::{Hidden, Why};
use comind_model::session::Seen;
use comind_model::timestamp;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::sync::CancellationToken;

use super::events::teller::{self, Hand};
use super::held::Slots;
use super::rules::{self, Terms};
use crate::audit::entry::{self, Entry};
use crate::audit::keeper::Audit;
use crate::moment::Moment;
use crate::run::Clock;

const SHARDS: usize = 16;
/// At the end the log has so long to come to the disk.
const FLUSH: Duration = Duration::from_secs(5);

/// The hash of what a client shows.
pub type Key = [u8; 32];

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The name.
    pub user: Arc<str>,
    /// What people call them, where it is known.
    pub name: Option<Arc<str>>,
    /// The address for mail, where it is known.
    pub email: Option<Arc<str>>,
    /// What they are: roles, as routes ask for them.
    pub roles: Vec<Arc<str>>,
    /// The groups that whoever knows them says they are in; roles where nobody says.
    pub groups: Vec<Arc<str>>,
}

/// Where a session begins.
#[derive(Clone, Debug)]
pub struct Place {
    /// By which login.
    pub login: Arc<str>,
    /// Which form of it: another config makes another.
    pub stamp: u64,
    /// At which route.
    pub route: Arc<str>,
    /// The host that it is for, as it was asked for.
    pub host: Arc<str>,
    /// From where.
    pub client: IpAddr,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// For lists and the log; knowing it is of no use to anyone.
    pub id: Arc<str>,
    /// Who.
    pub who: Who,
    /// Where it began.
    pub place: Place,
    key: Key,
    since: Timestamp,
    until: Timestamp,
    terms: Terms,
    clock: Clock,
    began: Moment,
    heard: (AtomicU64, AtomicU64),
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Requests, streams and upgraded connections that it carries now.
    pub(super) live: AtomicUsize,
    /// Routes at which it was refused, so that the log is told once.
    refused: Mutex<Vec<Arc<str>>>,
    /// What was shown, where it is asked about again or handed on.
    pub kept: Option<Hidden>,
    /// What it carries under rights that may be lost.
    pub(super) slots: Slots,
    /// Ends all that it carries.
    pub end: CancellationToken,
}

impl Session {
    /// A request begins.
    pub fn asks(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.hears();
    }

    /// The client was heard.
    pub fn hears(&self) {
        let now = Moment::now(self.clock);
        self.heard.0.store(now.steady, Relaxed);
        self.heard.1.store(now.wall, Relaxed);
    }

    /// So many bytes from the client, and to it.
    pub fn carried(&self, received: u64, sent: u64) {
        if received != 0 {
            self.received.fetch_add(received, Relaxed);
        }
        if sent != 0 {
            self.sent.fetch_add(sent, Relaxed);
        }
    }

    /// It was refused at this route; true for the first time.
    pub fn refused_at(&self, route: &Arc<str>) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !refused.contains(route);
        if first {
            refused.push(route.clone());
        }
        first
    }

    fn over(&self, now: Moment) -> Option<Why> {
        let heard = Moment {
            steady: self.heard.0.load(Relaxed),
            wall: self.heard.1.load(Relaxed),
        };
        rules::over(self.terms, self.began, heard, now)
    }

    fn told(&self) -> Box<entry::Session> {
        Box::new(entry::Session {
            id: self.id.clone(),
            user: self.who.user.clone(),
            login: self.place.login.clone(),
            route: self.place.route.clone(),
            host: self.place.host.clone(),
            client: self.place.client,
            since: self.since,
            until: self.until,
        })
    }

    fn last_heard(&self) -> Timestamp {
        let heard = i64::try_from(self.heard.1.load(Relaxed)).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(heard).unwrap_or(self.since)
    }

    /// As it is now; `means` is how its login proves who somebody is.
    pub fn seen(&self, means: &'static str) -> Seen {
        let micros = |at: Timestamp| timestamp::Timestamp::from_micros(at.as_microsecond());
        Seen {
            id: self.id.clone(),
            user: self.who.user.clone(),
            login: self.place.login.clone(),
            means,
            route: self.place.route.clone(),
            host: self.place.host.clone(),
            client: self.place.client,
            since: micros(self.since),
            until: micros(self.until),
            heard: micros(self.last_heard()),
            requests: self.requests.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            live: self.live.load(Relaxed),
        }
    }

    /// For a list.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": &*self.id,
            "user": &*self.who.user,
            "email": self.who.email.as_deref(),
            "roles": self.who.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
            "login": &*self.place.login,
            "route": &*self.place.route,
            "host": &*self.place.host,
            "client": self.place.client,
            "since": self.since.to_string(),
            "until": self.until.to_string(),
            "heard": self.last_heard().to_string(),
            "requests": self.requests.load(Relaxed),
            "received": self.received.load(Relaxed),
            "sent": self.sent.load(Relaxed),
            "live": self.live.load(Relaxed),
        })
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions that began.
    pub began: AtomicU64,
    /// Those that ended.
    pub ended: AtomicU64,
    /// Requests that were not let in.
    pub refused: AtomicU64,
    /// What became of Events.
    pub events: Arc<teller::Counts>,
}

/// All of them.
#[derive(Debug)]
pub struct Sessions {
    shards: [RwLock<HashMap<Key, Arc<Session>>>; SHARDS],
    open: AtomicUsize,
    most: AtomicUsize,
    audit: Audit,
    /// Tells a cluster, where that is wanted.
    events: ArcSwapOption<Hand>,
    clock: Clock,
    random: SystemRandom,
    /// For metrics.
    pub counts: Counts,
}

/// There is no room for another session, or no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Sessions {
    /// None yet.
    pub fn new(audit: Audit, clock: Clock, most: usize) -> Self {
        Self {
            shards: Default::default(),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            audit,
            events: ArcSwapOption::empty(),
            clock,
            random: SystemRandom::new(),
            counts: Counts::default(),
        }
    }

    /// So many may be open.
    pub fn allow(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::now(self.clock)
    }

    /// So many are open.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Entries of the audit log that found no room.
    pub fn lost(&self) -> u64 {
        self.audit.lost()
    }

    /// Whom to tell beside the audit log.
    pub fn tell_to(&self, hand: Option<Hand>) {
        self.events.store(hand.map(Arc::new));
    }

    fn tell(&self, at: Timestamp, entry: Entry) {
        if let Some(hand) = &*self.events.load() {
            hand.put(&entry);
        }
        self.audit.put(at, entry);
    }

    /// The session of whoever shows this; one that is over ends here.
    pub fn find(&self, key: &Key) -> Option<Arc<Session>> {
        let session = self.read(key).get(key)?.clone();
        match session.over(self.now()) {
            None => Some(session),
            Some(why) => {
                self.end(&session, why, None);
                None
            }
        }
    }

    /// One begins, or the one that this key has goes on. It keeps of what was shown as much as it is given.
    ///
    /// # Errors
    /// When there are too many.
    pub fn begin(
        &self,
        key: Key,
        who: Who,
        place: Place,
        terms: Terms,
        kept: Option<Hidden>,
    ) -> Result<Arc<Session>, Full> {
        let mut id = [0; 16];
        self.random.fill(&mut id).map_err(|_| Full)?;
        let (now, since) = (self.now(), Timestamp::now());
        let session = Arc::new(Session {
            id: format!("{:032x}", u128::from_be_bytes(id)).into(),
            who,
            place,
            key,
            since,
            until: since.checked_add(terms.ttl).unwrap_or(Timestamp::MAX),
            terms,
            clock: self.clock,
            began: now,
            heard: (now.steady.into(), now.wall.into()),
            requests: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            refused: Mutex::default(),
            kept,
            slots: Slots::default(),
            end: CancellationToken::new(),
        });
        match self.write(&key).entry(key) {
            // Two requests of one client at once.
            Slot::Occupied(slot) => return Ok(slot.get().clone()),
            Slot::Vacant(slot) => {
                if self.open.fetch_add(1, Relaxed) >= self.most.load(Relaxed) {
                    self.open.fetch_sub(1, Relaxed);
                    return Err(Full);
                }
                slot.insert(session.clone());
            }
        }
        self.counts.began.fetch_add(1, Relaxed);
        self.tell(since, Entry::Begins(session.told()));
        Ok(session)
    }

    /// It ends, and with it all that it carries; false where it had ended already.
    pub fn end(&self, session: &Session, why: Why, by: Option<&str>) -> bool {
        let removed = {
            let mut shard = self.write(&session.key);
            match shard.get(&session.key) {
                Some(known) if known.id == session.id => shard.remove(&session.key),
                _ => None,
            }
        };
        let Some(session) = removed else {
            return false;
        };
        session.end.cancel();
        self.open.fetch_sub(1, Relaxed);
        self.counts.ended.fetch_add(1, Relaxed);
        let entry = Entry::Ends {
            session: session.told(),
            why,
            by: by.map(Arc::from),
            requests: session.requests.load(Relaxed),
            received: session.received.load(Relaxed),
            sent: session.sent.load(Relaxed),
        };
        self.tell(Timestamp::now(), entry);
        true
    }

    /// Somebody was not let in.
    pub fn refuse(&self, place: &Place, user: Option<&Arc<str>>, reason: &'static str) {
        let entry = Entry::Refused {
            login: place.login.clone(),
            route: place.route.clone(),
            host: place.host.clone(),
            client: place.client,
            user: user.cloned(),
            reason,
        };
        self.tell(Timestamp::now(), entry);
    }

    /// All end, since the proxy does; waits a moment for the log.
    pub fn stop(&self) {
        self.end_all(|_| true, Why::Stopped, None);
        self.audit.flush(FLUSH);
    }

    /// Those that carry something under rights that may be lost.
    pub fn at_stake(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().filter(|one| one.slots.any()).cloned());
        }
        all
    }

    /// All that are open.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().cloned());
        }
        all.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
        all
    }

    /// Ends those that this is true of; gives how many.
    pub fn end_all(&self, which: impl Fn(&Session) -> bool, why: Why, by: Option<&str>) -> usize {
        let chosen = self.list().into_iter().filter(|session| which(session));
        chosen.filter(|session| self.end(session, why, by)).count()
    }

    /// Ends those that are over.
    pub fn sweep(&self) {
        let now = self.now();
        for session in self.list() {
            if let Some(why) = session.over(now) {
                self.end(&session, why, None);
            }
        }
    }

    fn read(&self, key: &Key) -> RwLockReadGuard<'_, HashMap<Key, Arc<Session>>> {
        let shard = &self.shards[usize::from(key[0]) % SHARDS];
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &Key) -> RwLockWriteGuard<'_, HashMap<Key, Arc<Session>>> {
        let shard = &self.shards[usize::from(key[0]) % SHARDS];
        shard.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify;

    const LONG: Terms = Terms {
        ttl: Duration::from_secs(3600),
        idle: Duration::from_secs(3600),
    };

    fn who(name: &str) -> Who {
        Who {
            user: name.into(),
            name: None,
            email: None,
            roles: Vec::new(),
            groups: Vec::new(),
        }
    }

    fn place() -> Place {
        Place {
            login: "staff".into(),
            stamp: 0,
            route: "r".into(),
            host: "h".into(),
            client: [127, 0, 0, 1].into(),
        }
    }

    fn key(number: u16) -> Key {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn they_begin_end_and_are_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let (audit, thread) = Audit::start(dir.path()).unwrap();
        let sessions = Sessions::new(audit, Clock::default(), 3);
        let ada = sessions
            .begin(key(1), who("ada"), place(), LONG, None)
            .unwrap();
        let again = sessions
            .begin(key(1), who("eve"), place(), LONG, None)
            .unwrap();
        assert_eq!(again.id, ada.id);
        let soon = Terms {
            ttl: Duration::ZERO,
            ..LONG
        };
        let over = sessions
            .begin(key(2), who("bob"), place(), soon, None)
            .unwrap();
        sessions
            .begin(key(3), who("bob"), place(), LONG, None)
            .unwrap();
        assert_eq!(
            sessions.begin(key(4), who("cy"), place(), LONG, None).err(),
            Some(Full)
        );
        assert_eq!(sessions.open(), 3);
        sessions.sweep();
        assert!(over.end.is_cancelled() && !ada.end.is_cancelled());
        assert!(sessions.find(&key(2)).is_none());
        let ended = sessions.end_all(|one| &*one.who.user == "bob", Why::Revoked, Some("root"));
        assert_eq!((ended, sessions.open()), (1, 1));
        assert!(sessions.end(&ada, Why::Logout, None));
        assert!(!sessions.end(&ada, Why::Logout, None));
        drop(sessions);
        thread.join().unwrap();
        let found = verify::folder(dir.path()).unwrap();
        assert_eq!((found.misfit, found.last.number), (None, 7));
    }
}
