//! All logins of one reading of the config, on the sessions that outlive it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use comind_model::ingress::Limits;
use comind_model::login::{Login, Logins, Means, Why};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;

use super::kubernetes::reviewer::Reviewer;
use super::oidc::provider::Provider;
use crate::audit::keeper::Audit;
use crate::run::Clock;
use crate::serve::clients::Rate;
use crate::session::rules::Terms;
use crate::session::table::{Key, Session, Sessions};

/// Passwords that are checked at once: one, so that strangers never take more than one core.
const CHECKS: usize = 1;
/// Those that may wait for their turn, and for how long.
const WAITING: usize = 16;
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Wrong passwords, and logins that begin elsewhere, of one client: so many a second, after so
/// many at once.
const ATTEMPTS: (u32, u32) = (1, 20);

static STAMPS: AtomicU64 = AtomicU64::new(1);

/// What all readings share.
pub struct Common {
    /// All sessions.
    pub sessions: Arc<Sessions>,
    key: hmac::Key,
    attempts: Option<Rate>,
    pub(super) checks: Arc<Semaphore>,
    pub(super) waiting: Semaphore,
    random: SystemRandom,
    clock: Clock,
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common")
            .field("sessions", &self.sessions.open())
            .finish_non_exhaustive()
    }
}

impl Common {
    /// Opens the audit log.
    ///
    /// # Errors
    /// When it cannot be written: then nobody could be let in unseen.
    pub fn open(told: &Logins, clock: Clock) -> io::Result<Self> {
        let (audit, _) = Audit::start(&told.folder)?;
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| io::Error::other("the system gives no randomness"))?;
        let limits = Limits {
            requests_per_second: Some(ATTEMPTS.0),
            burst: ATTEMPTS.1,
            ..Limits::default()
        };
        Ok(Self {
            sessions: Arc::new(Sessions::new(audit, clock, told.most)),
            key,
            attempts: Rate::new(&limits),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Semaphore::new(WAITING),
            random,
            clock,
        })
    }

    /// A hash under a key that nobody else has. The parts cannot run into each other.
    pub fn key_of(&self, parts: &[&[u8]]) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    /// 256 random bits as text.
    pub fn secret(&self) -> Option<String> {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes).ok()?;
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether this client may try once more.
    pub fn may_try(&self, client: std::net::IpAddr) -> bool {
        self.attempts
            .as_ref()
            .is_none_or(|attempts| attempts.allows(client))
    }
}

/// One login, ready.
#[derive(Debug)]
pub struct Ready {
    /// Its name.
    pub name: Arc<str>,
    /// No other has it, so that what was begun under an older form of the login is not found.
    pub stamp: u64,
    /// As it was told.
    pub told: Login,
    /// The hashes of its tokens, where it has any.
    pub tokens: Vec<Key>,
    /// Who knows, where somebody else does.
    pub provider: Option<Arc<Provider>>,
    /// Who asks the API server, where that knows.
    pub reviewer: Option<Arc<Reviewer>>,
}

impl Ready {
    /// How long its sessions last.
    pub fn terms(&self) -> Terms {
        Terms {
            ttl: self.told.ttl,
            idle: self.told.idle,
        }
    }
}

/// All logins.
#[derive(Clone, Debug)]
pub struct Gate {
    /// As they were told.
    pub told: Logins,
    /// What outlives it.
    pub common: Arc<Common>,
    logins: HashMap<Arc<str>, Arc<Ready>>,
}

impl Gate {
    /// For what is told. What is the same as in the gate before goes on; sessions of what is not end.
    ///
    /// # Errors
    /// When one cannot be carried out.
    pub fn new(told: &Logins, common: Arc<Common>, before: Option<&Self>) -> Result<Self, String> {
        let mut logins = HashMap::new();
        for (name, login) in &told.all {
            let known = before.and_then(|gate| gate.logins.get(name));
            let ready = match known {
                Some(known) if known.told == *login => known.clone(),
                _ => Arc::new(Self::ready(name, login, &common)?),
            };
            logins.insert(name.clone(), ready);
        }
        common.sessions.allow(told.most);
        let told = told.clone();
        Ok(Self {
            told,
            common,
            logins,
        })
    }

    fn ready(name: &Arc<str>, login: &Login, common: &Common) -> Result<Ready, String> {
        let provider = match &login.means {
            Means::Oidc(oidc) => Some(Arc::new(
                Provider::new(oidc).map_err(|error| format!("the login `{name}`: {error}"))?,
            )),
            _ => None,
        };
        let reviewer = match &login.means {
            Means::Kubernetes(told) => Some(Arc::new(
                Reviewer::new(told, common.clock)
                    .map_err(|error| format!("the login `{name}`: {error}"))?,
            )),
            _ => None,
        };
        let tokens = match &login.means {
            Means::Bearer(tokens) => tokens
                .iter()
                .map(|token| common.key_of(&[token.token.reveal().as_bytes()]))
                .collect(),
            _ => Vec::new(),
        };
        Ok(Ready {
            name: name.clone(),
            stamp: STAMPS.fetch_add(1, Relaxed),
            told: login.clone(),
            tokens,
            provider,
            reviewer,
        })
    }

    /// Ends the sessions of logins that are not as they were when they began. Called once this
    /// gate is in force.
    pub fn end_others(&self, before: &Self) {
        let same = |session: &Session| {
            let name = &session.place.login;
            match (self.logins.get(name), before.logins.get(name)) {
                (Some(now), Some(then)) => Arc::ptr_eq(now, then),
                _ => false,
            }
        };
        let sessions = &self.common.sessions;
        let ended = sessions.end_all(|session| !same(session), Why::Changed, None);
        if ended > 0 {
            tracing::info!(
                ended,
                "sessions have ended because their logins have changed"
            );
        }
    }

    /// A login by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<Ready>> {
        self.logins.get(name)
    }

    /// Whether an API server is asked by one of them.
    pub fn asks_clusters(&self) -> bool {
        self.logins.values().any(|login| login.reviewer.is_some())
    }

    /// Those that have a provider.
    pub fn providers(&self) -> impl Iterator<Item = (Arc<Ready>, Arc<Provider>)> {
        let with = |login: &Arc<Ready>| Some((login.clone(), login.provider.clone()?));
        self.logins.values().filter_map(with)
    }

    /// Forgets what is of no use any more.
    pub fn tidy(&self) {
        if let Some(attempts) = &self.common.attempts {
            attempts.tidy();
        }
    }
}
