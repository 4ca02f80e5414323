//! One session: a proxy with a host for each service, somebody who looks at the ways there in each
//! cluster, and the proxy told whenever another way is in force. What is under way goes on meanwhile; a
//! request that meets a way that has just broken is tried on the next one, by the proxy's own rules.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use comind_model::ingress::{Ingress, UpstreamTls};
use comind_model::snapshot::Snapshot;
use comind_model::timestamp::Timestamp;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::scout::{Part, Scout};
use super::wish::Wish;
use super::{page, told};
use crate::run::{Proxy, StartError};
use crate::upstream::tls::ClientTls;

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// What is reachable now.
    pub board: watch::Receiver<Board>,
    /// Ends after its token was cancelled, and what was under way has ended.
    pub task: JoinHandle<()>,
}

/// Opens a session: when this returns, its port listens.
///
/// # Errors
/// When the port is taken.
pub async fn open(wish: Wish, stop: CancellationToken) -> Result<Session, StartError> {
    let (listener, page_at) = page::listen().await.map_err(|error| StartError::Listen {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        error,
    })?;
    let handshake = ClientTls::new(&UpstreamTls {
        insecure: true,
        ..UpstreamTls::default()
    });
    let handshake = handshake.map_err(StartError::Tls)?.http1;
    let empty = told::everything(&wish, page_at, Vec::new());
    let mut proxy = Proxy::start(empty, &[], None)?;
    let scouts: Vec<Scout> = wish
        .sites
        .iter()
        .map(|site| {
            let cluster = (proxy.tunnels(), proxy.pods());
            Scout::new(&wish, site, cluster, handshake.clone())
        })
        .collect();
    let parts: Vec<Part> = scouts.iter().map(Scout::part).collect();
    let first = whole(&wish, page_at, &parts);
    proxy.tell(first.clone()).map_err(StartError::Told)?;
    let (tell, heard) = watch::channel(Some(Arc::new(first)));
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    let (_, seen) = watch::channel(Arc::new(Snapshot::empty(now)));
    let (show, board) = watch::channel(shown(&parts));
    let (sink, parts) = watch::channel(parts);
    let shown = board.clone();
    let task = tokio::spawn(async move {
        let sink = &sink;
        let looking = scouts.into_iter().enumerate().map(|(number, scout)| {
            // Each writes its own part alone.
            let write = move |part: Part| {
                sink.send_if_modified(|all| {
                    let changed = all[number] != part;
                    all[number] = part;
                    changed
                });
            };
            scout.until(stop.clone(), write)
        });
        let looking = join_all(looking);
        let pages = page::serve(listener, shown, stop.clone());
        let carried = proxy.follow(heard, seen, stop.clone());
        let together = put_together(&wish, page_at, parts, (tell, show), stop.clone());
        tokio::join!(pages, carried, looking, together);
    });
    Ok(Session { board, task })
}

/// What all clusters come to, for the proxy and for people, until `stop`.
async fn put_together(
    wish: &Wish,
    page_at: SocketAddr,
    mut parts: watch::Receiver<Vec<Part>>,
    (tell, show): (watch::Sender<Option<Arc<Ingress>>>, watch::Sender<Board>),
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = parts.changed() => if changed.is_err() { return },
        }
        let parts = parts.borrow_and_update().clone();
        let told = whole(wish, page_at, &parts);
        tell.send_if_modified(|before| {
            let changed = before.as_deref() != Some(&told);
            if changed {
                *before = Some(Arc::new(told));
            }
            changed
        });
        let shown = shown(&parts);
        show.send_if_modified(|before| {
            let changed = *before != shown;
            *before = shown;
            changed
        });
    }
}

fn whole(wish: &Wish, page_at: SocketAddr, parts: &[Part]) -> Ingress {
    let routes = parts.iter().flat_map(|part| part.routes.iter().cloned());
    told::everything(wish, page_at, routes.collect())
}

fn shown(parts: &[Part]) -> Board {
    let rows = parts.iter().flat_map(|part| part.rows.iter().cloned());
    Board {
        rows: rows.collect(),
    }
}
