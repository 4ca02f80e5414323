//! A bare watch of applications: what the API tells, as soon as it tells it. The measure for
//! whoever watches the same.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::{KubeApi, TOKEN, connector};

/// An open watch from now on.
pub struct Bare {
    body: Incoming,
    read: Vec<u8>,
    _sender: http1::SendRequest<Empty<Bytes>>,
}

impl KubeApi {
    /// Watches the applications in namespace `argocd`.
    pub async fn watch_applications(&self) -> Result<Bare> {
        let path =
            "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications?watch=1&resourceVersion=0";
        let addr = self.addr();
        let stream = TcpStream::connect(addr).await?;
        let name = ServerName::IpAddress(addr.ip().into());
        let stream = connector(self.authority_pem())?
            .connect(name, stream)
            .await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection); // ends with the body
        let request = Request::get(path)
            .header(header::HOST, addr.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .body(Empty::new())?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(Bare {
            body: answer.into_body(),
            read: Vec::new(),
            _sender: sender,
        })
    }
}

impl Bare {
    /// The moment at which a change of this application was read whole. What was told before is
    /// passed over.
    pub async fn changed(&mut self, name: &str) -> Result<Instant> {
        let named = format!(r#""name":"{name}","namespace""#);
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if line.starts_with(r#"{"type":"MODIFIED""#) && line.contains(&named) {
                    return Ok(Instant::now());
                }
            }
            let frame = self.body.frame().await.context("the watch ended")??;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}
