//! Whether a service really answers: one question to each, as a client would ask it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::services::catalog::Service;
use crate::services::s3;
use crate::services::settings::Settings;
use crate::services::sqs::Sqs;

/// How long one question may take.
pub const LIMIT: Duration = Duration::from_secs(2);

/// Asks the service.
///
/// # Errors
/// With what came back, when it does not answer well within [`LIMIT`].
pub async fn ask(service: Service, settings: &Settings) -> Result<()> {
    let asked = async {
        match service {
            Service::Postgresql => postgresql(settings).await,
            Service::Minio => {
                let client = s3::client(&settings.services.minio, LIMIT);
                s3::buckets(&client).await.map(drop)
            }
            Service::Redis => redis(settings).await,
            Service::Elasticmq => {
                let sqs = Sqs::on(settings.services.elasticmq.port);
                sqs.queues(LIMIT).await.map(drop)
            }
        }
    };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer within {} s", LIMIT.as_secs()),
    }
}

async fn postgresql(settings: &Settings) -> Result<()> {
    let session = connect(settings, "postgres").await?;
    session
        .simple_query("SELECT 1")
        .await
        .context("SELECT 1 failed")?;
    Ok(())
}

/// A session with PostgreSQL that ends when it is dropped.
///
/// # Errors
/// When the server refuses it.
pub async fn connect(settings: &Settings, database: &str) -> Result<tokio_postgres::Client> {
    let of = &settings.services.postgresql;
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(of.port)
        .user(&of.user)
        .password(of.password.expose())
        .dbname(database)
        .application_name("comind-ops")
        .connect_timeout(LIMIT)
        .connect(tokio_postgres::NoTls)
        .await
        .map_err(|error| anyhow::anyhow!("{}", explain(&error)))?;
    // Ends by itself when the client is dropped.
    tokio::spawn(connection);
    Ok(client)
}

/// The server's own words where there are any: the library's Display says only "db error".
fn explain(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match error.as_db_error() {
        Some(server) => server.message().to_owned(),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

async fn redis(settings: &Settings) -> Result<()> {
    let url = format!("redis://127.0.0.1:{}/", settings.services.redis.port);
    let asked = async {
        let mut connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        redis::cmd("PING")
            .query_async::<String>(&mut connection)
            .await
    };
    // The library's errors name their source in their own text: the chain would say it twice.
    match asked.await {
        Ok(pong) if pong == "PONG" => Ok(()),
        Ok(other) => bail!("PING was answered by {other}"),
        Err(error) => bail!("{error}"),
    }
}
