//! One held HTTP/1.1 connection: asked again and again, and heard when it closes.
//! Must not know what is asked.

use bytes::Bytes;
use comind_model::reason::Reason;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::net::dial::Endpoint;
use crate::probe::failure::Failure;

/// A held connection. Dropping it closes it.
pub struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    closed: CancellationToken,
    certificate_expiry: Option<f64>,
    _driver: AbortOnDropHandle<()>,
}

impl HttpConnection {
    /// Connects.
    ///
    /// # Errors
    /// The cause by which it failed.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, Failure> {
        let dialled = endpoint.dial().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(dialled.stream))
            .await
            .map_err(|error| failure("start HTTP", &error))?;
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        let driver = tokio::spawn(async move {
            // Its error reaches whoever waits for an answer; an idle end is told by `closed`.
            let _ = connection.await;
            drop(ended);
        });
        Ok(Self {
            sender,
            closed,
            certificate_expiry: dialled.certificate_expiry,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    /// The end of the certificate that the server showed, in seconds since the Unix epoch.
    pub fn certificate_expiry(&self) -> Option<f64> {
        self.certificate_expiry
    }

    /// Asks, and gives the answer once its head is there.
    ///
    /// # Errors
    /// The cause by which it failed.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let tried = "get an answer";
        self.sender
            .ready()
            .await
            .map_err(|error| failure(tried, &error))?;
        self.sender
            .send_request(request)
            .await
            .map_err(|error| failure(tried, &error))
    }

    /// Asks, and reads the whole answer, at most `limit` bytes of it.
    ///
    /// # Errors
    /// The cause by which it failed.
    pub async fn fetch(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Response<Bytes>, Failure> {
        let (head, body) = self.send(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            Failure::chained("read the answer", &*error, Reason::UnexpectedAnswer)
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// Resolves once the connection is closed.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether it can still be asked.
    pub fn is_open(&self) -> bool {
        !self.closed.is_cancelled() && !self.sender.is_closed()
    }
}

/// A GET with the headers that every question of ours bears.
pub fn get(path: &str, authority: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    // A path that is no URI comes from a hostile or mistyped setting; the root is always one.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = authority.parse() {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::USER_AGENT, USER_AGENT);
    request
}

/// How we introduce ourselves.
pub const USER_AGENT: http::HeaderValue = http::HeaderValue::from_static("comind-ops");

fn failure(tried: &str, error: &hyper::Error) -> Failure {
    let otherwise = if error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
        Reason::ConnectionClosed
    } else {
        Reason::ProtocolError
    };
    Failure::chained(tried, error, otherwise)
}
