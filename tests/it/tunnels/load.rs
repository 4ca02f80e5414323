//! Requests that may be repeated, one after the other, from several clients at once; none may fail.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use comind_peers::http::send;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::for_host;

pub(super) struct Load {
    stop: CancellationToken,
    clients: Vec<JoinHandle<Result<usize>>>,
}

impl Load {
    pub(super) fn start(addr: SocketAddr, host: &str, clients: usize) -> Self {
        let stop = CancellationToken::new();
        let one = |_| tokio::spawn(keep_asking(addr, host.to_owned(), stop.clone()));
        Self {
            clients: (0..clients).map(one).collect(),
            stop,
        }
    }

    /// How many were answered; an error if one was not.
    pub(super) async fn end(self) -> Result<usize> {
        self.stop.cancel();
        let mut all = 0;
        for client in self.clients {
            all += client.await??;
        }
        Ok(all)
    }
}

async fn keep_asking(addr: SocketAddr, host: String, stop: CancellationToken) -> Result<usize> {
    let mut count = 0;
    while !stop.is_cancelled() {
        let answer = send(addr, for_host("/count", &host)?).await?;
        let text = String::from_utf8_lossy(answer.body());
        ensure!(
            answer.status() == 200,
            "request {count}: {} {text}",
            answer.status()
        );
        count += 1;
    }
    Ok(count)
}
