//! Connections that wait for their next request give their buffers back, and nobody may notice.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use comind_peers::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sockets::WebSocket;
use super::witness::{Witness, proxy_before};
use crate::serve::{LATER, Serve};

const GET: &[u8] = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n";

async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until the answer's end has come.
async fn until(stream: &mut TcpStream, end: &[u8]) -> Result<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let mut piece = [0; 1024];
        let length = tokio::time::timeout(LATER, stream.read(&mut piece)).await??;
        ensure!(
            length > 0,
            "closed after {}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&piece[..length]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    stream.write_all(request).await?;
    let answer = until(stream, b"ok").await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(
        !answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    Ok(())
}

async fn until_resting(serve: &Serve, count: f64) -> Result<()> {
    serve
        .until_value("comind_proxy_connections_resting", &[], |resting| {
            resting == count
        })
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_rested_goes_on() -> Result<()> {
    let witness = Witness::start().await?;
    let (serve, port) = proxy_before(witness.addr(), "").await?;
    let mut stream = connect(port.addr()).await?;
    for _ in 0..2 {
        ask(&mut stream, GET).await?;
        until_resting(&serve, 1.0).await?;
    }
    // The next head comes in two pieces, cut within a line.
    let (first, second) = GET.split_at(22);
    stream.write_all(first).await?;
    until_resting(&serve, 0.0).await?;
    ask(&mut stream, second).await?;
    // What was suspicious before a rest says nothing about what comes after, and what comes after
    // is looked at as ever.
    until_resting(&serve, 1.0).await?;
    let both = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    witness.take();
    stream.write_all(both).await?;
    let answer = until(&mut stream, b"}\n")
        .await
        .unwrap_or_else(|error| error.to_string());
    ensure!(answer.contains("400"), "{answer}");
    ensure!(witness.take().is_empty(), "it reached the upstream");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_rests_who_has_said_half_a_sentence() -> Result<()> {
    let witness = Witness::start().await?;
    let (serve, port) = proxy_before(witness.addr(), "").await?;
    let mut stream = connect(port.addr()).await?;
    // A request, and the beginning of the next one in the same piece.
    let (first, second) = GET.split_at(22);
    ask(&mut stream, &[GET, first].concat()).await?;
    // Another one that has nothing to say rests after it.
    let mut other = connect(port.addr()).await?;
    ask(&mut other, GET).await?;
    until_resting(&serve, 1.0).await?;
    ask(&mut stream, second).await?;
    // Now it may as well: the last request ended where the bytes did.
    ask(&mut stream, GET).await?;
    until_resting(&serve, 2.0).await?;
    drop((stream, other));
    until_resting(&serve, 0.0).await?;
    serve
        .until_value("comind_proxy_connections_open", &[], |open| open == 0.0)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_may_follow_a_rest_and_a_drain_ends_it() -> Result<()> {
    let node = Node::start().await?;
    let (mut serve, port) = proxy_before(node.addr(), "").await?;
    let mut stream = connect(port.addr()).await?;
    stream
        .write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    until(&mut stream, b"}").await?;
    until_resting(&serve, 1.0).await?;
    stream.write_all(&WebSocket::head("/chat")).await?;
    let answer = until(&mut stream, b"\r\n\r\n").await?;
    ensure!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    // A masked text frame of two bytes, and what comes back of it.
    stream.write_all(b"\x81\x82\0\0\0\0hi").await?;
    until(&mut stream, b"\x81\x02hi").await?;

    let mut other = connect(port.addr()).await?;
    other
        .write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    until(&mut other, b"}").await?;
    until_resting(&serve, 1.0).await?;
    drop(stream);
    serve.signal(rustix::process::Signal::TERM)?;
    let mut rest = Vec::new();
    tokio::time::timeout(LATER, other.read_to_end(&mut rest)).await??;
    ensure!(rest.is_empty(), "{rest:?}");
    serve.until_ended().await
}
