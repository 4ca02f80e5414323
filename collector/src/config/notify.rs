//! The section `notify`: who is told of outages, and when. Must not know how they are told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use comind_model::alert::Policy;
use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::duration::Span;
use super::secret_file;
use crate::net::tls::TlsSettings;
use crate::secret::{Secret, SecretUrl};

/// Who is told of outages.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Alertmanagers: base URLs, or maps with `url` and `tls`. All of them are told.
    pub alertmanager: Vec<Receiver>,
    /// Who gets each firing and each resolution as a signed POST: URLs, or maps with `url`,
    /// `secret` (or `secret_file`) and `tls`.
    pub webhooks: Vec<Receiver>,
    /// Open alerts are sent again this often, so that no receiver takes silence for their end.
    pub resend: Span,
    /// A required target of which nothing is known for this long is told of.
    pub unknown_after: Span,
    /// How long a target with `depends_on` waits to learn whether that one is down too.
    pub dependency_wait: Span,
    /// When a target counts as flapping.
    pub flapping: Flapping,
}

impl Default for Notify {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            alertmanager: Vec::new(),
            webhooks: Vec::new(),
            resend: Span(Duration::from_secs(30)),
            unknown_after: Span(policy.unknown_after),
            dependency_wait: Span(policy.dependency_wait),
            flapping: Flapping::default(),
        }
    }
}

impl Notify {
    /// The thresholds of the rules.
    pub fn policy(&self) -> Policy {
        Policy {
            unknown_after: self.unknown_after.0,
            dependency_wait: self.dependency_wait.0,
            flap_start: usize::from(self.flapping.start),
            flap_stop: usize::from(self.flapping.stop),
            flap_window: self.flapping.window.0,
        }
    }

    /// What is out of bounds, in words.
    pub fn problem(&self) -> Option<String> {
        let (second, day) = (Span::from_millis(1000), Span(Duration::from_secs(86_400)));
        let times = [
            ("resend", self.resend),
            ("unknown_after", self.unknown_after),
            ("flapping.window", self.flapping.window),
        ];
        for (key, span) in times {
            if let Err(problem) = span.within(second, day) {
                return Some(format!("`{key}`: {problem}"));
            }
        }
        (self.flapping.stop >= self.flapping.start).then(|| {
            let Flapping { start, stop, .. } = self.flapping;
            format!("`flapping`: `stop` ({stop}) must be below `start` ({start})")
        })
    }
}

/// When a target counts as flapping: told once, and resolved when it is over.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flapping {
    /// So many changes between up and down within `window` begin it.
    pub start: u8,
    /// So few end it.
    pub stop: u8,
    /// How far back changes are counted.
    pub window: Span,
}

impl Default for Flapping {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            start: policy.flap_start as u8,
            stop: policy.flap_stop as u8,
            window: Span(policy.flap_window),
        }
    }
}

/// Somebody who is told by HTTP: a URL, or a map with more.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(with = "ReceiverForm")]
pub struct Receiver {
    /// Where.
    pub url: SecretUrl,
    /// The key of the signature.
    pub secret: Option<Secret>,
    /// A file that holds it.
    pub secret_file: Option<PathBuf>,
    /// Whom to trust and what to show.
    pub tls: Option<TlsSettings>,
}

impl Receiver {
    /// Reads the secret from its file, where one is named.
    pub(super) fn take_secret(&mut self) -> Result<(), String> {
        match (&self.secret, &self.secret_file) {
            (Some(_), Some(_)) => {
                Err("`secret` and `secret_file` exclude each other; give one".to_owned())
            }
            (None, Some(file)) => {
                self.secret = Some(secret_file::read(file)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// How a receiver may be written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum ReceiverForm {
    Url(SecretUrl),
    More(More),
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct More {
    /// Where.
    url: SecretUrl,
    /// The key of the signature (HMAC-SHA256); webhooks only.
    #[serde(default)]
    secret: Option<Secret>,
    /// A file that holds it.
    #[serde(default)]
    secret_file: Option<PathBuf>,
    /// Whom to trust and what to show.
    #[serde(default)]
    tls: Option<TlsSettings>,
}

impl From<More> for Receiver {
    fn from(more: More) -> Self {
        Self {
            url: more.url,
            secret: more.secret,
            secret_file: more.secret_file,
            tls: more.tls,
        }
    }
}

impl<'de> Deserialize<'de> for Receiver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}

/// Tells the two forms apart, so that errors speak of the one that was meant.
struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = Receiver;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a map with `url`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Receiver, E> {
        let url = text.parse().map_err(E::custom)?;
        Ok(Receiver {
            url,
            secret: None,
            secret_file: None,
            tls: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Receiver, A::Error> {
        More::deserialize(de::value::MapAccessDeserializer::new(map)).map(Receiver::from)
    }
}
