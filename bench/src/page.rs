//! What the live page costs the server: 500 targets, 10,000 transitions behind them, each page
//! asked for on a new connection.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use comind_peers::http;
use hyper::Request;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::figures::{self, Samples, cell, say};
use crate::subject::Subject;

const TARGETS: usize = 500;
/// Each brings every target down and up again.
const ROUNDS: usize = 10;
const ASKED: usize = 50;

/// Runs it and prints.
pub(crate) async fn run() -> Result<()> {
    let first = TcpListener::bind("127.0.0.1:0").await?;
    let address = first.local_addr()?;
    let mut backend = accept(first);
    let targets: Vec<_> = (0..TARGETS)
        .map(|n| {
            let required = n % 10 == 0;
            format!("{{ name: t{n}, kind: tcp, required: {required}, url: \"tcp://{address}\", interval: 1s, timeout: 1s }}")
        })
        .collect();
    let subject = Subject::start(&targets).await?;
    say(&format!(
        "{TARGETS} targets, {} transitions",
        2 * ROUNDS * TARGETS
    ));
    for _ in 0..ROUNDS {
        backend.abort();
        let _ = backend.await;
        settle(&subject, "down").await?;
        backend = accept(rebind(address).await?);
        settle(&subject, "up").await?;
    }
    let mut rows = Vec::new();
    for path in [
        "/",
        "/page/live",
        "/target/t0",
        "/api/v1/state",
        "/api/v1/history?limit=10000",
    ] {
        let mut times = Samples::default();
        let mut size = 0;
        for _ in 0..ASKED {
            let asked = Instant::now();
            let request = Request::get(path).body(Default::default())?;
            let answer = http::send(subject.address(), request).await?;
            times.push_ms(asked.elapsed());
            ensure!(
                answer.status().is_success(),
                "{path} answered {}",
                answer.status()
            );
            size = answer.body().len();
        }
        rows.push(vec![
            path.to_owned(),
            cell(times.p50()),
            cell(times.p99()),
            cell(times.max()),
            format!("{:.0}", size as f64 / 1024.0),
        ]);
    }
    backend.abort();
    figures::print(
        "The page with 500 targets after 10,000 transitions, in ms",
        &["path", "p50", "p99", "max", "KiB"],
        &rows,
    );
    Ok(())
}

/// Takes connections and holds them, until it is aborted.
fn accept(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    })
}

async fn rebind(address: SocketAddr) -> Result<TcpListener> {
    comind_peers::wait::wait_for("the port", std::time::Duration::from_secs(10), async || {
        Ok(TcpListener::bind(address).await?)
    })
    .await
}

/// Waits until every target is like this.
async fn settle(subject: &Subject, health: &str) -> Result<()> {
    let deadline = std::time::Duration::from_secs(60);
    comind_peers::wait::wait_for(health, deadline, async || {
        let state = subject.state().await?;
        let mut targets = state["targets"].as_array().into_iter().flatten();
        ensure!(
            targets.all(|target| target["health"] == health),
            "not all are"
        );
        Ok(())
    })
    .await
}
