//! One POST after the other to one place, on a held connection, each with a deadline.
//! Must not know what is posted, nor when to try again.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::config::notify::Receiver;
use crate::net::dial::Endpoint;
use crate::net::http1::{self, HttpConnection};
use crate::probe::failure::Failure;
use crate::probe::http::basic;
use crate::secret::Secret;
use crate::traces;

/// How long one POST may take, connecting included.
const DEADLINE: Duration = Duration::from_secs(5);
/// So much of an answer is read.
const ANSWER: usize = 64 << 10;
/// So much of it is repeated in an error.
const SHOWN: usize = 200;

/// Somebody who is posted to.
pub struct Poster {
    endpoint: Endpoint,
    authority: String,
    path: String,
    login: Option<HeaderValue>,
    held: Option<HttpConnection>,
}

impl Poster {
    /// For a receiver; `path` is added to the path of its URL.
    ///
    /// # Errors
    /// What is wrong with its URL or its TLS settings.
    pub fn new(receiver: &Receiver, path: &str) -> Result<Self, String> {
        let url = receiver.url.reveal();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "the URL's scheme is `{}`; write http:// or https://",
                url.scheme()
            ));
        }
        let mut endpoint = Endpoint::of(&receiver.url, None, "https", receiver.tls.as_ref())?;
        endpoint.tls = endpoint.tls.map(|tls| tls.with_alpn(&["http/1.1"]));
        let own = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let login = match (receiver.url.username(), receiver.url.password()) {
            (Some(user), password) => {
                let password = password.unwrap_or_else(|| Secret::new(""));
                Some(basic(&user, &password)?)
            }
            _ => None,
        };
        Ok(Self {
            authority: endpoint.address.to_string(),
            path: match path {
                "" => own.to_owned(),
                path => format!("{}{path}", own.trim_end_matches('/')),
            },
            endpoint,
            login,
            held: None,
        })
    }

    /// Host and port: what may be shown of it.
    pub fn place(&self) -> &str {
        &self.authority
    }

    /// Posts a JSON body. A held connection that was lost meanwhile is opened again, once.
    ///
    /// # Errors
    /// In words, when it is not answered with 2xx.
    pub async fn post(&mut self, body: Bytes, headers: &HeaderMap) -> Result<(), String> {
        let span = tracing::trace_span!(
            target: traces::TARGET,
            "post",
            otel.kind = "client",
            server.address = &*self.authority,
            otel.status_code = tracing::field::Empty,
        );
        let posted = self.deliver(body, headers).instrument(span.clone()).await;
        let status = if posted.is_ok() { "OK" } else { "ERROR" };
        span.record("otel.status_code", status);
        posted
    }

    async fn deliver(&mut self, body: Bytes, headers: &HeaderMap) -> Result<(), String> {
        let reused = self.held.as_ref().is_some_and(HttpConnection::is_open);
        let answered = match timeout(DEADLINE, self.once(body.clone(), headers)).await {
            Ok(Err(failure)) if reused && failure.lost_connection() => {
                timeout(DEADLINE, self.once(body, headers)).await
            }
            answered => answered,
        };
        match answered {
            Ok(Ok((status, _))) if status.is_success() => Ok(()),
            Ok(Ok((status, text))) => {
                let shown: String = text.chars().take(SHOWN).collect();
                Err(format!(
                    "{} answered {status}: {}",
                    self.authority,
                    shown.trim()
                ))
            }
            Ok(Err(failure)) => Err(format!("{}: {failure}", self.authority)),
            Err(_) => {
                self.held = None;
                Err(format!(
                    "{} did not answer within {DEADLINE:?}",
                    self.authority
                ))
            }
        }
    }

    async fn once(
        &mut self,
        body: Bytes,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, String), Failure> {
        let mut request = http1::get(&self.path, &self.authority);
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::new(body);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(login) = &self.login {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, login.clone());
        }
        request.headers_mut().extend(headers.clone());
        let mut connection = match self.held.take().filter(HttpConnection::is_open) {
            Some(held) => held,
            None => HttpConnection::open(&self.endpoint).await?,
        };
        let answer = connection.fetch(request, ANSWER).await?;
        self.held = Some(connection);
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        Ok((answer.status(), text))
    }
}
