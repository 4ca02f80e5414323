//! The start page: which services can be reached, and how, as it changes. Listens on a port of its own
//! on loopback; the proxy leads there.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use maud::{DOCTYPE, Markup, html};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Row};
use crate::access::choose::Way;

const STYLE: &str = include_str!("../../../dashboards/access/page.css");
const SCRIPT: &str = include_str!("../../../dashboards/access/page.js");
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'",
);

/// So many connections at once.
const OPEN: usize = 64;
/// A head has to come within this.
const HEAD: Duration = Duration::from_secs(5);

/// Listens; returns where.
///
/// # Errors
/// When there is no free port.
pub async fn listen() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

/// Serves the page until `stop`.
pub async fn serve(listener: TcpListener, board: watch::Receiver<Board>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(OPEN));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (Ok((stream, _)), Ok(permit)) = (accepted, room.clone().try_acquire_owned()) else {
            continue;
        };
        let board = board.clone();
        open.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&request, &board.borrow());
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            if let Err(error) = served {
                tracing::debug!("a connection to the start page broke: {error}");
            }
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return said(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "GET it\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/" => said(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page(board).into_string(),
        ),
        "/rows" => said(
            StatusCode::OK,
            "text/html; charset=utf-8",
            rows(board).into_string(),
        ),
        "/state.json" => {
            let text = serde_json::to_string(board).unwrap_or_default();
            said(StatusCode::OK, "application/json", text)
        }
        "/page.css" => said(StatusCode::OK, "text/css", STYLE.to_owned()),
        "/page.js" => said(StatusCode::OK, "text/javascript", SCRIPT.to_owned()),
        _ => said(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there is nothing here\n".to_owned(),
        ),
    }
}

fn said(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page(board: &Board) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "comind-ops access" }
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body {
                h1 { "What is reachable" }
                main #rows aria-live="polite" { (rows(board)) }
                p #lost hidden { "comind-ops access has ended, or does not answer." }
            }
        }
    }
}

fn rows(board: &Board) -> Markup {
    let by_context = board.rows.chunk_by(|one, next| one.context == next.context);
    html! {
        @for rows in by_context {
            @if let Some(context) = rows.first().and_then(|row| row.context.as_deref()) {
                h2 { (context) }
            }
            (table(rows))
        }
    }
}

fn table(rows: &[Row]) -> Markup {
    html! {
        table {
            thead { tr { th { "service" } th { "way" } th { "why" } } }
            tbody {
                @for row in rows {
                    tr class=(row.chosen.way.map_or("none", Way::as_str)) {
                        td { a href=(row.url) { (row.name) } small { (row.service) } }
                        td { b { (row.chosen.way.map_or("none", Way::as_str)) } small { "since " (row.since.strftime("%H:%M:%S")) " UTC" } }
                        td { (row.chosen.why) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::choose::Chosen;

    #[test]
    fn what_is_said_cannot_be_markup() {
        let board = Board {
            rows: vec![Row {
                name: "a".to_owned(),
                context: Some("work & play".to_owned()),
                url: "http://a.localhost:1/".to_owned(),
                service: "b/c:1".to_owned(),
                chosen: Chosen {
                    way: None,
                    why: "<script>".to_owned(),
                },
                since: jiff::Timestamp::UNIX_EPOCH,
            }],
        };
        let text = page(&board).into_string();
        assert!(
            !text.contains("<script>") && text.contains("&lt;script&gt;"),
            "{text}"
        );
        assert!(text.contains("since 00:00:00 UTC"), "{text}");
        assert!(text.contains("<h2>work &amp; play</h2>"), "{text}");
    }
}
