//! Traces by OTLP, where the environment names a collector of them: what each look, each message
//! and each request took. Must not know what is traced.
//!
//! The variables are those of the OpenTelemetry specification (configuration/sdk-environment-variables,
//! protocol/exporter): `OTEL_EXPORTER_OTLP_ENDPOINT` and the like; the protocol is http/protobuf.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::metrics::Build;
use crate::net::dial::Endpoint;
use crate::net::http1::HttpConnection;
use crate::secret::SecretUrl;

/// The tracing target of our spans: nothing else has it, so that without traces none is made.
pub const TARGET: &str = "comind::trace";

/// Either of them asks for traces.
const ASKING: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// How long one delivery may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// So much of an answer is read.
const ANSWER: usize = 64 << 10;

/// What makes and delivers the traces, if the environment asks for them. Deliveries run on
/// `runtime`; what cannot be delivered is dropped. `ids` names the spans.
///
/// # Errors
/// When what the environment says cannot be used.
pub fn provider(
    build: Build,
    runtime: Handle,
    ids: impl IdGenerator + 'static,
) -> Result<Option<SdkTracerProvider>, String> {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let Some(asking) = ASKING.iter().find(|name| set(name)) else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client { runtime })
        .build()
        .map_err(|error| format!("failed to prepare traces as {asking} asks: {error}"))?;
    let resource = Resource::builder()
        .with_service_name("comind-ops")
        .with_attribute(KeyValue::new("service.version", build.version))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_id_generator(ids)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Delivers over our own HTTP, from a thread that has no runtime.
struct Client {
    runtime: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: Request<Bytes>) -> Sent<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let (done, wait) = oneshot::channel();
        self.runtime.spawn(async move {
            let sent = timeout(DEADLINE, send(request)).await;
            let sent = sent.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")));
            // Nobody waits any more only when the program ends.
            let _ = done.send(sent);
        });
        Box::pin(async {
            let sent = wait.await.map_err(|_| "the program ends")?;
            Ok(sent?)
        })
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let url: SecretUrl = request.uri().to_string().parse()?;
    let endpoint = Endpoint::of(&url, None, "https", None)?;
    let authority = endpoint.address.to_string();
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse().map_err(|error| format!("{error}"))?;
    let host = authority.parse().map_err(|error| format!("{error}"))?;
    head.headers.insert(header::HOST, host);
    let request = Request::from_parts(head, Full::new(body));
    let mut connection = HttpConnection::open(&endpoint)
        .await
        .map_err(|failure| format!("{authority}: {failure}"))?;
    let answer = connection.fetch(request, ANSWER).await;
    answer.map_err(|failure| format!("{authority}: {failure}"))
}
