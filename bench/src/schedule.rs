//! Whether dead targets make living ones late: 1,000 targets at 1 s, a tenth of which swallow
//! what they are sent. Measured by the server that is asked, not by the prober.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::backend::Backend;
use crate::figures::{self, Samples, cell, say};
use crate::subject::Subject;

const TARGETS: usize = 1000;
const WARM_UP: Duration = Duration::from_secs(8);
const WINDOW: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs it and prints.
pub(crate) async fn run() -> Result<()> {
    say(&format!("{TARGETS} targets, a tenth of them black holes"));
    let backend = Backend::start().await?;
    let hole = BlackHole::start().await?;
    let targets: Vec<_> = (0..TARGETS)
        .map(|n| {
            let address = if n % 10 == 0 { hole.address } else { backend.address };
            format!("{{ name: t{n}, kind: http, url: \"http://{address}/t/{n}\", interval: 1s, timeout: 1s }}")
        })
        .collect();
    let subject = Subject::start(&targets).await?;
    sleep(WARM_UP).await;
    backend
        .arrivals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    sleep(WINDOW).await;
    let arrivals = std::mem::take(
        &mut *backend
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    drop(subject);
    let mut errors = Samples::default();
    for times in arrivals.values() {
        errors_of(times, &mut errors);
    }
    let row = vec![
        arrivals.len().to_string(),
        errors.len().to_string(),
        cell(errors.p50()),
        cell(errors.p99()),
        cell(errors.max()),
    ];
    figures::print(
        "Schedule error of the healthy targets, in ms",
        &["targets", "looks", "p50", "p99", "max"],
        &[row],
    );
    Ok(())
}

/// How far each look lies from the grid that fits best: the one through the middle of the
/// target's own offsets.
fn errors_of(times: &[Instant], errors: &mut Samples) {
    let Some(first) = times.first() else { return };
    let offset = |at: &Instant| {
        let since = at.duration_since(*first).as_secs_f64();
        since - (since / INTERVAL.as_secs_f64()).round() * INTERVAL.as_secs_f64()
    };
    let mut offsets: Vec<f64> = times.iter().map(offset).collect();
    offsets.sort_by(f64::total_cmp);
    let middle = offsets[offsets.len() / 2];
    for offset in offsets {
        errors.push((offset - middle).abs() * 1e3);
    }
}

/// Takes connections and never answers.
struct BlackHole {
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BlackHole {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut held = std::collections::VecDeque::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push_back(stream);
                // Their probers have long given up on the oldest.
                if held.len() > TARGETS {
                    held.pop_front();
                }
            }
        });
        Ok(Self { address, task })
    }
}
