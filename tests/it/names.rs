//! A name server for one record: answers A questions for one name over UDP and TCP with an
//! address that a test can change, and NXDOMAIN for all others.
//!
//! Source of the format: RFC 1035, section 4.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use comind_peers::port::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// The one name, as labels.
const NAME: &[u8] = b"\x04shop\x04test\x00";
const HEAD: usize = 12;
const NXDOMAIN: u8 = 3;

/// A running name server for `shop.test`; it ends when dropped.
pub(crate) struct Names {
    port: Port,
    address: Arc<AtomicU32>,
    tasks: [JoinHandle<()>; 2],
}

impl Names {
    /// Answers 192.0.2.7 until told otherwise.
    pub(crate) async fn start() -> Result<Self> {
        let port = Port::free()?;
        let address = Arc::new(AtomicU32::new(Ipv4Addr::new(192, 0, 2, 7).to_bits()));
        let udp = UdpSocket::bind(port.addr()).await?;
        let tcp = TcpListener::bind(port.addr()).await?;
        let tasks = [
            tokio::spawn(by_udp(udp, address.clone())),
            tokio::spawn(by_tcp(tcp, address.clone())),
        ];
        Ok(Self {
            port,
            address,
            tasks,
        })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Answers with another address from now on.
    pub(crate) fn set(&self, address: Ipv4Addr) {
        self.address.store(address.to_bits(), Ordering::Relaxed);
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn by_udp(socket: UdpSocket, address: Arc<AtomicU32>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = answer(&buffer[..length], address.load(Ordering::Relaxed)) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn by_tcp(listener: TcpListener, address: Arc<AtomicU32>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = one_by_tcp(&mut stream, &address).await;
    }
}

async fn one_by_tcp(stream: &mut TcpStream, address: &AtomicU32) -> std::io::Result<()> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; usize::from(length)];
    stream.read_exact(&mut question).await?;
    if let Some(answer) = answer(&question, address.load(Ordering::Relaxed)) {
        stream.write_u16(answer.len() as u16).await?;
        stream.write_all(&answer).await?;
    }
    Ok(())
}

/// The answer to one question; `None` to what is none.
fn answer(question: &[u8], address: u32) -> Option<Vec<u8>> {
    let name = question.get(HEAD..HEAD + NAME.len())?;
    let ours = name.eq_ignore_ascii_case(NAME);
    let end = HEAD + question[HEAD..].iter().position(|&byte| byte == 0)? + 5; // type and class
    let kind = question.get(end - 4..end)?;
    let is_a = ours && kind == [0, 1, 0, 1];
    let mut answer = question.get(..2)?.to_vec();
    let code = if ours { 0 } else { NXDOMAIN };
    // Response, authoritative; one question, and one answer or none.
    answer.extend([0x84, code, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question.get(HEAD..end)?);
    if is_a {
        answer.extend([0xc0, HEAD as u8, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]); // lives for 1 s
        answer.extend(address.to_be_bytes());
    }
    Some(answer)
}
