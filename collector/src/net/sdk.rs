//! The AWS SDKs' way to the network: our one held connection instead of a pool of their own,
//! so that its loss is heard and connections per target stay counted.
//! Must not know S3 or SQS.

use std::fmt;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use comind_model::reason::Reason;
use http_body_util::{BodyExt, Full};
use tokio::sync::Mutex;

use crate::net::dial::Endpoint;
use crate::net::http1::{self, HttpConnection};
use crate::probe::failure::{self, Failure};
use crate::secret::Secret;

/// The largest answer that is read: lists of buckets and queues are far smaller.
const ANSWER_LIMIT: usize = 4 << 20;

/// One connection, opened by the first request and again by the first after a loss.
#[derive(Clone)]
pub struct HeldClient(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    /// Host and port, for the header of requests that no SDK makes.
    authority: String,
    held: Mutex<Option<HttpConnection>>,
}

impl HeldClient {
    /// For one endpoint; connects when first asked.
    pub fn new(endpoint: Endpoint) -> Self {
        Self(Arc::new(Inner {
            authority: endpoint.address.to_string(),
            endpoint,
            held: Mutex::new(None),
        }))
    }

    /// Connects now.
    ///
    /// # Errors
    /// The cause by which it failed.
    pub async fn open(&self) -> Result<Option<f64>, Failure> {
        let connection = HttpConnection::open(&self.0.endpoint).await?;
        let expiry = connection.certificate_expiry();
        *self.0.held.lock().await = Some(connection);
        Ok(expiry)
    }

    /// Resolves once the held connection is closed.
    pub async fn closed(&self) {
        match &*self.0.held.lock().await {
            Some(connection) => connection.closed().await,
            None => std::future::pending().await,
        }
    }

    /// Asks on the held connection, opening it where there is none.
    ///
    /// # Errors
    /// The cause by which it failed.
    pub async fn fetch(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Bytes>, Failure> {
        let mut held = self.0.held.lock().await;
        let mut connection = match held.take() {
            Some(connection) if connection.is_open() => connection,
            _ => HttpConnection::open(&self.0.endpoint).await?,
        };
        // Taken out while in use: a request that is given up leaves no half-read connection.
        let answer = connection.fetch(request, ANSWER_LIMIT).await?;
        *held = Some(connection);
        Ok(answer)
    }

    /// GETs a path without a signature, as health paths want it.
    ///
    /// # Errors
    /// The cause by which it failed; a bad status is an answer like any other.
    pub async fn get(&self, path: &str) -> Result<http::Response<Bytes>, Failure> {
        self.fetch(http1::get(path, &self.0.authority)).await
    }

    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let mangled = |error: &dyn fmt::Display| {
            Failure::new(
                Reason::ProberFault,
                format!("failed to form a request: {error}"),
            )
        };
        let (mut head, body) = request
            .try_into_http1x()
            .map_err(|error| mangled(&error))?
            .into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| mangled(&error))?
            .to_bytes();
        // The connection speaks to one server: the request line has no host, the header has it.
        if let Some(authority) = head.uri.authority().cloned() {
            if let Ok(host) = authority.as_str().parse() {
                head.headers.insert(http::header::HOST, host);
            }
            let path = head.uri.path_and_query().cloned();
            head.uri = path.map(http::Uri::from).unwrap_or_default();
        }
        let answer = self
            .fetch(http::Request::from_parts(head, Full::new(body)))
            .await?;
        HttpResponse::try_from(answer.map(SdkBody::from)).map_err(|error| mangled(&error))
    }
}

impl fmt::Debug for HeldClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldClient({})", self.0.endpoint.address)
    }
}

impl HttpConnector for HeldClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = Self::call(&client, request).await;
            answer.map_err(|failure| ConnectorError::other(Box::new(failure), None))
        })
    }
}

impl HttpClient for HeldClient {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Fixed credentials for the SDKs.
pub fn credentials(access_key: &str, secret_key: &Secret) -> Credentials {
    Credentials::new(access_key, secret_key.reveal(), None, None, "config")
}

/// From an SDK's error: the connection's cause, or what `of_code` makes of the service's
/// error code. `tried` completes "failed to …".
pub fn failure<E>(
    tried: &str,
    error: &SdkError<E, HttpResponse>,
    of_code: fn(&str) -> Option<Reason>,
) -> Failure
where
    E: std::error::Error + aws_smithy_types::error::metadata::ProvideErrorMetadata + 'static,
{
    if let SdkError::ServiceError(service) = error {
        let status = service.raw().status().as_u16();
        let code = service.err().code().unwrap_or_default();
        let text = service.err().message().unwrap_or_default();
        let reason = of_code(code).unwrap_or_else(|| of_status(status));
        return Failure::new(
            reason,
            format!("failed to {tried}: HTTP {status} {code} {text}")
                .trim_end()
                .to_owned(),
        );
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(known) = current.downcast_ref::<Failure>() {
            return Failure::new(
                known.reason,
                format!("failed to {tried}: {}", known.message),
            );
        }
        cause = current.source();
    }
    Failure::new(
        Reason::ProtocolError,
        format!("failed to {tried}: {}", failure::chain(error)),
    )
}

fn of_status(status: u16) -> Reason {
    match status {
        401 | 403 => Reason::PermissionDenied,
        507 => Reason::DiskFull,
        500.. => Reason::ServerError,
        _ => Reason::BadStatus,
    }
}
