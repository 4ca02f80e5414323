//! Redis: PING and INFO on a held connection; the deep look writes, reads and deletes a
//! key of its own.
//!
//! Source of the error words: the Redis documentation on `-ERR`-style replies (OOM, READONLY,
//! MISCONF, LOADING, NOAUTH, WRONGPASS, NOPERM, MASTERDOWN).

mod info;

use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, ServerError};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::secret_file;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::dial::{self, Endpoint};
use crate::net::tls::TlsSettings;
use crate::probe::failure::{self, Failure};
use crate::probe::{Probe, Seen, Session};
use crate::secret::{Secret, SecretUrl};

/// The kind `redis`.
pub const KIND: Kind = Kind::of::<RedisSettings>();

/// How long a canary key lives should its deletion fail, in seconds.
const CANARY_SECONDS: u64 = 60;

/// Settings of kind `redis`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "redis")]
pub struct RedisSettings {
    /// The server: `redis://[user:password@]host:port[/db]`, or `rediss://` with TLS.
    pub url: SecretUrl,
    /// A file that holds the password, instead of the URL.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether the deep look writes a key. Off for a replica.
    #[serde(default = "yes")]
    pub writable: bool,
    /// Whom to trust and what to show.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
}

fn yes() -> bool {
    true
}

impl Settings for RedisSettings {
    const NAME: &'static str = "redis";
    const ABOUT: &'static str = "PING and INFO on a held connection (role, loading, memory, clients); deeply: SET, GET and DEL of a canary key.";
    const METRICS: &'static [FactMetric] = info::METRICS;

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let scheme = self.url.reveal().scheme();
        if !matches!(scheme, "redis" | "rediss") {
            return Err(format!(
                "the URL's scheme is `{scheme}`; kind redis asks redis:// or rediss://"
            ));
        }
        let password = match &self.password_file {
            Some(file) => Some(secret_file::read(file)?),
            None => self.url.password(),
        };
        Ok(Box::new(Redis {
            endpoint: Endpoint::of(&self.url, Some(6379), "rediss", self.tls.as_ref())?,
            login: login(&self.url, password.as_ref())?,
            writable: self.writable,
        }))
    }
}

fn login(url: &SecretUrl, password: Option<&Secret>) -> Result<RedisConnectionInfo, String> {
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(user) = url.username() {
        info = info.set_username(user);
    }
    if let Some(password) = password {
        info = info.set_password(password.reveal());
    }
    match url.reveal().path().trim_start_matches('/') {
        "" => Ok(info),
        db => match db.parse() {
            Ok(db) => Ok(info.set_db(db)),
            Err(_) => Err(format!(
                "`{db}` is no database number; write redis://host:port/0"
            )),
        },
    }
}

struct Redis {
    endpoint: Endpoint,
    login: RedisConnectionInfo,
    writable: bool,
}

impl Redis {
    async fn open(&self) -> Result<RedisSession, Failure> {
        let dialled = self.endpoint.dial().await?;
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        let (opened, opening) = oneshot::channel();
        let login = self.login.clone();
        // The task that drives also opens: so an abandoned opening ends with it.
        let driver = tokio::spawn(async move {
            // Deadlines are the source's: the library's own of 500 ms would cut answers short.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let opened_by = MultiplexedConnection::new_with_config(&login, dialled.stream, config);
            match opened_by.await {
                Ok((connection, driver)) => {
                    // Nobody waits any more: the look was given up, and this task with it.
                    let _ = opened.send(Ok(connection));
                    driver.await;
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            drop(ended);
        });
        let driver = AbortOnDropHandle::new(driver);
        let connection = opening
            .await
            .map_err(|_| {
                Failure::new(
                    Reason::ProberFault,
                    "the connection's task ended before it was open",
                )
            })?
            .map_err(|error| of_error("log in", &error))?;
        Ok(RedisSession {
            connection,
            closed,
            certificate_expiry: dialled.certificate_expiry,
            _driver: driver,
        })
    }
}

impl Probe for Redis {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async { Ok(Box::new(self.open().await?) as Box<dyn Session>) })
    }

    fn has_deep(&self) -> bool {
        self.writable
    }

    fn deep(&self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let mut session = self.open().await?;
            session.canary().await?;
            Ok(Seen::default())
        })
    }
}

struct RedisSession {
    connection: MultiplexedConnection,
    closed: CancellationToken,
    certificate_expiry: Option<f64>,
    _driver: AbortOnDropHandle<()>,
}

impl Session for RedisSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let (pong, text): (String, String) = redis::pipe()
                .cmd("PING")
                .cmd("INFO")
                .query_async(&mut self.connection)
                .await
                .map_err(|error| of_error("PING", &error))?;
            expect_pong(&pong)?;
            let mut seen = info::judge(&text)?;
            dial::note_certificate(&mut seen, self.certificate_expiry);
            Ok(seen)
        })
    }

    fn heartbeat(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let pong: Result<String, _> =
                redis::cmd("PING").query_async(&mut self.connection).await;
            expect_pong(&pong.map_err(|error| of_error("PING", &error))?)
        })
    }

    fn closed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.closed.cancelled())
    }
}

impl RedisSession {
    async fn canary(&mut self) -> Result<(), Failure> {
        let token = crate::probe::canary::token();
        let key = format!("comind-ops:canary:{token}");
        let set: Result<(), _> = redis::cmd("SET")
            .arg(&key)
            .arg(&token)
            .arg("EX")
            .arg(CANARY_SECONDS)
            .query_async(&mut self.connection)
            .await;
        set.map_err(|error| of_error("SET a canary key", &error))?;
        let got: Option<String> = redis::cmd("GET")
            .arg(&key)
            .query_async(&mut self.connection)
            .await
            .map_err(|error| of_error("GET the canary key", &error))?;
        let deleted: Result<(), _> = redis::cmd("DEL")
            .arg(&key)
            .query_async(&mut self.connection)
            .await;
        deleted.map_err(|error| of_error("DEL the canary key", &error))?;
        match got {
            Some(got) if got == token => Ok(()),
            Some(_) => Err(Failure::new(
                Reason::DataMismatch,
                "GET gave another value than SET had written",
            )),
            None => Err(Failure::new(
                Reason::DataMismatch,
                "the key was gone right after SET; is it evicted at once?",
            )),
        }
    }
}

fn expect_pong(answer: &str) -> Result<(), Failure> {
    match answer {
        "PONG" => Ok(()),
        _ => Err(Failure::new(
            Reason::ProtocolError,
            "the answer to PING is not PONG",
        )),
    }
}

fn of_error(tried: &str, error: &RedisError) -> Failure {
    let answered = first_answer(error);
    let text = match &answered {
        Some(server) => server.to_string(),
        None => failure::chain(error),
    };
    let code = answered.as_ref().map(ServerError::code).or(error.code());
    let reason = match code.unwrap_or_default() {
        "NOAUTH" | "WRONGPASS" => Reason::WrongPassword,
        "NOPERM" => Reason::PermissionDenied,
        "OOM" => Reason::OutOfMemory,
        "READONLY" => Reason::ReadOnly,
        "MISCONF" => Reason::DiskFull,
        "LOADING" => Reason::Starting,
        "MASTERDOWN" | "NOREPLICAS" => Reason::ReplicationBroken,
        _ if text.contains("max number of clients") => Reason::TooManyConnections,
        _ if matches!(error.kind(), redis::ErrorKind::AuthenticationFailed) => {
            Reason::WrongPassword
        }
        _ if error.is_timeout() => Reason::Timeout,
        _ if error.is_connection_dropped() => Reason::ConnectionClosed,
        _ => return Failure::chained(tried, error, Reason::ServerError),
    };
    Failure::new(reason, format!("failed to {tried}: {text}"))
}

/// What the server itself said, also where it said so to each of several commands.
fn first_answer(error: &RedisError) -> Option<ServerError> {
    let answers = error.clone().into_server_errors()?;
    answers.first().map(|(_, answer)| answer.clone())
}
