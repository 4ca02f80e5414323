//! A small HTTP server for probes to ask, and to note when they asked. Lives in the bench, so
//! its cost is counted for nobody.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// When each path was asked for.
pub(crate) type Arrivals = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

/// The running server; ends when dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) arrivals: Arrivals,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Listens on a free loopback port.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let arrivals = Arrivals::default();
        let noted = arrivals.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = noted.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, noted.clone()));
                    // A prober that goes away ends its connection: no event here.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self {
            address,
            arrivals,
            task,
        })
    }
}

async fn answer(
    request: Request<Incoming>,
    noted: Arrivals,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let now = Instant::now();
    let path = request.uri().path().to_owned();
    noted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(path)
        .or_default()
        .push(now);
    Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))
}
