//! A login by tokens of a cluster: its API server says who has one (TokenReview), and whether they
//! may (SubjectAccessReview). Shown with each request, or once on our page for a session.

pub mod answers;
pub mod api;
pub mod page;
pub mod recheck;
pub mod reviewer;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use comind_model::login::{Demand, Hidden, Kubernetes, Why};
use http::{StatusCode, header};

use self::answers::Known;
use self::api::Person;
use self::reviewer::{Answer, Reviewer};
use super::door::{self, Asked, Turned};
use super::gate::{Gate, Ready};
use super::{credentials, local, told};
use crate::session::held::Held;
use crate::session::table::{Key, Session, Who};

/// A session and who has it, as the cluster knows them now.
type Found = (Arc<Session>, Arc<Person>);

/// Shorter or longer ones are none.
const LENGTHS: std::ops::RangeInclusive<usize> = 1..=8192;

/// Who it is, for us.
pub(super) fn who(person: &Person, told: &Kubernetes) -> Who {
    let has = |wanted: &Vec<Arc<str>>| wanted.iter().any(|group| person.groups.contains(group));
    let roles = told.roles.iter().filter(|(_, wanted)| has(wanted));
    Who {
        user: person.user.clone(),
        name: None,
        email: None,
        roles: roles.map(|(role, _)| role.clone()).collect(),
        groups: person.groups.clone(),
    }
}

/// What a token is remembered by.
pub(super) fn key_of(gate: &Gate, login: &Ready, token: &Hidden) -> Key {
    let stamp = login.stamp.to_be_bytes();
    let parts = [&b"token"[..], &stamp, token.reveal().as_bytes()];
    gate.common.key_of(&parts)
}

fn away(why: &str) -> Turned {
    let text = format!("the cluster that decides who may come here cannot be asked: {why}");
    Turned::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_away", text)
}

fn reviewer(login: &Ready) -> Result<&Arc<Reviewer>, Turned> {
    let found = login.reviewer.as_ref();
    found.ok_or_else(|| away("nobody is there to ask"))
}

/// The session of who asks.
pub(super) async fn session(
    gate: &Gate,
    login: &Arc<Ready>,
    asked: &Asked<'_>,
) -> Result<Found, Turned> {
    match credentials::bearer(asked.headers) {
        Some(token) => by_header(gate, login, asked, token).await,
        None => by_cookie(gate, login, asked).await,
    }
}

async fn by_header(
    gate: &Gate,
    login: &Arc<Ready>,
    asked: &Asked<'_>,
    token: &[u8],
) -> Result<Found, Turned> {
    let reviewer = reviewer(login)?;
    let sessions = &gate.common.sessions;
    let Some(token) = read(token) else {
        return Err(door::wrong(gate, login, asked, door::BEARER));
    };
    let key = door::key_of(gate, login, asked, token.reveal().as_bytes());
    let hash = key_of(gate, login, &token);
    let session = sessions.find(&key);
    // What a cluster has said yes to is no try, and many requests of a program that begins are one.
    let tried = session.is_none() && !reviewer.is_in_hand(&hash);
    if tried && !gate.common.may_try(asked.client) {
        return Err(door::too_often());
    }
    let person = match reviewer.who(hash, &token).await {
        Answer::Known(Known::Yes(person)) => person,
        Answer::Known(Known::No) => {
            if let Some(session) = session {
                sessions.end(&session, Why::Unknown, None);
            }
            return Err(door::wrong(gate, login, asked, door::BEARER));
        }
        Answer::Away(why) => return Err(away(&why)),
    };
    let who = known(&person, reviewer.told())?;
    if let Some(session) = session {
        if session.who == who {
            return Ok((session, person));
        }
        sessions.end(&session, Why::Changed, None);
    }
    let begun = door::begin(gate, login, key, who, asked, Some(token))?;
    Ok((begun, person))
}

async fn by_cookie(gate: &Gate, login: &Arc<Ready>, asked: &Asked<'_>) -> Result<Found, Turned> {
    let reviewer = reviewer(login)?;
    let session = door::by_cookie(gate, login, asked)?;
    let Some((session, token)) = session.and_then(|one| Some((one.clone(), one.kept.clone()?)))
    else {
        return Err(door::login_first(login, asked, Some(door::BEARER)));
    };
    let why = match reviewer.who(key_of(gate, login, &token), &token).await {
        Answer::Known(Known::Yes(person)) if who(&person, reviewer.told()) == session.who => {
            return Ok((session, person));
        }
        // Who it is has changed: what they are is read anew with the next login.
        Answer::Known(Known::Yes(_)) => Why::Changed,
        Answer::Known(Known::No) => Why::Unknown,
        Answer::Away(why) => return Err(away(&why)),
    };
    gate.common.sessions.end(&session, why, None);
    Err(door::login_first(login, asked, Some(door::BEARER)))
}

fn known(person: &Person, told: &Kubernetes) -> Result<Who, Turned> {
    let who = who(person, told);
    if told::is_tellable(&who.user) {
        return Ok(who);
    }
    let text = "the cluster gives a name that cannot stand in a header";
    Err(Turned::new(StatusCode::FORBIDDEN, "odd_name", text))
}

fn read(token: &[u8]) -> Option<Hidden> {
    let text = std::str::from_utf8(token.trim_ascii()).ok()?;
    let good = LENGTHS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| Hidden::new(text))
}

/// Lets a session in where a route wants a right, and has it looked after while it lasts.
pub(super) async fn let_in(
    gate: &Gate,
    login: &Arc<Ready>,
    demand: &Demand,
    (session, person): Found,
    asked: &Asked<'_>,
) -> Result<Held, Turned> {
    let reviewer = reviewer(login)?;
    let Some(right) = &demand.right else {
        return Ok(session.hold_by(None, reviewer.now()));
    };
    match reviewer.may(&gate.common, &person, right).await {
        Answer::Known(Known::Yes(())) => Ok(session.hold_by(Some(right), reviewer.now())),
        Answer::Known(Known::No) => {
            if session.refused_at(asked.route) {
                let user = Some(&session.who.user);
                let place = asked.place(login);
                gate.common.sessions.refuse(&place, user, "lacks_right");
            }
            let text = format!(
                "{} may not come here: the cluster does not give them the right to {right}",
                session.who.user
            );
            Err(Turned::new(StatusCode::FORBIDDEN, "lacks_right", text))
        }
        Answer::Away(why) => Err(away(&why)),
    }
}

/// The page on which a token is pasted.
pub(super) fn show(login: &Ready, wanted: &str, trouble: Option<&str>) -> Turned {
    let status = match trouble {
        None => StatusCode::OK,
        Some(_) => StatusCode::UNAUTHORIZED,
    };
    let text = page::text(&login.name, wanted, trouble);
    let mut turned = Turned::new(status, "login_page", text);
    turned.headers.extend(page::headers());
    turned
}

/// A token came from our page: a session begins.
pub(super) async fn pasted(
    gate: &Gate,
    login: &Arc<Ready>,
    wanted: &str,
    form: &[u8],
    asked: &Asked<'_>,
) -> Result<Turned, Turned> {
    if !local::is_same_origin(asked.headers, asked.host, asked.secure) {
        let text = "a token is taken from a page of this host alone";
        return Err(Turned::new(StatusCode::FORBIDDEN, "other_origin", text));
    }
    if !gate.common.may_try(asked.client) {
        return Err(door::too_often());
    }
    let reviewer = reviewer(login)?;
    let wrong = || {
        let sessions = &gate.common.sessions;
        sessions.refuse(&asked.place(login), None, "wrong");
        sessions.counts.refused.fetch_add(1, Relaxed);
        show(login, wanted, Some("The cluster does not know that token."))
    };
    let mut pairs = url::form_urlencoded::parse(form);
    let token = pairs.find(|(name, _)| name == "token");
    let Some(token) = token.and_then(|(_, token)| read(token.as_bytes())) else {
        return Err(wrong());
    };
    let person = match reviewer.who(key_of(gate, login, &token), &token).await {
        Answer::Known(Known::Yes(person)) => person,
        Answer::Known(Known::No) => return Err(wrong()),
        Answer::Away(why) => return Err(away(&why)),
    };
    let who = known(&person, reviewer.told())?;
    let how = (asked.place(login), login.terms());
    door::begin_by_cookie(gate, asked, who, how, Some(token), wanted)
}

/// Whether a form of ours can be in a request with these headers.
pub fn is_form(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
