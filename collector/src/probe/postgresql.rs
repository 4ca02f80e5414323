//! PostgreSQL: one query on a held connection; the deep look writes on a fresh one and
//! rolls back.

mod judge;
mod sqlstate;

use std::path::PathBuf;
use std::sync::Arc;

use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, Statement};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::secret_file;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::address::Address;
use crate::net::dial::{self, Endpoint};
use crate::net::stream::Stream;
use crate::net::tls::{TlsClient, TlsSettings, certificate_expiry};
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session};
use crate::secret::SecretUrl;

/// The kind `postgresql`.
pub const KIND: Kind = Kind::of::<PostgresqlSettings>();

/// Settings of kind `postgresql`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "postgresql")]
pub struct PostgresqlSettings {
    /// The database: `postgres://user:password@host:port/database`. `sslmode=require` in it
    /// asks for TLS without checking the certificate, `sslmode=verify-full` with.
    pub url: SecretUrl,
    /// A file that holds the password, instead of the URL.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether it must accept writes. Off for a replica.
    #[serde(default = "yes")]
    pub writable: bool,
    /// A replica further behind than this many seconds asks for attention.
    #[serde(default = "minute")]
    pub replication_lag_max_seconds: u32,
    /// Whom to trust and what to show; its presence asks for TLS.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
}

fn yes() -> bool {
    true
}

fn minute() -> u32 {
    60
}

impl Settings for PostgresqlSettings {
    const NAME: &'static str = "postgresql";
    const ABOUT: &'static str = "A query on a held connection (connections used, read-only, recovery); deeply: a write that \
         is rolled back, on a new connection, and replication lag.";
    const METRICS: &'static [FactMetric] = judge::METRICS;

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let scheme = self.url.reveal().scheme();
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(format!(
                "the URL's scheme is `{scheme}`; kind postgresql asks postgres://"
            ));
        }
        let mut config = Config::new();
        config.user(self.url.username().unwrap_or_else(|| "postgres".to_owned()));
        match &self.password_file {
            Some(file) => config.password(secret_file::read(file)?.reveal()),
            None => config.password(
                self.url
                    .password()
                    .as_ref()
                    .map_or("", |password| password.reveal()),
            ),
        };
        let database = self.url.reveal().path().trim_start_matches('/');
        config.dbname(if database.is_empty() {
            "postgres"
        } else {
            database
        });
        config.application_name("comind-ops");
        // TLS is spoken before tokio-postgres gets the stream: it must not ask once more.
        config.ssl_mode(SslMode::Disable);
        Ok(Box::new(Postgresql {
            endpoint: Endpoint {
                address: Address::of(&self.url, Some(5432))?,
                tls: tls(&self.url, self.tls)?,
            },
            config,
            rules: judge::Rules {
                writable: self.writable,
                lag_max_seconds: f64::from(self.replication_lag_max_seconds),
            },
            leave: Arc::default(),
        }))
    }
}

/// TLS as `sslmode` in the URL and the section `tls` ask for it.
fn tls(url: &SecretUrl, section: Option<TlsSettings>) -> Result<Option<TlsClient>, String> {
    let mode = url.reveal().query_pairs().find(|(key, _)| key == "sslmode");
    let mode = mode.as_ref().map_or("", |(_, mode)| mode);
    let settings = match (mode, section) {
        ("disable" | "", None) => return Ok(None),
        ("disable", Some(_)) => {
            return Err(
                "the URL says sslmode=disable, but `tls` is given; take one away".to_owned(),
            );
        }
        ("" | "verify-full", section) => section.unwrap_or_default(),
        ("require", None) => TlsSettings {
            insecure_skip_verify: true,
            ..TlsSettings::default()
        },
        ("require", Some(section)) => section,
        (other, _) => {
            return Err(format!(
                "sslmode={other} is not known; use disable, require or verify-full"
            ));
        }
    };
    TlsClient::new(&settings, url.host()).map(Some)
}

struct Postgresql {
    endpoint: Endpoint,
    config: Config,
    rules: judge::Rules,
    /// Tells the held connection to go: a server that was asked to shut down waits for every
    /// client, and serves it as ever, so only new connections hear of it.
    leave: Arc<Notify>,
}

struct Opened {
    client: Client,
    closed: CancellationToken,
    certificate_expiry: Option<f64>,
    _driver: AbortOnDropHandle<()>,
}

impl Postgresql {
    async fn open(&self) -> Result<Opened, Failure> {
        let opened = self.log_in().await;
        if let Err(failure) = &opened
            && failure.reason == Reason::ShuttingDown
        {
            self.leave.notify_waiters();
        }
        opened
    }

    async fn log_in(&self) -> Result<Opened, Failure> {
        let (stream, certificate_expiry) = self.dial().await?;
        let started = self.config.connect_raw(stream, NoTls).await;
        let (client, connection) = started.map_err(|error| sqlstate::failure("log in", &error))?;
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        let driver = tokio::spawn(async move {
            // Its error reaches whoever waits for an answer; an idle end is told by `closed`.
            let _ = connection.await;
            drop(ended);
        });
        Ok(Opened {
            client,
            closed,
            certificate_expiry,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    async fn dial(&self) -> Result<(Stream, Option<f64>), Failure> {
        let mut tcp = dial::tcp(&self.endpoint.address).await?;
        let Some(tls) = &self.endpoint.tls else {
            return Ok((Stream::Plain(tcp), None));
        };
        // SSLRequest of the frontend/backend protocol: length 8, code 80877103; answered by one byte.
        let asked = async {
            tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
            tcp.read_u8().await
        };
        match asked
            .await
            .map_err(|error| Failure::io("ask for TLS", &error))?
        {
            b'S' => {
                let stream = tls.handshake(tcp).await?;
                let expiry = certificate_expiry(&stream);
                Ok((Stream::Tls(Box::new(stream)), expiry))
            }
            _ => Err(Failure::new(
                Reason::TlsError,
                "the server does not offer TLS; set ssl = on there, or sslmode=disable here",
            )),
        }
    }
}

impl Probe for Postgresql {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            let opened = self.open().await?;
            let prepared = opened.client.prepare(judge::LOOK).await;
            let statement =
                prepared.map_err(|error| sqlstate::failure("prepare the look", &error))?;
            Ok(Box::new(PostgresqlSession {
                opened,
                statement,
                rules: self.rules,
                leave: self.leave.clone(),
            }) as Box<dyn Session>)
        })
    }

    fn has_deep(&self) -> bool {
        true
    }

    fn deep(&self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let opened = self.open().await?;
            let client = &opened.client;
            if self.rules.writable {
                let written = client.batch_execute(judge::WRITE).await;
                written.map_err(|error| sqlstate::failure("write and roll back", &error))?;
            }
            let asked = client.query_one(judge::LAG, &[]).await;
            let row =
                asked.map_err(|error| sqlstate::failure("ask for the replication lag", &error))?;
            let mut seen = judge::lag(&row, &self.rules)?;
            let asked = client.query_one(judge::STATISTICS, &[]).await;
            let row = asked.map_err(|error| sqlstate::failure("ask for statistics", &error))?;
            judge::statistics(&row, &mut seen)?;
            let asked = client.query(judge::ACTIVITY, &[]).await;
            let rows = asked.map_err(|error| sqlstate::failure("ask for activity", &error))?;
            judge::activity(&rows, &mut seen)?;
            dial::note_certificate(&mut seen, opened.certificate_expiry);
            Ok(seen)
        })
    }
}

struct PostgresqlSession {
    opened: Opened,
    statement: Statement,
    rules: judge::Rules,
    leave: Arc<Notify>,
}

impl Session for PostgresqlSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let asked = self.opened.client.query_one(&self.statement, &[]).await;
            let row = asked.map_err(|error| sqlstate::failure("query", &error))?;
            judge::look(&row, &self.rules)
        })
    }

    fn heartbeat(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let asked = self.opened.client.check_connection().await;
            asked.map_err(|error| sqlstate::failure("query", &error))
        })
    }

    fn closed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            tokio::select! {
                () = self.opened.closed.cancelled() => {}
                () = self.leave.notified() => {}
            }
        })
    }
}
