//! A client of WebSockets, by a library that is not ours.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
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

    /// As `open`, with these headers.
    pub(super) async fn open_with(
        addr: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{addr}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let (socket, _) = client_async(request, stream).await?;
        Ok(Self(socket))
    }

    /// Waits until the other side ends it, in whatever way.
    pub(super) async fn ended(&mut self) -> Result<()> {
        let ending = async {
            while let Some(Ok(message)) = self.0.next().await {
                if message.is_close() {
                    return;
                }
            }
        };
        tokio::time::timeout(LATER, ending)
            .await
            .context("it is still open")
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
