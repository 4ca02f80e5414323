//! Lists and ends sessions for whoever may open a socket in the proxy's folder: its owner. Knows
//! no passwords: the file's mode is the gate.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comind_model::login::Why;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::table::Sessions;

/// The socket's name, below the folder.
pub const SOCKET: &str = "sessions.sock";

/// So many may ask at once.
const ASKERS: usize = 8;
/// A question and its answer take no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often sessions that are over are looked for.
const SWEEP: Duration = Duration::from_millis(250);

/// Ends what is over, and answers, until `stop`; then every session ends.
pub async fn keep(sessions: Arc<Sessions>, folder: std::path::PathBuf, stop: CancellationToken) {
    let listener = match listen(&folder) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let socket = folder.join(SOCKET);
            tracing::error!(
                "no socket for `comind-ops sessions` at {}: {error}",
                socket.display()
            );
            None
        }
    };
    let askers = Arc::new(Semaphore::new(ASKERS));
    let mut sweeps = tokio::time::interval(SWEEP);
    sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = sweeps.tick() => sessions.sweep(),
            came = accept(listener.as_ref()) => {
                let Ok(permit) = askers.clone().try_acquire_owned() else { continue };
                let sessions = sessions.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = tokio::time::timeout(PATIENCE, serve(came, sessions)).await;
                });
            }
        }
    }
    if listener.is_some() {
        let _ = std::fs::remove_file(folder.join(SOCKET));
    }
}

fn listen(folder: &Path) -> io::Result<UnixListener> {
    let socket = folder.join(SOCKET);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    // The folder is its owner's alone (0700) from before.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: Option<&UnixListener>) -> UnixStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of files: the next turn of the sweep comes first.
            Err(_) => tokio::time::sleep(SWEEP).await,
        }
    }
}

async fn serve(stream: UnixStream, sessions: Arc<Sessions>) {
    let service = service_fn(move |request| {
        let answer = answer(&sessions, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a question about sessions broke off: {error}");
    }
}

fn answer(sessions: &Sessions, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let (status, value) = match (request.method(), path.strip_prefix("/sessions")) {
        (&Method::GET, Some("")) => {
            let all: Vec<_> = sessions.list().iter().map(|one| one.json()).collect();
            (StatusCode::OK, serde_json::json!({ "sessions": all }))
        }
        (&Method::DELETE, Some(which)) => {
            let by = Some("comind-ops sessions");
            let ended = match (which.strip_prefix('/'), user(request.uri().query())) {
                (Some(id), None) => sessions.end_all(|one| *one.id == *id, Why::Revoked, by),
                (None, Some(user)) => {
                    sessions.end_all(|one| *one.who.user == *user, Why::Revoked, by)
                }
                _ => 0,
            };
            (StatusCode::OK, serde_json::json!({ "ended": ended }))
        }
        _ => (
            StatusCode::NOT_FOUND,
            serde_json::json!({ "error": "no such thing" }),
        ),
    };
    let mut response = Response::new(Full::from(format!("{value}\n")));
    *response.status_mut() = status;
    response
}

fn user(query: Option<&str>) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
    let (_, user) = pairs.find(|(name, _)| name == "user")?;
    Some(user.into_owned())
}
