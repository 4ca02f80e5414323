//! Upgraded connections: bytes both ways, whatever they mean, until one side ends or both are
//! silent for too long.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::serve::connection::Conn;
use crate::serve::worker::Worker;
use crate::session::held::Held;
use crate::telemetry::meter::RouteMeter;

/// In bytes, for each direction: a page and a bit, since thousands may be open at once.
const BUFFER: usize = 8 * 1024;

/// The two sides.
#[derive(Debug)]
pub struct Ends {
    /// The client's.
    pub client: OnUpgrade,
    /// The upstream's.
    pub upstream: OnUpgrade,
}

/// Carries bytes in a task of the worker, which ends with it.
pub fn carry(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    meter: &Arc<RouteMeter>,
    ends: Ends,
    idle: Duration,
    session: Option<Arc<Held>>,
) {
    let open = worker.tunnel(conn.clone());
    let meter = meter.clone();
    tokio::task::spawn_local(async move {
        meter.tunnel_opens();
        let counts = Counts {
            session,
            ..Counts::default()
        };
        let carried = tokio::select! {
            carried = both(ends, &counts) => carried,
            () = silence(&counts, idle) => Err(io::ErrorKind::TimedOut.into()),
            () = open.told_to_end() => Ok(()),
            () = counts.session_ends() => Ok(()),
        };
        meter.tunnel_closes(counts.up.get(), counts.down.get());
        if let Err(error) = carried {
            tracing::debug!(
                route = &*meter.name,
                "an upgraded connection broke off: {error}"
            );
        }
    });
}

/// Bytes carried so far.
#[derive(Debug, Default)]
struct Counts {
    up: Cell<u64>,
    down: Cell<u64>,
    session: Option<Arc<Held>>,
}

impl Counts {
    async fn session_ends(&self) {
        match &self.session {
            Some(session) => session.end.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn up(&self, length: u64) {
        self.up.set(self.up.get() + length);
        if let Some(session) = &self.session {
            // What comes from the client is a sign of life; what is sent to it is none.
            session.hears();
            session.carried(length, 0);
        }
    }

    fn down(&self, length: u64) {
        self.down.set(self.down.get() + length);
        if let Some(session) = &self.session {
            session.carried(0, length);
        }
    }
}

/// Ends once nothing has moved for `limit`, and at most twice that.
async fn silence(counts: &Counts, limit: Duration) {
    loop {
        let before = (counts.up.get(), counts.down.get());
        tokio::time::sleep(limit).await;
        if before == (counts.up.get(), counts.down.get()) {
            return;
        }
    }
}

async fn both(ends: Ends, counts: &Counts) -> io::Result<()> {
    let upgraded = async |end: OnUpgrade| end.await.map(TokioIo::new).map_err(io::Error::other);
    let (mut from_client, mut to_client) = tokio::io::split(upgraded(ends.client).await?);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upgraded(ends.upstream).await?);
    let carried = tokio::try_join!(
        pipe(&mut from_client, &mut to_upstream, |length| counts
            .up(length)),
        pipe(&mut from_upstream, &mut to_client, |length| counts
            .down(length)),
    );
    carried.map(drop)
}

async fn pipe<R, W>(from: &mut R, to: &mut W, count: impl Fn(u64)) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        count(length as u64);
    }
}
