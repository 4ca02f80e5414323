//! A small web server whose answers a test can change, with or without TLS, and the
//! certificates that it shows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use comind_peers::port::Port;
use comind_peers::tls::Certificate;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
    /// Whether it closes the connection after each answer.
    pub(crate) close: bool,
}

type Shared = Arc<Mutex<(Answer, HeaderMap)>>;

/// A running web server; it ends, and its connections with it, when dropped.
pub(crate) struct Web {
    port: Port,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Web {
    /// Answers 200 with "hello" until told otherwise; speaks TLS with a certificate.
    pub(crate) async fn start(certificate: Option<&Certificate>) -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(port.addr()).await?;
        let tls = certificate.map(acceptor).transpose()?;
        let answer = Answer {
            status: 200,
            body: "hello".to_owned(),
            close: false,
        };
        let shared: Shared = Arc::new(Mutex::new((answer, HeaderMap::new())));
        let task = tokio::spawn(serve(listener, tls, shared.clone()));
        Ok(Self { port, shared, task })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Answers in another way from now on.
    pub(crate) fn answer(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    /// The headers of the last request.
    pub(crate) fn asked(&self) -> HeaderMap {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.1.clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Shared) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(async move {
            match tls {
                None => carry(stream, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        carry(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn carry(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Shared) {
    let service = service_fn(async |request: Request<Incoming>| {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.1 = request.headers().clone();
        let Answer {
            status,
            body,
            close,
        } = shared.0.clone();
        let mut answer = Response::builder().status(status);
        if close {
            answer = answer.header("connection", "close");
        }
        answer.body(Full::new(Bytes::from(body)))
    });
    // A client that goes away is no failure of the test.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn acceptor(certificate: &Certificate) -> Result<TlsAcceptor> {
    let chain = CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A certificate for 127.0.0.1 that began an hour ago and ends at this distance from now;
/// negative: has ended.
pub(crate) fn certificate_ending(in_seconds: i64) -> Result<Certificate> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let now = SystemTime::now();
    let distance = Duration::from_secs(in_seconds.unsigned_abs());
    let end = match in_seconds < 0 {
        true => now.checked_sub(distance),
        false => now.checked_add(distance),
    };
    let begin = now.checked_sub(distance + Duration::from_secs(3600));
    server.not_after = end.context("no such time")?.into();
    server.not_before = begin.context("no such time")?.into();
    let key = KeyPair::generate()?;
    Ok(Certificate {
        certificate_pem: server.signed_by(&key, &authority)?.pem(),
        authority_pem: authority.pem(),
        key_pem: key.serialize_pem(),
    })
}
