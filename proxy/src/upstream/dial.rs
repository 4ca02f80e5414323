//! Opens a connection to an endpoint, and agrees on what is spoken there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comind_model::ingress::Protocol;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use super::pool::Want;
use super::tls::ClientTls;
use crate::endpoint::Endpoint;
use crate::request::body::RequestBody;
use crate::serve::preface;
use crate::serve::wire::Wire;
use crate::serve::worker::Local;
use crate::tunnel::spare::Tunnels;

/// A silent HTTP/2 upstream is asked whether it still lives so often.
const PING: Duration = Duration::from_secs(20);
/// After so long without a sign of life the system asks whether the other machine is there …
const ASKED: Duration = Duration::from_secs(15);
/// … and after so long without one the connection has ended.
const SILENT: Duration = Duration::from_secs(60);
/// The window that a stream begins with, in bytes: a large body need not wait for its reader.
const WINDOW: u32 = 1024 * 1024;

/// How an upstream is talked to.
#[derive(Clone, Debug)]
pub struct Manner {
    /// What is spoken there.
    pub protocol: Protocol,
    /// TLS, where it is.
    pub tls: Option<ClientTls>,
    /// The name that its certificate must have; its host where none.
    pub tls_name: Option<Arc<str>>,
    /// The version of the PROXY header that each connection begins with.
    pub send_proxy: Option<u8>,
}

/// A connection that takes requests.
#[derive(Debug)]
pub enum Fresh {
    /// HTTP/1.1: one at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// HTTP/2: many.
    Http2(http2::SendRequest<RequestBody>),
}

/// Who asks: for PROXY headers.
pub type Client = (SocketAddr, SocketAddr);

/// Opens a connection.
///
/// # Errors
/// Why there is none.
pub async fn dial(
    endpoint: &Endpoint,
    manner: &Manner,
    client: Client,
    want: Want,
    tunnels: &Tunnels,
) -> Result<Fresh, Failure> {
    let limit = want.connect;
    let opening = async {
        match &endpoint.pod {
            None => {
                let stream = connect(endpoint).await?;
                stream.set_nodelay(true).map_err(Failure::Connect)?;
                notice_silence(&stream).map_err(Failure::Connect)?;
                open(stream, endpoint, manner, client, want).await
            }
            Some(pod) => {
                // A moment before the limit, so that its reason comes through.
                let limit = limit - limit / 16;
                let limits = (limit, want.fresh);
                let opened = tunnels.get(endpoint.id, pod, endpoint.port, limits).await;
                let stream = opened.map_err(Failure::Tunnel)?;
                open(stream, endpoint, manner, client, want).await
            }
        }
    };
    let opened = tokio::time::timeout(limit, opening).await;
    opened.unwrap_or(Err(Failure::ConnectTimeout(limit)))
}

async fn open<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut stream: T,
    endpoint: &Endpoint,
    manner: &Manner,
    client: Client,
    want: Want,
) -> Result<Fresh, Failure> {
    if let Some(version) = manner.send_proxy {
        let header = preface::header(version, client.0, client.1);
        stream.write_all(&header).await.map_err(Failure::Connect)?;
    }
    let Some(tls) = &manner.tls else {
        return match manner.protocol {
            Protocol::H2c if !want.upgrade => http2(stream).await,
            _ if want.grpc => http2(stream).await,
            _ => http1(stream).await,
        };
    };
    let config = match (want.upgrade, want.grpc) {
        (true, _) => &tls.http1,
        (false, true) => &tls.http2,
        (false, false) => &tls.any,
    };
    let name = manner
        .tls_name
        .as_deref()
        .unwrap_or(&endpoint.host)
        .to_owned();
    let name = ServerName::try_from(name).map_err(|error| Failure::Tls(error.to_string()))?;
    let shaken = TlsConnector::from(config.clone())
        .connect(name, stream)
        .await;
    let stream = shaken.map_err(|error| Failure::Tls(error.to_string()))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => http2(stream).await,
        // It has not said what it speaks, and gRPC is spoken in one way only.
        _ if want.grpc => http2(stream).await,
        _ => http1(stream).await,
    }
}

/// The system asks whether the other machine is there, and gives up on what it does not acknowledge: else
/// a stream to one that is gone would stay open until its own limit, for an hour.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(ASKED).with_interval(ASKED);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENT))?;
    Ok(())
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, Failure> {
    if let Ok(address) = endpoint.host.parse::<IpAddr>() {
        return TcpStream::connect((address, endpoint.port))
            .await
            .map_err(Failure::Connect);
    }
    let found = tokio::net::lookup_host((&*endpoint.host, endpoint.port)).await;
    let mut last = None;
    for address in found.map_err(|error| Failure::Resolve(error.to_string()))? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => Failure::Connect(error),
        None => Failure::Resolve("the answer is empty".to_owned()),
    })
}

async fn http1<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
) -> Result<Fresh, Failure> {
    let wire = Wire::new(stream, Bytes::new());
    let shaken = http1::Builder::new().handshake(TokioIo::new(wire)).await;
    let (sender, connection) = shaken.map_err(|error| Failure::Protocol(error.to_string()))?;
    // It ends when the upstream closes, or when the pool drops the sender.
    tokio::task::spawn_local(connection.with_upgrades());
    Ok(Fresh::Http1(sender))
}

async fn http2<T: AsyncRead + AsyncWrite + Unpin + 'static>(stream: T) -> Result<Fresh, Failure> {
    let shaken = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_while_idle(false)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = shaken.map_err(|error| Failure::Protocol(error.to_string()))?;
    tokio::task::spawn_local(connection);
    Ok(Fresh::Http2(sender))
}
