//! A client for our own MinIO: the AWS SDK over plain HTTP on loopback.
//!
//! The SDK's own HTTP clients bring a second TLS stack; all we need is this adapter over hyper.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector as PlainConnector;
use hyper_util::rt::TokioExecutor;

use crate::cause;
use crate::services::settings::Minio;

/// A client for the MinIO of these settings; each attempt ends within `limit`.
pub fn client(settings: &Minio, limit: Duration) -> Client {
    let keys = Credentials::new(
        &settings.access_key,
        settings.secret_key.expose(),
        None,
        None,
        "comind-ops settings",
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(Plain::new())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(format!("http://127.0.0.1:{}", settings.port))
        .credentials_provider(keys)
        .force_path_style(true)
        // Whoever asks looks again by itself, and wants to say why it waits.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(limit).build())
        .build();
    Client::from_conf(config)
}

/// The names of all buckets.
///
/// # Errors
/// When the server does not answer, or refuses the keys.
pub async fn buckets(client: &Client) -> Result<Vec<String>> {
    let listed = client
        .list_buckets()
        .send()
        .await
        .map_err(|error| anyhow::anyhow!("{}", explain(&error)))
        .context("MinIO does not list its buckets")?;
    Ok(listed
        .buckets()
        .iter()
        .filter_map(|bucket| bucket.name().map(str::to_owned))
        .collect())
}

/// Makes a bucket.
///
/// # Errors
/// When the server refuses.
pub async fn create(client: &Client, bucket: &str) -> Result<()> {
    client
        .create_bucket()
        .bucket(bucket)
        .send()
        .await
        .map_err(|error| anyhow::anyhow!("{}", explain(&error)))
        .with_context(|| format!("MinIO does not make the bucket {bucket}"))?;
    Ok(())
}

/// The server's own words where there are any, else the deepest cause: the SDK's own text says
/// little, and its long form is for debuggers.
fn explain<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if let Some(service) = error.as_service_error()
        && let Some(code) = service.code()
    {
        return format!("{code}: {}", service.message().unwrap_or("no message"));
    }
    cause::root(error)
}

/// hyper's client in the SDK's clothes.
#[derive(Clone, Debug)]
struct Plain {
    client: legacy::Client<PlainConnector, SdkBody>,
}

impl Plain {
    fn new() -> Self {
        Self {
            client: legacy::Client::builder(TokioExecutor::new()).build_http(),
        }
    }
}

impl HttpConnector for Plain {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = client
                .request(request)
                .await
                .map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

impl HttpClient for Plain {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
