//! Changes while requests run: routes, certificates, and the end of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::http::get;
use comind_peers::nginx::Nginx;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sockets::WebSocket;
use crate::serve::{LATER, Serve};

/// How many; `COMIND_RELOADS` for another number.
fn rounds() -> usize {
    let wished = std::env::var("COMIND_RELOADS").ok();
    wished.and_then(|text| text.parse().ok()).unwrap_or(15)
}

fn config(port: &Port, node: &Node, nginx: &Nginx, round: usize) -> String {
    format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  routes:\n    \
         - {{ host: \"*\", path: /chat, upstream: \"http://{}\" }}\n    \
         - {{ host: \"*\", path: /file, upstream: \"http://{}\" }}\n    \
         - {{ host: \"*\", path: /round, respond: {{ body: \"{round}\" }} }}\n",
        port.addr(),
        node.addr(),
        nginx.addr(),
    )
}

/// Asks again and again on connections that are kept, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<usize>>>,
}

impl Load {
    fn start(addr: std::net::SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..8)
            .map(|_| tokio::spawn(keep_asking(addr, stop.clone())))
            .collect();
        Self { stop, tasks }
    }

    /// How many requests there were; an error if one of them failed.
    async fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = 0;
        for task in self.tasks {
            all += task.await??;
        }
        Ok(all)
    }
}

async fn keep_asking(addr: std::net::SocketAddr, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut asked = 0;
    let mut buffer = vec![0; 4096];
    while !stop.load(Ordering::Relaxed) {
        stream
            .write_all(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"0123456789") {
            let length = tokio::time::timeout(LATER, stream.read(&mut buffer)).await??;
            ensure!(
                length > 0,
                "closed after {asked} requests, in {:?}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend_from_slice(&buffer[..length]);
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        asked += 1;
        if answer
            .to_ascii_lowercase()
            .windows(17)
            .any(|part| part == b"connection: close")
        {
            stream = TcpStream::connect(addr).await?;
        }
    }
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_drops_nothing() -> Result<()> {
    let node = Node::start().await?;
    let nginx = Nginx::start(&[("file", b"0123456789")], "").await?;
    let port = Port::free()?;
    let serve = Serve::start_with(&config(&port, &node, &nginx, 0)).await?;
    let mut socket = WebSocket::open(port.addr(), "/chat").await?;
    let load = Load::start(port.addr());
    for round in 1..=rounds() {
        serve.write_config(&config(&port, &node, &nginx, round))?;
        serve.signal(Signal::HUP)?;
        let waited = wait_for("the new routes", LATER, async || {
            let body = get(port.addr(), "/round").await?;
            ensure!(body == round.to_string(), "{body}");
            Ok(())
        });
        waited.await.map_err(|error| serve.blame(error))?;
        let text = format!("still here in round {round}");
        socket.send(&text).await?;
        ensure!(socket.receive().await? == text);
    }
    let asked = load.end().await?;
    ensure!(asked > 100, "{asked} requests");
    // A bad one changes nothing.
    serve.write_config("proxy: { listen: nonsense }\n")?;
    serve.signal(Signal::HUP)?;
    serve
        .until_value("comind_config_last_reload_successful", &[], |good| {
            good == 0.0
        })
        .await?;
    ensure!(get(port.addr(), "/round").await? == rounds().to_string());
    socket.send("and after").await?;
    ensure!(socket.receive().await? == "and after");
    Ok(())
}

/// At SIGTERM what is under way ends as it should: a slow answer, and requests on kept connections,
/// whose last answer says that there is no next.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_nothing() -> Result<()> {
    let node = Node::start().await?;
    let nginx = Nginx::start(&[("file", b"0123456789")], "").await?;
    let port = Port::free()?;
    let text = format!(
        "{}    - {{ host: \"*\", path: /slow, upstream: \"http://{}\" }}\n",
        config(&port, &node, &nginx, 0),
        node.addr()
    );
    for _ in 0..rounds().min(10) {
        let mut serve = Serve::start_with(&text).await?;
        let mut slow = TcpStream::connect(port.addr()).await?;
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        let mut answer = vec![0; 20];
        slow.read_exact(&mut answer).await?;
        let mut idle = TcpStream::connect(port.addr()).await?;
        idle.write_all(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        let mut first = [0; 9];
        idle.read_exact(&mut first).await?;
        serve.signal(Signal::TERM)?;
        let ended = tokio::time::timeout(LATER, slow.read_to_end(&mut answer)).await?;
        ended.context("the slow answer")?;
        ensure!(
            answer.ends_with(b"xxxxxxxxxxxxxxxxxxxx"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let mut rest = Vec::new();
        tokio::time::timeout(LATER, idle.read_to_end(&mut rest))
            .await?
            .context("an idle connection")?;
        serve.until_ended().await?;
    }
    Ok(())
}

/// A client that never ends is given up after the limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_has_an_end() -> Result<()> {
    let node = Node::start().await?;
    let port = Port::free()?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  drain: 500ms\n  routes:\n    - {{ host: \"*\", upstream: \"http://{}\" }}\n",
        port.addr(),
        node.addr()
    );
    let mut serve = Serve::start_with(&config).await?;
    let mut socket = WebSocket::open(port.addr(), "/chat").await?;
    socket.send("x").await?;
    socket.receive().await?;
    let mut events = TcpStream::connect(port.addr()).await?;
    events
        .write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    events.read_u8().await?;
    let began = std::time::Instant::now();
    serve.stop()?;
    ensure!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    ensure!(socket.receive().await.is_err());
    Ok(())
}
