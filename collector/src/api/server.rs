//! Takes connections for the API: bounded in number, with deadlines on handshakes and on
//! request heads, and drained at the end. Must not know what is served, nor to whom.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::gate::Gate;
use crate::access::meter::AccessMeter;
use crate::api::guard::Client;

/// Connections that may be open at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 2048;
/// How long a client may take to agree on TLS.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const HEAD_LIMIT: usize = 32 << 10;
/// How long open requests get to end after `stop`.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections that could not be taken are told of no more often.
const TELL: Duration = Duration::from_secs(10);

/// What connections are served with.
pub struct Serving {
    /// All routes.
    pub router: Router,
    /// Says whether TLS is spoken; followed from one connection to the next.
    pub gate: watch::Receiver<Arc<Gate>>,
    /// Counts handshakes that come to nothing.
    pub meter: AccessMeter,
}

/// Serves until `stop`, then drains.
pub async fn serve(listener: TcpListener, serving: Serving, stop: CancellationToken) {
    let open = Arc::new(Semaphore::new(CONNECTIONS));
    let draining = GracefulShutdown::new();
    let mut failures = Failures::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &open, &mut failures) => accepted,
        };
        let Some((stream, client, permit)) = accepted else {
            continue;
        };
        let connection = Connection {
            router: serving.router.clone(),
            tls: serving.gate.borrow().tls().map(|tls| tls.config.clone()),
            client: client.ip(),
            meter: serving.meter.clone(),
            draining: draining.watcher(),
        };
        let stop = stop.clone();
        tokio::spawn(async move {
            connection.carry(stream, &stop).await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, draining.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            "some requests did not end within {} s and are cut off",
            DRAIN.as_secs()
        );
    }
}

/// One client's connection, from its handshake to its end.
struct Connection {
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    client: IpAddr,
    meter: AccessMeter,
    draining: Watcher,
}

impl Connection {
    async fn carry(self, stream: TcpStream, stop: &CancellationToken) {
        let Some(tls) = self.tls.clone() else {
            return self.converse(stream).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let shaken = tokio::select! {
            () = stop.cancelled() => return,
            shaken = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.converse(stream).await,
            Ok(Err(error)) => {
                self.meter.no_handshake("failed");
                tracing::debug!(client = %self.client, "failed to agree on TLS: {error}");
            }
            Err(_) => self.meter.no_handshake("too_slow"),
        }
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let routes = TowerToHyperService::new(self.router);
        let client = Client(self.client);
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(client);
            routes.call(request)
        });
        let builder = builder();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        // A client that goes away in the middle is no event worth a line.
        let _ = self.draining.watch(connection.into_owned()).await;
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_LIMIT as u32);
    builder
}

async fn accept(
    listener: &TcpListener,
    open: &Arc<Semaphore>,
    failures: &mut Failures,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = open.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            // Events are small and must not wait for more to send with them.
            let _ = stream.set_nodelay(true);
            Some((stream, client, permit))
        }
        Err(error) => {
            if let Some(line) = failures.tell(&error, Instant::now()) {
                tracing::warn!("{line}");
            }
            // Out of descriptors: accepting again at once would spin until one is free.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Connections that could not be taken, gathered so that they do not fill the log.
#[derive(Debug, Default)]
struct Failures {
    untold: u64,
    told: Option<Instant>,
}

impl Failures {
    fn tell(&mut self, error: &io::Error, now: Instant) -> Option<String> {
        self.untold += 1;
        if self.told.is_some_and(|told| now - told < TELL) {
            return None;
        }
        self.told = Some(now);
        let times = std::mem::take(&mut self.untold);
        Some(format!(
            "failed to accept a connection, {times} times since this was last told: {error}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_told_once_in_a_while_with_their_number() {
        let mut failures = Failures::default();
        let error = io::Error::other("Too many open files");
        let begin = Instant::now();
        let mut lines = Vec::new();
        for step in 0..1000 {
            let now = begin + Duration::from_millis(50) * step;
            lines.extend(failures.tell(&error, now));
        }
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[0].contains(" 1 times"), "{}", lines[0]);
        assert!(lines[1].contains(" 200 times"), "{}", lines[1]);
    }
}
