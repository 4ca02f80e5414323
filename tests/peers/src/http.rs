//! One HTTP request to a server on this machine.
//!
//! A new connection for each, a bounded answer, a deadline. Must not retry.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer taken, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// Sends one request to `addr`; the URI may be a path alone.
pub async fn send(addr: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
    let exchange = async {
        let stream = TcpStream::connect(addr).await?;
        // Head and body go out one after the other: the second must not wait for an answer.
        stream.set_nodelay(true)?;
        exchange(stream, &addr.to_string(), request).await
    };
    timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("no answer from {addr} within {DEADLINE:?}"))?
        .with_context(|| format!("no answer from {addr}"))
}

/// Sends one request over a stream that is already connected.
pub(crate) async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    mut request: Request<B>,
) -> Result<Response<Bytes>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !request.headers().contains_key(header::HOST) {
        let value = HeaderValue::from_str(host)?;
        request.headers_mut().insert(header::HOST, value);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let result = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        match Limited::new(body, LONGEST).collect().await {
            Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
            Err(error) => bail!("the answer's body broke off: {error}"),
        }
    }
    .await;
    driver.abort();
    result
}

/// GET `path`; an error unless the status is 2xx. Hands the text out.
pub async fn get(addr: SocketAddr, path: &str) -> Result<String> {
    let request = Request::get(path).body(Full::default())?;
    text(&send(addr, request).await?)
}

/// The answer's text; an error with it unless the status is 2xx.
pub fn text(response: &Response<Bytes>) -> Result<String> {
    let status = response.status();
    let text = String::from_utf8_lossy(response.body()).into_owned();
    if !status.is_success() {
        let start: String = text.chars().take(600).collect();
        bail!("answered {status}: {start}");
    }
    Ok(text)
}
