//! An upstream that writes down every byte that reaches it, and answers each request that it can
//! make out. What a proxy lets through is judged by this, not by what the proxy says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use comind_peers::port::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::serve::Serve;

/// A running witness; it ends when dropped.
pub(super) struct Witness {
    port: Port,
    seen: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witness {
    pub(super) async fn start() -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(port.addr()).await?;
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let written = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, written.clone()));
            }
        });
        Ok(Self { port, seen, task })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Everything that has reached it since it was last asked.
    pub(super) fn take(&self) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&std::mem::take(&mut *seen)).into_owned()
    }
}

/// Answers after each end of a head: bodies are whatever comes next.
async fn answer(mut stream: TcpStream, seen: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut head = Vec::new();
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&buffer[..length]);
        head.extend_from_slice(&buffer[..length]);
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            head.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// A proxy before the witness; `more` goes into its section.
pub(super) async fn proxy_before(upstream: SocketAddr, more: &str) -> Result<(Serve, Port)> {
    let port = Port::free()?;
    let listen = port.addr();
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {listen}\n  workers: 2\n{more}\n  routes:\n    \
         - {{ host: \"*\", upstream: \"http://{upstream}\" }}\n"
    );
    let serve = Serve::start_with(&config).await?;
    Ok((serve, port))
}

/// Sends these bytes on a connection of its own, and reads until the other side closes, or has
/// been silent for a moment after an answer.
pub(super) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await?;
    // A refusal may come, and the connection close, before all is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let patience = if answer.is_empty() {
            Duration::from_millis(1500)
        } else {
            Duration::from_millis(100)
        };
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => return Ok(answer),
            Ok(Ok(length)) => answer.extend_from_slice(&buffer[..length]),
        }
    }
}

/// The status of the first answer in these bytes.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    let text = answer.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(text.get(2..5)?).ok()?.parse().ok()
}
