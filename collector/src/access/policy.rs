//! What is demanded of whoever asks the API, as the config in force has it. Plain values.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::password::Hash;
use super::tls::{ClientCertificates, ServerTls};
use crate::secret::Secret;

/// What is demanded of whoever asks.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// With which certificate TLS is spoken; plain HTTP without one.
    pub tls: Option<ServerTls>,
    /// Names with the hashes of their passwords.
    pub users: Vec<(String, Hash)>,
    /// Names with their bearer tokens.
    pub tokens: Vec<(String, Secret)>,
    /// Names of users and tokens that may look and change nothing.
    pub read_only: BTreeSet<String>,
    /// `/livez` and `/readyz` are answered without login.
    pub open_health: bool,
    /// How often one client may ask; as often as it likes without it.
    pub rate: Option<Rate>,
    /// Headers that replace ours.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// One request each `period`, and `burst` at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one request is earned.
    pub period: Duration,
    /// The most that can be saved up.
    pub burst: NonZeroU32,
}

impl Policy {
    /// Whether a password or a token is asked for.
    pub fn has_login(&self) -> bool {
        !self.users.is_empty() || !self.tokens.is_empty()
    }

    /// Whether strangers are kept out: by a login, or by certificates that all must show.
    pub fn keeps_out(&self) -> bool {
        let clients = self.tls.as_ref().map(|tls| tls.clients);
        self.has_login() || clients == Some(ClientCertificates::Require)
    }

    /// What is missing where others than this machine can connect, in words.
    pub fn lacks(&self) -> Option<&'static str> {
        match (self.tls.is_some(), self.keeps_out()) {
            (true, true) => None,
            (true, false) => Some(
                "there is no login: whoever reaches it sees every target; set `api.users` or `api.tokens`",
            ),
            (false, true) => {
                Some("there is no TLS: passwords and tokens can be read on the way; set `api.tls`")
            }
            (false, false) => Some(
                "there is no TLS and no login: whoever reaches it sees every target; \
                 set `api.tls` and `api.users`",
            ),
        }
    }
}
