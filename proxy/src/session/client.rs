//! Asks a running proxy about its sessions, by the socket in its folder.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::admin::SOCKET;

/// A question and its answer take no longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub enum Silent {
    /// Nobody listens at the socket.
    Nobody(io::Error),
    /// Somebody does, and does not answer as they should.
    Broken(String),
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nobody(error) => write!(
                f,
                "{error}; is `comind-ops serve` running with `proxy.logins`, and is this its `data_dir`?"
            ),
            Self::Broken(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Silent {}

/// The sessions that last.
///
/// # Errors
/// When nobody answers.
pub async fn list(folder: &Path) -> Result<Vec<Value>, Silent> {
    match ask(folder, Method::GET, "/sessions")
        .await?
        .get_mut("sessions")
    {
        Some(Value::Array(all)) => Ok(std::mem::take(all)),
        _ => Err(Silent::Broken("the answer has no `sessions`".to_owned())),
    }
}

/// Whose sessions end.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one with this id.
    Id(&'a str),
    /// All of this user.
    User(&'a str),
}

/// Ends sessions; gives how many.
///
/// # Errors
/// When nobody answers.
pub async fn revoke(folder: &Path, which: Which<'_>) -> Result<u64, Silent> {
    let encoded =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let target = match which {
        Which::Id(id) => format!("/sessions/{}", encoded(id)),
        Which::User(user) => format!("/sessions?user={}", encoded(user)),
    };
    let answer = ask(folder, Method::DELETE, &target).await?;
    let ended = answer.get("ended").and_then(Value::as_u64);
    ended.ok_or_else(|| Silent::Broken("the answer has no `ended`".to_owned()))
}

async fn ask(folder: &Path, method: Method, target: &str) -> Result<Value, Silent> {
    let stream = UnixStream::connect(folder.join(SOCKET))
        .await
        .map_err(Silent::Nobody)?;
    match tokio::time::timeout(LIMIT, exchange(stream, method, target)).await {
        Ok(answered) => answered.map_err(Silent::Broken),
        Err(_) => Err(Silent::Broken(format!("no answer within {LIMIT:?}"))),
    }
}

async fn exchange(stream: UnixStream, method: Method, target: &str) -> Result<Value, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let task = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, "proxy")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    };
    let answered = answered.await;
    task.abort();
    answered
}
