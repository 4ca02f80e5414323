//! What is told of sessions. Holds no secret: a session's id is not its cookie. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use comind_model::login::Why;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A session began.
    Begins(Box<Session>),
    /// It ended.
    Ends {
        /// Which.
        session: Box<Session>,
        /// Why.
        why: Why,
        /// Who ended it, where somebody did.
        by: Option<Arc<str>>,
        /// Requests.
        requests: u64,
        /// Bytes from the client.
        received: u64,
        /// Bytes to the client.
        sent: u64,
    },
    /// Somebody was not let in.
    Refused {
        /// By which login.
        login: Arc<str>,
        /// Which route was asked for.
        route: Arc<str>,
        /// Its host.
        host: Arc<str>,
        /// From where.
        client: IpAddr,
        /// Who, where that is proved.
        user: Option<Arc<str>>,
        /// In a word.
        reason: &'static str,
    },
}

/// What a line says of a session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: Arc<str>,
    /// Who.
    pub user: Arc<str>,
    /// How that was proved.
    pub login: Arc<str>,
    /// The route that it began at.
    pub route: Arc<str>,
    /// The host that it is for.
    pub host: Arc<str>,
    /// From where.
    pub client: IpAddr,
    /// When it began, and when it ends at the latest.
    pub since: Timestamp,
    /// When it ends at the latest.
    pub until: Timestamp,
}

impl Session {
    fn members(&self) -> Map<String, Value> {
        members(json!({
            "session": &*self.id,
            "user": &*self.user,
            "login": &*self.login,
            "route": &*self.route,
            "host": &*self.host,
            "client": self.client,
            "since": self.since.to_string(),
            "until": self.until.to_string(),
        }))
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

impl Entry {
    /// As members of a line; `at` is when it happened.
    pub fn members(&self, at: Timestamp) -> Map<String, Value> {
        let (event, mut line) = match self {
            Self::Begins(session) => ("session_begins", session.members()),
            Self::Ends {
                session,
                why,
                by,
                requests,
                received,
                sent,
            } => {
                let mut line = session.members();
                line.extend(members(json!({
                    "why": why.as_str(),
                    "by": by.as_deref(),
                    "requests": requests,
                    "received": received,
                    "sent": sent,
                })));
                ("session_ends", line)
            }
            Self::Refused {
                login,
                route,
                host,
                client,
                user,
                reason,
            } => (
                "refused",
                members(json!({
                    "login": &**login,
                    "route": &**route,
                    "host": &**host,
                    "client": client,
                    "user": user.as_deref(),
                    "why": reason,
                })),
            ),
        };
        line.insert("event".to_owned(), event.into());
        line.insert("at".to_owned(), at.to_string().into());
        line
    }
}

/// The first line of a file.
pub fn file(at: Timestamp, before: Option<&str>, fits: bool) -> Map<String, Value> {
    members(json!({
        "event": "file",
        "at": at.to_string(),
        "goes_on_from": before,
        "fits": fits,
    }))
}

/// So many entries found no room.
pub fn lost(at: Timestamp, count: u64) -> Map<String, Value> {
    members(json!({ "event": "lost", "at": at.to_string(), "count": count }))
}
