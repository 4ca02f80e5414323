//! Many connections to the ingress proxy at once: what an idle one costs in memory, and whether
//! WebSockets that talk once a second stay whole.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use comind_peers::http::get;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::figures::{Samples, cell, print};
use crate::subject::program;

/// Connections that are kept and say nothing.
const IDLE: usize = 10_000;
/// WebSockets, each with a message a second.
const SOCKETS: usize = 2_000;
/// A masked text frame of 16 bytes, and what comes back of it.
const FRAME: [u8; 22] = *b"\x81\x90\0\0\0\0sixteen bytes!!!";
const BACK: &[u8] = b"\x81\x10sixteen bytes!!!";

/// Measures both; the WebSockets talk for so many seconds.
pub(crate) async fn run(seconds: u64) -> Result<()> {
    let node = Node::start().await?;
    let dir = tempfile::tempdir()?;
    let (api, port) = (Port::free()?, Port::free()?);
    let config = format!(
        "api: {{ listen: {} }}\ndata_dir: {}\nproxy:\n  listen: {}\n  workers: 1\n  patience: {{ idle: 1h }}\n  limits: {{ upstream_connections: 4096 }}\n  \
         routes:\n    - {{ host: \"*\", upstream: \"http://{}\" }}\n",
        api.addr(),
        dir.path().display(),
        port.addr(),
        node.addr()
    );
    let file = dir.path().join("comind.yaml");
    std::fs::write(&file, config)?;
    let mut child = Command::new(program()?);
    child
        .args(["serve", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = child.spawn().context("failed to start comind-ops")?;
    let measured = measure(port.addr(), api.addr(), child.id(), seconds).await;
    // By its id: it is ours.
    child.kill()?;
    child.wait()?;
    measured
}

/// Until all of them rest.
async fn rested(api: SocketAddr) -> Result<()> {
    let all = format!("comind_proxy_connections_resting {IDLE}");
    wait_for(
        "all connections to rest",
        Duration::from_secs(30),
        async || {
            let metrics = get(api, "/metrics").await?;
            ensure!(metrics.contains(&all), "not yet");
            Ok(())
        },
    )
    .await
}

async fn measure(addr: SocketAddr, api: SocketAddr, pid: u32, seconds: u64) -> Result<()> {
    wait_for("the proxy", Duration::from_secs(20), async || {
        Ok(TcpStream::connect(addr).await.map(drop)?)
    })
    .await?;
    ask(addr).await?;
    let before = resident(pid)?;
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push(ask(addr).await?);
    }
    let fresh = (resident(pid)? - before) / IDLE as f64;
    rested(api).await?;
    let resting = (resident(pid)? - before) / IDLE as f64;
    let rows = [vec![
        IDLE.to_string(),
        cell(Some(before / 1024.0)),
        cell(Some(fresh)),
        cell(Some(resting)),
    ]];
    print(
        "Kept connections that each have asked once",
        &[
            "connections",
            "MiB before",
            "KiB each at once",
            "KiB each at rest",
        ],
        &rows,
    );
    drop(idle);
    talk(addr, seconds).await
}

/// A connection that has asked once and is kept.
async fn ask(addr: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream
        .write_all(b"GET /who HTTP/1.1\r\nHost: bench\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut buffer = [0; 2048];
        let length = stream.read(&mut buffer).await?;
        ensure!(length > 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..length]);
    }
    Ok(stream)
}

/// In KiB.
fn resident(pid: u32) -> Result<f64> {
    let status = procfs::process::Process::new(i32::try_from(pid)?)?.status()?;
    Ok(status.vmrss.context("no VmRSS")? as f64)
}

async fn talk(addr: SocketAddr, seconds: u64) -> Result<()> {
    let mut sockets = JoinSet::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    for number in 0..SOCKETS {
        let stream = open(addr)
            .await
            .with_context(|| format!("WebSocket {number}"))?;
        sockets.spawn(chat(stream, end));
    }
    let (mut samples, mut lost, mut first) = (Samples::default(), 0_usize, None);
    while let Some(ended) = sockets.join_next().await {
        match ended? {
            Ok(took) => took.into_iter().for_each(|one| samples.push_ms(one)),
            Err(error) => {
                lost += 1;
                first.get_or_insert(error);
            }
        }
    }
    let rows = [vec![
        SOCKETS.to_string(),
        lost.to_string(),
        samples.len().to_string(),
        cell(samples.p50()),
        cell(samples.p99()),
        cell(samples.max()),
    ]];
    let title = format!("WebSockets with a message a second, for {seconds} s");
    print(
        &title,
        &["sockets", "lost", "messages", "p50 ms", "p99", "max"],
        &rows,
    );
    first.map_or(Ok(()), Err)
}

async fn open(addr: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let head =
        b"GET /chat HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    ensure!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(stream)
}

async fn chat(mut stream: TcpStream, end: Instant) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    while Instant::now() < end {
        beat.tick().await;
        let began = Instant::now();
        stream.write_all(&FRAME).await?;
        let mut back = [0; BACK.len()];
        tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut back)).await??;
        ensure!(back == BACK, "another message came back");
        took.push(began.elapsed());
    }
    Ok(took)
}
