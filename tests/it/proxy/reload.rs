//! Changes while requests run: routes, certificates, and the end of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::http::get;
use comind_peers::nginx::Nginx;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::tool::Tool;
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
    let (mut asked, mut kept) = (0, false);
    while !stop.load(Ordering::Relaxed) {
        let answer = once(&mut stream).await;
        let answer = match answer {
            // A kept connection may be closed while nothing is under way on it; every client asks
            // anew then.
            Ok(answer) if answer.is_empty() && kept => String::new(),
            Err(_) if kept => String::new(),
            other => other?,
        };
        if answer.is_empty() {
            stream = TcpStream::connect(addr).await.context("to connect anew")?;
            kept = false;
            continue;
        }
        ensure!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("0123456789"),
            "{answer}"
        );
        asked += 1;
        kept = !answer.to_lowercase().contains("connection: close");
        if !kept {
            stream = TcpStream::connect(addr).await.context("to connect again")?;
        }
    }
    Ok(asked)
}

/// One request; an empty answer where the connection closed before there was one.
async fn once(stream: &mut TcpStream) -> Result<String> {
    stream
        .write_all(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"0123456789") {
        let length = tokio::time::timeout(LATER, stream.read(&mut buffer)).await;
        match length.context("it is silent")? {
            Ok(0) | Err(_) if answer.is_empty() => break,
            Ok(0) => anyhow::bail!("closed within {:?}", String::from_utf8_lossy(&answer)),
            other => answer.extend_from_slice(&buffer[..other?]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
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

const PYTHON: Tool = Tool::debian("python3", "python3");

/// Keeps a listening socket and runs the program with it, again after each SIGUSR1: as systemd
/// does it with a socket unit.
const KEEPER: &str = r#"
import os, signal, socket, subprocess, sys
port, argv = int(sys.argv[1]), sys.argv[2:]
signals = {signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
kept = socket.socket()
kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
kept.bind(('127.0.0.1', port))
kept.listen(1024)
os.dup2(kept.fileno(), 3)
start = lambda: subprocess.Popen(
    ['/bin/sh', '-c', 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', 'sh', *argv], pass_fds=(3,),
    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals))
child = start()
while True:
    got = signal.sigwait(signals)
    child.send_signal(signal.SIGTERM)
    code = child.wait()
    if got == signal.SIGTERM:
        sys.exit(code)
    child = start()
"#;

/// Whoever connects while the program is started again waits, and is not refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_refuses_nobody() -> Result<()> {
    let node = Node::start().await?;
    let nginx = Nginx::start(&[("file", b"0123456789")], "").await?;
    let port = Port::free()?;
    let text = config(&port, &node, &nginx, 0);
    let mut serve =
        Serve::start_by(&text, PYTHON, &["-c", KEEPER, &port.number().to_string()]).await?;
    let load = Load::start(port.addr());
    for round in 1..=rounds().min(10) {
        serve.signal(Signal::USR1)?;
        wait_for("the next one", LATER, async || {
            let log = serve.log()?;
            let (begun, ended) = (
                log.matches("the proxy serves on").count(),
                log.matches("SIGTERM: draining").count(),
            );
            ensure!(begun == ended + 1 && ended == round, "{begun} {ended}");
            Ok(())
        })
        .await?;
    }
    let asked = load.end().await.map_err(|error| serve.blame(error))?;
    ensure!(asked > 20, "{asked} requests");
    serve.stop()
}
