//! The gate: lets a request in or says why not. One a config; a new config brings a new gate,
//! and with it forgets who was let in.
//!
//! A password costs a slow check once; then its keyed hash is remembered. Whoever is wrong costs
//! the same whether the user exists or not. Checks are bounded in number, and by client.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ring::hmac;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::limit::Limiter;
use super::policy::{Policy, Rate};
use super::right::Entered;
use super::tls::ServerTls;

/// Good pairs of name and password that are remembered.
const REMEMBERED: usize = 256;
/// Slow checks that run at once: one, so that strangers never take more than one core.
const CHECKS: usize = 1;
/// Slow checks that may wait for their turn.
const WAITING: usize = 16;
/// How long a request waits for its check.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a client gets that has to be checked: ten at once, and one a second.
const ATTEMPTS: Rate = Rate {
    period: Duration::from_secs(1),
    burst: NonZeroU32::new(10).expect("ten is not zero"),
};
/// The longest `Authorization` that is looked at.
const LONGEST: usize = 4096;
/// A year: the browser asks by TLS only.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Lets requests in.
pub struct Gate {
    policy: Policy,
    key: hmac::Key,
    tokens: Vec<hmac::Tag>,
    remembered: Mutex<VecDeque<[u8; 32]>>,
    checks: Arc<Semaphore>,
    waiting: Semaphore,
    requests: Option<Limiter>,
    attempts: Option<Limiter>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It bears no `Authorization`.
    Missing,
    /// What it bears is none that we ask for.
    Malformed,
    /// The password or token is wrong, or the user unknown.
    Wrong,
    /// Its client asked too often; it may come back after this long.
    TooOften(Duration),
    /// Its client was wrong too often; it may come back after this long.
    WrongTooOften(Duration),
    /// Too many passwords are being checked.
    Busy,
}

impl Refusal {
    /// A word for a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Wrong => "wrong",
            Self::TooOften(_) => "too_often",
            Self::WrongTooOften(_) => "wrong_too_often",
            Self::Busy => "busy",
        }
    }
}

impl Gate {
    /// For one policy. Its key is new, so that nothing of another gate's memory counts.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(policy: Policy) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| "failed to get random bytes for a key".to_owned())?;
        let sign = |token: &str| hmac::sign(&key, token.as_bytes());
        Ok(Self {
            tokens: policy
                .tokens
                .iter()
                .map(|(_, token)| sign(token.reveal()))
                .collect(),
            key,
            remembered: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Semaphore::new(WAITING),
            requests: policy.rate.and_then(Limiter::new),
            attempts: Limiter::new(ATTEMPTS),
            policy,
        })
    }

    /// How TLS is spoken, if it is.
    pub fn tls(&self) -> Option<&ServerTls> {
        self.policy.tls.as_ref()
    }

    /// Lets a request in, or says why not. `path` is a route's template.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(
        &self,
        client: IpAddr,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Entered, Refusal> {
        // A kubelet shares its address with whatever else comes from its node, and must not be
        // told to come back later: it would end us.
        if self.policy.open_health && matches!(path, "/livez" | "/readyz") {
            return Ok(Entered::default());
        }
        if let Some(requests) = &self.requests {
            requests
                .take(client, Instant::now())
                .map_err(Refusal::TooOften)?;
        }
        if !self.policy.has_login() {
            return Ok(Entered::default());
        }
        match credentials(headers)? {
            Credentials::Bearer(token) => self.bearer(client, token),
            Credentials::Basic(pair) => self.basic(client, pair).await,
        }
    }

    /// Whether strangers are kept out.
    pub fn keeps_out(&self) -> bool {
        self.policy.keeps_out()
    }

    /// Which ways of login `WWW-Authenticate` offers.
    pub fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let basic = (!self.policy.users.is_empty()).then_some(HeaderValue::from_static(
            "Basic realm=\"comind-ops\", charset=\"UTF-8\"",
        ));
        let bearer = (!self.policy.tokens.is_empty())
            .then_some(HeaderValue::from_static("Bearer realm=\"comind-ops\""));
        basic.into_iter().chain(bearer)
    }

    /// Headers that every answer bears.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let hsts = self
            .tls()
            .map(|_| (header::STRICT_TRANSPORT_SECURITY, HSTS));
        hsts.into_iter().chain(self.policy.headers.iter().cloned())
    }

    fn entered(&self, name: &str) -> Entered {
        Entered {
            name: Some(name.to_owned()),
            reads_only: self.policy.read_only.contains(name),
        }
    }

    fn bearer(&self, client: IpAddr, token: &[u8]) -> Result<Entered, Refusal> {
        // All are compared, each in constant time, by their keyed hashes.
        let all = self.tokens.iter().zip(&self.policy.tokens);
        let found = all.fold(None, |found, (tag, (name, _))| {
            let fits = hmac::verify(&self.key, token, tag.as_ref()).is_ok();
            if fits { Some(name) } else { found }
        });
        if let Some(name) = found {
            return Ok(self.entered(name));
        }
        self.attempt(client)?;
        Err(Refusal::Wrong)
    }

    async fn basic(&self, client: IpAddr, pair: Vec<u8>) -> Result<Entered, Refusal> {
        let tag: [u8; 32] = keyed(&self.key, &pair);
        let colon = pair.iter().position(|byte| *byte == b':');
        if let Some(colon) = colon
            && self.remembers(&tag)
        {
            return Ok(self.entered(&String::from_utf8_lossy(&pair[..colon])));
        }
        self.attempt(client)?;
        let (name, password) = pair.split_at(colon.ok_or(Refusal::Malformed)?);
        let password = password[1..].to_vec();
        let users = &self.policy.users;
        let known = users.iter().find(|(user, _)| user.as_bytes() == name);
        // A stranger is checked against somebody's hash too, always the same one for a name, so
        // that time does not tell who exists.
        let stand_in = usize::from(keyed(&self.key, name)[0]) % users.len().max(1);
        let (_, hash) = known.or(users.get(stand_in)).ok_or(Refusal::Wrong)?;
        let fits = self.check(hash.clone(), password).await?;
        let Some((name, _)) = known.filter(|_| fits) else {
            return Err(Refusal::Wrong);
        };
        self.remember(tag);
        Ok(self.entered(name))
    }

    fn attempt(&self, client: IpAddr) -> Result<(), Refusal> {
        match &self.attempts {
            Some(attempts) => attempts
                .take(client, Instant::now())
                .map_err(Refusal::WrongTooOften),
            None => Ok(()),
        }
    }

    async fn check(&self, hash: super::password::Hash, password: Vec<u8>) -> Result<bool, Refusal> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        let turn = tokio::time::timeout(PATIENCE, self.checks.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Refusal::Busy);
        };
        let checked = tokio::task::spawn_blocking(move || {
            // Held until the check ends, even where its request has gone away.
            let _turn = turn;
            hash.fits(&password)
        });
        checked.await.map_err(|_| Refusal::Busy)
    }

    fn remembers(&self, tag: &[u8; 32]) -> bool {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered.contains(tag)
    }

    fn remember(&self, tag: [u8; 32]) {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.contains(&tag) {
            return;
        }
        if remembered.len() >= REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(tag);
    }
}

fn keyed(key: &hmac::Key, bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(key, bytes).as_ref());
    out
}

enum Credentials<'h> {
    Basic(Vec<u8>),
    Bearer(&'h [u8]),
}

/// Source: RFC 7617 and RFC 6750; names of schemes in any case.
fn credentials(headers: &HeaderMap) -> Result<Credentials<'_>, Refusal> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next().ok_or(Refusal::Missing)?.as_bytes();
    if all.next().is_some() || value.len() > LONGEST {
        return Err(Refusal::Malformed);
    }
    let space = value.iter().position(|byte| *byte == b' ');
    let (scheme, rest) = value.split_at(space.ok_or(Refusal::Malformed)?);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Credentials::Bearer(rest));
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let pair = BASE64.decode(rest).map_err(|_| Refusal::Malformed)?;
        return Ok(Credentials::Basic(pair));
    }
    Err(Refusal::Malformed)
}

/// Standard base64 with or without its padding, as clients differ in that.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
