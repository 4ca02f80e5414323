//! How long a live WebSocket outlives the end of its session: from the question to `revoke` until
//! the client sees the connection close, with other sessions beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use comind_peers::node::Node;
use comind_peers::port::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::figures::{self, Samples, cell, say};
use crate::subject::Subject;

/// Sockets of others that stay open meanwhile.
const OTHERS: usize = 200;
/// Where the others come from.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 1);
/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs it so many times and prints.
pub(crate) async fn run(rounds: usize) -> Result<()> {
    let (node, port, dir) = (Node::start().await?, Port::free()?, tempfile::tempdir()?);
    let mut tokens = String::new();
    for name in ["one", "others"] {
        let file = dir.path().join(name);
        std::fs::write(&file, token(name))?;
        tokens.push_str(&format!("{name}: {{ token_file: {} }}, ", file.display()));
    }
    let sections = format!(
        "proxy:\n  listen: {}\n  workers: 2\n  logins: {{ all: {{ bearer: {{ tokens: {{ {tokens} }} }} }} }}\n  \
         routes: [{{ host: \"*\", upstream: \"http://{}\", login: all }}]\n",
        port.addr(),
        node.addr()
    );
    let subject = Subject::start_with(&sections, &[]).await?;
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(socket(port.addr(), "others", OWN).await?);
    }
    say(&format!("{OTHERS} WebSockets of another session are open"));
    let mut times = Samples::default();
    for round in 0..rounds {
        // Each from an address of its own: one that logs in as often as this would be slowed.
        let from = Ipv4Addr::from_bits(OWN.to_bits() + 1 + u32::try_from(round)?);
        let mut stream = socket(port.addr(), "one", from).await?;
        let asked = Instant::now();
        let revoked = tokio::spawn(revoke(subject.data_dir().join("proxy/sessions.sock")));
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest))
            .await
            .context("the WebSocket is still open")?;
        times.push_ms(asked.elapsed());
        revoked.await??;
    }
    let first = others.first_mut().context("none")?;
    let still = tokio::time::timeout(Duration::from_millis(200), first.read_u8()).await;
    ensure!(still.is_err(), "the others were closed too");
    figures::print(
        "From revoke to the end of a live WebSocket, in ms (the goal is 100)",
        &["rounds", "p50", "p99", "max"],
        &[vec![
            rounds.to_string(),
            cell(times.p50()),
            cell(times.p99()),
            cell(times.max()),
        ]],
    );
    Ok(())
}

fn token(name: &str) -> String {
    format!("a-token-of-{name}-0123456789")
}

/// An upgraded connection.
async fn socket(addr: SocketAddr, name: &str, from: Ipv4Addr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(addr).await?;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token(name)
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(LIMIT, stream.read_u8()).await??;
        answer.push(byte);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(answer.starts_with("HTTP/1.1 101"), "no WebSocket: {answer}");
    Ok(stream)
}

/// Asks as `comind-ops sessions revoke --user one` does.
async fn revoke(socket: PathBuf) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    let question = b"DELETE /sessions?user=one HTTP/1.1\r\nHost: proxy\r\n\r\n";
    stream.write_all(question).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.contains("\"ended\":1"), "{answer}");
    Ok(())
}
