//! One question to a provider on a connection of its own, with a deadline and a bound.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::upstream::tls::ClientTls;

/// All of it takes no longer.
const LIMIT: Duration = Duration::from_secs(10);
/// An answer is no larger.
const LARGEST: usize = 1024 * 1024;

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// How.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// What is said beside.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent.
    pub body: String,
}

impl Question {
    /// A plain one.
    pub fn get(url: &Url) -> Self {
        Self {
            method: Method::GET,
            url: url.clone(),
            headers: Vec::new(),
            body: String::new(),
        }
    }
}

/// Asks.
///
/// # Errors
/// What was tried and what came; never what was sent.
pub async fn ask(tls: &ClientTls, question: Question) -> Result<(StatusCode, Bytes), String> {
    let place = place(&question.url);
    match tokio::time::timeout(LIMIT, send(tls, question)).await {
        Ok(answered) => answered.map_err(|error| format!("{place}: {error}")),
        Err(_) => Err(format!("{place}: no answer within {LIMIT:?}")),
    }
}

/// Without its query.
fn place(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

async fn send(tls: &ClientTls, question: Question) -> Result<(StatusCode, Bytes), String> {
    let url = &question.url;
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let stream = TcpStream::connect((bare, port))
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    if url.scheme() != "https" {
        return exchange(stream, question).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(tls.http1.clone())
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS: {error}"))?;
    exchange(stream, question).await
}

async fn exchange<T>(stream: T, question: Question) -> Result<(StatusCode, Bytes), String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let task = tokio::spawn(connection);
    let Question {
        method,
        url,
        headers,
        body,
    } = question;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "comind-ops")
        .header(CONTENT_LENGTH, body.len())
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    for (name, value) in headers {
        request.headers_mut().insert(name, value);
    }
    let answered = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| format!("no answer: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        Ok((status, body.to_bytes()))
    };
    let answered = answered.await;
    task.abort();
    answered
}
