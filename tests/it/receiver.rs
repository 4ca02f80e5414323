//! A receiver of notifications: keeps every POST that it accepts, and refuses on demand.
//! Must not know who sends.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A POST that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Posted {
    /// Its body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// Its body as text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

#[derive(Debug, Default)]
struct Shared {
    posted: Vec<Posted>,
    refuses: bool,
    refused: usize,
}

/// A running receiver; it ends when dropped.
pub(crate) struct Receiver {
    port: Port,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Accepts everything until told otherwise.
    pub(crate) async fn start() -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(port.addr()).await?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { port, shared, task })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Answers 503 from now on, or accepts again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// Everything that it has accepted.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.lock().posted.clone()
    }

    /// How many it has refused.
    pub(crate) fn refused(&self) -> usize {
        self.lock().refused
    }

    /// Waits until it has accepted so many.
    pub(crate) async fn until(&self, count: usize, deadline: Duration) -> Result<Vec<Posted>> {
        let what = format!("{count} notifications");
        wait_for(&what, deadline, async || {
            let posted = self.posted();
            ensure!(posted.len() >= count, "{} so far: {posted:?}", posted.len());
            Ok(posted)
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let service = service_fn(move |request| answer(request, shared.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut response = Response::new(Full::default());
    if shared.refuses {
        shared.refused += 1;
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    } else if let Ok(body) = body {
        let headers = head.headers;
        let bytes = body;
        shared.posted.push(Posted { headers, bytes });
    }
    Ok(response)
}
