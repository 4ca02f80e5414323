//! Lets a request in, by its session or by what it shows, or says why not.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use comind_model::login::{Demand, Hidden, Means, Subject, Tell, User, Why};
use http::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};

use super::gate::{Gate, PATIENCE, Ready};
use super::{cookie, credentials, kubernetes, local, password, told};
use crate::session::held::Held;
use crate::session::rules::Terms;
use crate::session::table::{Key, Place, Session, Who};

/// The certificate that a client has shown, and proved to have the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its common name.
    pub name: Arc<str>,
    /// An address for mail that stands in it.
    pub email: Option<Arc<str>>,
    /// The hash of all of it.
    pub hash: Key,
}

/// What is known of a request.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a str,
    /// The host that it is for.
    pub host: &'a str,
    /// TLS is spoken up to us, or up to a proxy that we trust.
    pub secure: bool,
    /// From where.
    pub client: IpAddr,
    /// Its route.
    pub route: &'a Arc<str>,
    /// The client's certificate.
    pub certificate: Option<&'a Arc<Shown>>,
}

impl Asked<'_> {
    pub(super) fn place(&self, login: &Ready) -> Place {
        Place {
            login: login.name.clone(),
            stamp: login.stamp,
            route: self.route.clone(),
            host: self.host.to_ascii_lowercase().into(),
            client: self.client,
        }
    }

    /// A person goes to a page, so that it makes sense to send them elsewhere.
    fn is_visit(&self) -> bool {
        let html = self
            .headers
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
        *self.method == Method::GET && html
    }
}

/// An answer in place of what was asked for.
#[derive(Debug)]
pub struct Turned {
    /// The status.
    pub status: StatusCode,
    /// Its name, as in metrics.
    pub what: &'static str,
    /// A sentence.
    pub text: String,
    /// What else is said.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Turned {
    /// Without more.
    pub fn new(status: StatusCode, what: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            what,
            text: text.into(),
            headers: Vec::new(),
        }
    }

    /// To another place.
    pub fn elsewhere(to: &str, cookies: impl IntoIterator<Item = Option<HeaderValue>>) -> Self {
        let mut turned = Self::new(StatusCode::SEE_OTHER, "elsewhere", "");
        if let Ok(to) = HeaderValue::from_str(to) {
            turned.headers.push((LOCATION, to));
        }
        let cookies = cookies.into_iter().flatten();
        turned
            .headers
            .extend(cookies.map(|cookie| (SET_COOKIE, cookie)));
        turned
    }
}

fn demanded(status: &'static str, what: &'static str, text: &str) -> Turned {
    let mut turned = Turned::new(StatusCode::UNAUTHORIZED, what, text);
    turned
        .headers
        .push((WWW_AUTHENTICATE, HeaderValue::from_static(status)));
    turned
}

const BASIC: &str = "Basic realm=\"comind-ops\", charset=\"UTF-8\"";
pub(super) const BEARER: &str = "Bearer realm=\"comind-ops\"";

/// A session, or why there is none.
type Admitted = Result<Arc<Session>, Turned>;

/// Who was let in.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Their session.
    pub session: Arc<Held>,
    /// How they proved who they are.
    pub login: Arc<Ready>,
}

impl Guest {
    /// Tells the upstream who it is, and keeps from it what was shown to us, unless the route hands
    /// that on.
    pub fn tell(&self, headers: &mut HeaderMap, tell: &Tell) {
        let told = &self.login.told;
        told::write(headers, &self.session.who, told.webauth);
        told::write_named(headers, &self.session.who, tell);
        let ours = matches!(
            told.means,
            Means::Basic(_) | Means::Bearer(_) | Means::Kubernetes(_)
        );
        if ours && !told.pass_authorization {
            headers.remove(AUTHORIZATION);
        }
        if let Some(form) = tell.token {
            told::hand_on(headers, form, self.session.kept.as_ref());
        }
    }
}

/// Lets it in.
///
/// # Errors
/// What to answer.
pub async fn admit(gate: &Gate, demand: &Demand, asked: &Asked<'_>) -> Result<Guest, Turned> {
    let admitted = match gate.get(&demand.login) {
        Some(login) => {
            let login = login.clone();
            let entered = enter(gate, &login, demand, asked).await;
            entered.map(|held| Guest {
                session: Arc::new(held),
                login,
            })
        }
        None => {
            let text = format!("the login `{}` of this route is not there", demand.login);
            Err(Turned::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_login",
                text,
            ))
        }
    };
    let sessions = &gate.common.sessions;
    match &admitted {
        Ok(guest) => guest.session.asks(),
        Err(turned) if turned.what != "elsewhere" => {
            sessions.counts.refused.fetch_add(1, Relaxed);
        }
        Err(_) => {}
    }
    admitted
}

async fn enter(
    gate: &Gate,
    login: &Arc<Ready>,
    demand: &Demand,
    asked: &Asked<'_>,
) -> Result<Held, Turned> {
    let session = match &login.told.means {
        Means::Basic(users) => basic(gate, login, users, asked).await?,
        Means::Bearer(_) => bearer(gate, login, asked)?,
        Means::Certificate(subjects) => certificate(gate, login, subjects, asked)?,
        Means::Oidc(_) => {
            by_cookie(gate, login, asked)?.ok_or_else(|| login_first(login, asked, None))?
        }
        Means::Kubernetes(_) => {
            let found = kubernetes::session(gate, login, asked).await?;
            fits(gate, login, demand, &found.0, asked)?;
            return kubernetes::let_in(gate, login, demand, found, asked).await;
        }
    };
    fits(gate, login, demand, &session, asked)?;
    if demand.right.is_some() {
        let text = "the route asks for a right in a cluster, and its login knows none";
        return Err(Turned::new(StatusCode::FORBIDDEN, "lacks_right", text));
    }
    Ok(session.hold())
}

/// Whether it has one of the roles.
fn fits(
    gate: &Gate,
    login: &Ready,
    demand: &Demand,
    session: &Session,
    asked: &Asked<'_>,
) -> Result<(), Turned> {
    let fits = demand.roles.is_empty()
        || session
            .who
            .roles
            .iter()
            .any(|role| demand.roles.contains(role));
    if fits {
        return Ok(());
    }
    if session.refused_at(asked.route) {
        let place = asked.place(login);
        let user = Some(&session.who.user);
        gate.common.sessions.refuse(&place, user, "lacks_role");
    }
    let text = format!(
        "{} has none of the roles that may come here: {}",
        session.who.user,
        demand.roles.join(", ")
    );
    Err(Turned::new(StatusCode::FORBIDDEN, "lacks_role", text))
}

/// The session that this key has, or a new one.
pub(super) fn begin(
    gate: &Gate,
    login: &Ready,
    key: Key,
    who: Who,
    asked: &Asked<'_>,
    kept: Option<Hidden>,
) -> Admitted {
    let sessions = &gate.common.sessions;
    sessions
        .begin(key, who, asked.place(login), login.terms(), kept)
        .map_err(|_| full())
}

/// A browser's session: its cookie stands for it from now on, and what the browser had until now counts
/// no more, so that nobody knows the new one beforehand. The answer leads to `to`, a path of this host.
pub(super) fn begin_by_cookie(
    gate: &Gate,
    asked: &Asked<'_>,
    who: Who,
    (place, terms): (Place, Terms),
    kept: Option<Hidden>,
    to: &str,
) -> Result<Turned, Turned> {
    let sessions = &gate.common.sessions;
    if let Some(before) = session_of(gate, asked) {
        sessions.end(&before, Why::Renewed, None);
    }
    let secret = gate.common.secret().ok_or_else(no_randomness)?;
    let key = cookie_key(gate, asked.host, &secret);
    let begun = sessions.begin(key, who, place, terms, kept);
    begun.map_err(|_| full())?;
    let name = cookie::session(asked.secure);
    let cookie = cookie::set(&name, &secret, asked.secure, terms.ttl);
    Ok(Turned::elsewhere(to, [cookie]))
}

/// There is no room.
pub(super) fn full() -> Turned {
    let text = "too many sessions are open; ask again later";
    Turned::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sessions", text)
}

/// There is no randomness.
pub(super) fn no_randomness() -> Turned {
    let text = "the system gives no randomness";
    Turned::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", text)
}

pub(super) fn wrong(gate: &Gate, login: &Ready, asked: &Asked<'_>, how: &'static str) -> Turned {
    gate.common
        .sessions
        .refuse(&asked.place(login), None, "wrong");
    demanded(how, "wrong", "the name, password or token is wrong")
}

pub(super) fn too_often() -> Turned {
    let text = "this address has tried too often; ask again in a moment";
    Turned::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", text)
}

/// What is shown with each request has one session for each client and host.
pub(super) fn key_of(gate: &Gate, login: &Ready, asked: &Asked<'_>, shown: &[u8]) -> Key {
    let host = asked.host.to_ascii_lowercase();
    let client = asked.client.to_string();
    let stamp = login.stamp.to_be_bytes();
    let parts = [&stamp[..], host.as_bytes(), client.as_bytes(), shown];
    gate.common.key_of(&parts)
}

async fn basic(gate: &Gate, login: &Ready, users: &[User], asked: &Asked<'_>) -> Admitted {
    let Some((name, password)) = credentials::basic(asked.headers) else {
        return Err(demanded(
            BASIC,
            "login_needed",
            "a name and a password are needed",
        ));
    };
    let shown = [&(name.len() as u64).to_be_bytes()[..], &name, &password].concat();
    let key = key_of(gate, login, asked, &shown);
    // A session stands for a password that was right: it need not be checked again.
    if let Some(session) = gate.common.sessions.find(&key) {
        return Ok(session);
    }
    if !gate.common.may_try(asked.client) {
        return Err(too_often());
    }
    let known = users.iter().find(|user| user.name.as_bytes() == name);
    // A stranger is checked against somebody's hash too, always the same one for a name, so that
    // time does not tell who exists.
    let stand_in = usize::from(gate.common.key_of(&[&name])[0]) % users.len().max(1);
    let Some(user) = known.or(users.get(stand_in)) else {
        return Err(wrong(gate, login, asked, BASIC));
    };
    let fits = check(gate, user, password).await?;
    if !fits || known.is_none() {
        return Err(wrong(gate, login, asked, BASIC));
    }
    let who = who(&user.name, &user.roles);
    begin(gate, login, key, who, asked, None)
}

async fn check(gate: &Gate, user: &User, password: Vec<u8>) -> Result<bool, Turned> {
    let busy = || {
        let text = "too many passwords are being checked; ask again in a moment";
        Turned::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
    };
    let _waiting = gate.common.waiting.try_acquire().map_err(|_| busy())?;
    let turn = tokio::time::timeout(PATIENCE, gate.common.checks.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(busy());
    };
    let hash = user.hash.clone();
    let checked = tokio::task::spawn_blocking(move || {
        // Held until the check ends, even where its request has gone away.
        let _turn = turn;
        password::fits(&hash, &password)
    });
    checked.await.map_err(|_| busy())
}

fn bearer(gate: &Gate, login: &Ready, asked: &Asked<'_>) -> Admitted {
    let Some(token) = credentials::bearer(asked.headers) else {
        return Err(demanded(BEARER, "login_needed", "a token is needed"));
    };
    let key = key_of(gate, login, asked, token);
    if let Some(session) = gate.common.sessions.find(&key) {
        return Ok(session);
    }
    if !gate.common.may_try(asked.client) {
        return Err(too_often());
    }
    // Hashes under a key of ours: how far they are the same tells nothing of a token.
    let hash = gate.common.key_of(&[token]);
    let at = login.tokens.iter().position(|known| *known == hash);
    let found = match (&login.told.means, at) {
        (Means::Bearer(tokens), Some(at)) => tokens.get(at),
        _ => None,
    };
    match found {
        Some(token) => {
            let kept = login.told.keep_token.then(|| token.token.clone());
            let who = who(&token.name, &token.roles);
            begin(gate, login, key, who, asked, kept)
        }
        None => Err(wrong(gate, login, asked, BEARER)),
    }
}

fn certificate(gate: &Gate, login: &Ready, subjects: &[Subject], asked: &Asked<'_>) -> Admitted {
    let Some(shown) = asked.certificate else {
        let text = "a certificate is needed, and none was shown";
        return Err(Turned::new(StatusCode::UNAUTHORIZED, "login_needed", text));
    };
    let key = key_of(gate, login, asked, &shown.hash);
    if let Some(session) = gate.common.sessions.find(&key) {
        return Ok(session);
    }
    let named = |subject: &&Subject| subject.name == shown.name;
    let found = subjects.iter().find(named);
    let found = found.or_else(|| subjects.iter().find(|subject| &*subject.name == "*"));
    let Some(subject) = found.filter(|_| told::is_tellable(&shown.name)) else {
        if gate.common.may_try(asked.client) {
            gate.common
                .sessions
                .refuse(&asked.place(login), Some(&shown.name), "unknown");
        }
        let text = format!(
            "the certificate of `{}` is not among those that may come here",
            shown.name
        );
        return Err(Turned::new(
            StatusCode::FORBIDDEN,
            "unknown_certificate",
            text,
        ));
    };
    let mut who = who(&shown.name, &subject.roles);
    who.email.clone_from(&shown.email);
    begin(gate, login, key, who, asked, None)
}

fn who(name: &Arc<str>, roles: &[Arc<str>]) -> Who {
    Who {
        user: name.clone(),
        name: None,
        email: None,
        roles: roles.to_vec(),
        groups: roles.to_vec(),
    }
}

/// The key of a session by its cookie: of one host, so that a cookie that is carried elsewhere
/// counts for nothing there.
fn cookie_key(gate: &Gate, host: &str, token: &str) -> Key {
    let host = host.to_ascii_lowercase();
    let parts = [&b"cookie"[..], host.as_bytes(), token.as_bytes()];
    gate.common.key_of(&parts)
}

/// The session that its cookie stands for, whatever its login.
pub(super) fn session_of(gate: &Gate, asked: &Asked<'_>) -> Option<Arc<Session>> {
    let token = cookie::read(asked.headers, &cookie::session(asked.secure))?;
    gate.common
        .sessions
        .find(&cookie_key(gate, asked.host, token))
}

/// The session of this login that a cookie stands for, if there is one.
///
/// # Errors
/// When a page of another host has a browser ask for a connection.
pub(super) fn by_cookie(
    gate: &Gate,
    login: &Ready,
    asked: &Asked<'_>,
) -> Result<Option<Arc<Session>>, Turned> {
    let upgrades = asked.headers.contains_key(UPGRADE);
    if upgrades && !local::is_same_host(asked.headers, asked.host) {
        let text = "a page of another host asks for a connection in your name";
        return Err(Turned::new(StatusCode::FORBIDDEN, "other_origin", text));
    }
    let session = session_of(gate, asked);
    Ok(session.filter(|session| session.place.stamp == login.stamp))
}

/// Nobody is logged in: a browser is sent to where that begins, others are told, with `how` where
/// they can show something.
pub(super) fn login_first(login: &Ready, asked: &Asked<'_>, how: Option<&'static str>) -> Turned {
    if !asked.is_visit() {
        let text = "nobody is logged in; open this host in a browser, and come back";
        return match how {
            Some(how) => demanded(how, "login_needed", text),
            None => Turned::new(StatusCode::UNAUTHORIZED, "login_needed", text),
        };
    }
    // What begins a login is a page of ours, so that a request waits for a provider nowhere else.
    let path = format!("{}login?", local::PATHS);
    let mut to = url::form_urlencoded::Serializer::for_suffix(path.clone(), path.len());
    to.append_pair("login", &login.name);
    to.append_pair("return", local::path(asked.target));
    Turned::elsewhere(&to.finish(), [])
}
