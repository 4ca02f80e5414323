//! Makes what must exist inside a running service; what exists is left alone.

use anyhow::{Context as _, Result};

use crate::services::catalog::{Creation, Service, creations};
use crate::services::ready;
use crate::services::s3;
use crate::services::settings::Settings;
use crate::services::sqs::Sqs;

/// Makes what is missing; says what was made.
///
/// # Errors
/// When the service refuses.
pub async fn missing(service: Service, settings: &Settings) -> Result<Vec<String>> {
    let mut made = Vec::new();
    for creation in creations(service, settings) {
        match creation {
            Creation::Database(name) => made.extend(database(settings, &name).await?),
            Creation::Bucket(name) => made.extend(bucket(settings, &name).await?),
            Creation::Queue(queue) => {
                let sqs = Sqs::on(settings.services.elasticmq.port);
                let queues = sqs.create(&queue).await?;
                made.extend(queues.into_iter().map(|name| format!("queue {name}")));
            }
        }
    }
    Ok(made)
}

async fn database(settings: &Settings, name: &str) -> Result<Option<String>> {
    let session = ready::connect(settings, "postgres").await?;
    let there = session
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
        .await
        .context("PostgreSQL does not list its databases")?;
    if there.is_some() {
        return Ok(None);
    }
    session
        .batch_execute(&format!("CREATE DATABASE {}", quoted(name)))
        .await
        .with_context(|| format!("PostgreSQL does not make the database {name}"))?;
    Ok(Some(format!("database {name}")))
}

async fn bucket(settings: &Settings, name: &str) -> Result<Option<String>> {
    let client = s3::client(&settings.services.minio, ready::LIMIT * 5);
    if s3::buckets(&client)
        .await?
        .iter()
        .any(|there| there == name)
    {
        return Ok(None);
    }
    s3::create(&client, name).await?;
    Ok(Some(format!("bucket {name}")))
}

/// An SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn identifiers_cannot_be_left() {
        assert_eq!(super::quoted("a\"; DROP"), "\"a\"\"; DROP\"");
    }
}
