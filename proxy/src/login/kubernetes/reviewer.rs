//! Asks an API server no more than it must: answers are remembered for a while, what many wait for
//! is asked once, and one that is away is not asked at once again. A question is asked by a task of
//! its own, so that a client that goes away takes it from nobody else.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comind_model::login::{Hidden, Kubernetes, Right};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::answers::{Ages, Answers, Known};
use super::api::{Lack, Person, Server};
use crate::login::gate::Common;
use crate::run::Clock;
use crate::session::table::Key;

/// Answers of a kind that are remembered.
const REMEMBERED: usize = 10_000;
/// Questions that are asked at once …
const AT_ONCE: usize = 16;
/// … and those that wait, with them.
const UNDER_WAY: usize = 1_024;
/// A question takes no longer, its wait included.
const LIMIT: Duration = Duration::from_secs(5);
/// One that is away is left alone for so long, in milliseconds.
const PAUSE: u64 = 500;

const CHANGED: &str = "the login has changed meanwhile";

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answer<V> {
    /// Yes, or no.
    Known(Known<V>),
    /// Nobody can say now, and why.
    Away(Arc<str>),
}

/// Questions of one kind.
struct Desk<V> {
    answers: Answers<V>,
    under_way: HashMap<Key, watch::Receiver<Option<Answer<V>>>>,
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one who asks for a login.
pub struct Reviewer {
    told: Kubernetes,
    server: Arc<Server>,
    tokens: Shared<Desk<Arc<Person>>>,
    rights: Shared<Desk<()>>,
    /// Until when it is left alone, and why.
    away: Shared<(u64, Arc<str>)>,
    turns: Arc<Semaphore>,
    clock: Clock,
    runtime: Handle,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Asks nothing yet. Its questions are asked on the runtime that this is called on.
    ///
    /// # Errors
    /// When it is called on none.
    pub fn new(told: &Kubernetes, clock: Clock) -> Result<Self, String> {
        let runtime = Handle::try_current().map_err(|error| error.to_string())?;
        let ages = Ages {
            yes: told.authorized_ttl,
            no: told.unauthorized_ttl,
        };
        let stop = CancellationToken::new();
        Ok(Self {
            told: told.clone(),
            server: Arc::new(Server::new(told.cluster.clone())),
            tokens: desk(ages),
            rights: desk(ages),
            away: Arc::new(Mutex::new((0, "".into()))),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            clock,
            runtime,
            stop: stop.clone(),
            _stop: stop.drop_guard(),
        })
    }

    /// What it was told.
    pub fn told(&self) -> &Kubernetes {
        &self.told
    }

    /// Now, in milliseconds.
    pub fn now(&self) -> u64 {
        self.clock.millis()
    }

    /// Whether nothing has to be asked for this token: it is known to be good, or somebody waits for
    /// the answer already.
    pub fn is_in_hand(&self, key: &Key) -> bool {
        let desk = lock(&self.tokens);
        let known = desk.answers.find(key, self.now());
        matches!(known, Some(Known::Yes(_))) || desk.under_way.contains_key(key)
    }

    /// Who has this token; `key` is its hash.
    pub async fn who(&self, key: Key, token: &Hidden) -> Answer<Arc<Person>> {
        let make = || {
            let (server, token) = (self.server.clone(), token.clone());
            let audiences = self.told.audiences.clone();
            async move {
                let person = server.who(&token, &audiences).await?;
                Ok(person.map_or(Known::No, |person| Known::Yes(Arc::new(person))))
            }
        };
        self.ask(&self.tokens, key, make).await
    }

    /// Whether they may.
    pub async fn may(
        &self,
        common: &Common,
        person: &Arc<Person>,
        right: &Arc<Right>,
    ) -> Answer<()> {
        let key = key_of(common, person, right);
        let make = || {
            let (server, person, right) = (self.server.clone(), person.clone(), right.clone());
            async move {
                let may = server.may(&person, &right).await?;
                Ok(if may { Known::Yes(()) } else { Known::No })
            }
        };
        self.ask(&self.rights, key, make).await
    }

    async fn ask<V, F>(
        &self,
        desk: &Shared<Desk<V>>,
        key: Key,
        make: impl FnOnce() -> F,
    ) -> Answer<V>
    where
        V: Clone + Send + Sync + 'static,
        F: Future<Output = Result<Known<V>, Lack>> + Send + 'static,
    {
        let mut answered = {
            let mut open = lock(desk);
            if let Some(known) = open.answers.find(&key, self.now()) {
                return Answer::Known(known);
            }
            if let Some(why) = self.is_away() {
                return Answer::Away(why);
            }
            match open.under_way.get(&key) {
                // One that has broken off says nothing any more.
                Some(waiting) if waiting.has_changed().is_ok() => waiting.clone(),
                _ if open.under_way.len() >= UNDER_WAY => {
                    return Answer::Away("too many questions wait for it already".into());
                }
                _ => {
                    let (tell, told) = watch::channel(None);
                    open.under_way.insert(key, told.clone());
                    self.send(desk.clone(), key, make(), tell);
                    told
                }
            }
        };
        let told = answered.wait_for(Option::is_some).await;
        let told = told.ok().and_then(|told| told.clone());
        told.unwrap_or_else(|| Answer::Away(CHANGED.into()))
    }

    /// Has a task ask, remember, and tell all who wait.
    fn send<V>(
        &self,
        desk: Shared<Desk<V>>,
        key: Key,
        question: impl Future<Output = Result<Known<V>, Lack>> + Send + 'static,
        tell: watch::Sender<Option<Answer<V>>>,
    ) where
        V: Clone + Send + Sync + 'static,
    {
        let (turns, clock, away) = (self.turns.clone(), self.clock, self.away.clone());
        let stop = self.stop.clone();
        self.runtime.spawn(async move {
            let asking = async {
                let _turn = turns.acquire().await.map_err(|_| Lack::new(CHANGED))?;
                let asked = clock.millis();
                question.await.map(|known| (known, asked))
            };
            let asked = tokio::select! {
                () = stop.cancelled() => Err(Lack::new(CHANGED)),
                asked = tokio::time::timeout(LIMIT, asking) => {
                    asked.unwrap_or_else(|_| Err(Lack::new("its API server does not answer")))
                }
            };
            let mut open = lock(&desk);
            open.under_way.remove(&key);
            let answer = match asked {
                Ok((known, asked)) => {
                    open.answers.learn(key, &known, asked);
                    Answer::Known(known)
                }
                Err(Lack { said, cause }) => {
                    tracing::warn!("the cluster cannot be asked who may come in: {said}: {cause}");
                    *lock(&away) = (clock.millis().saturating_add(PAUSE), said.clone());
                    Answer::Away(said)
                }
            };
            drop(open);
            let _ = tell.send(Some(answer));
        });
    }

    fn is_away(&self) -> Option<Arc<str>> {
        let away = lock(&self.away);
        (self.now() < away.0).then(|| away.1.clone())
    }
}

fn desk<V: Clone>(ages: Ages) -> Shared<Desk<V>> {
    Arc::new(Mutex::new(Desk {
        answers: Answers::new(ages, REMEMBERED),
        under_way: HashMap::new(),
    }))
}

fn key_of(common: &Common, person: &Person, right: &Right) -> Key {
    let mut parts = person.parts();
    match right {
        Right::Resource(it) => {
            let all = [
                &it.verb,
                &it.group,
                &it.resource,
                &it.subresource,
                &it.namespace,
                &it.name,
            ];
            parts.push(b"resource");
            parts.extend(all.map(|part| part.as_bytes()));
        }
        Right::Path { verb, path } => {
            parts.extend([&b"path"[..], verb.as_bytes(), path.as_bytes()]);
        }
    }
    common.key_of(&parts)
}
