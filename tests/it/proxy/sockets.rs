//! A client of WebSockets, by a library that is not ours.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::serve::LATER;

/// An open one.
pub(super) struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    pub(super) async fn open(addr: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = client_async(format!("ws://{addr}{path}"), stream).await?;
        Ok(Self(socket))
    }

    pub(super) async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    pub(super) async fn receive(&mut self) -> Result<String> {
        loop {
            let next = tokio::time::timeout(LATER, self.0.next()).await?;
            match next.context("it ended")?? {
                Message::Text(text) => return Ok(text.to_string()),
                Message::Close(frame) => anyhow::bail!("it was closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The head of a request to become one.
    pub(super) fn head(path: &str) -> Vec<u8> {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes()
    }
}
