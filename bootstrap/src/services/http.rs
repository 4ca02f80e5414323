//! One plain HTTP request to a server of our own on loopback, bounded in time and size.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::cause;

/// An answer longer than this is none of those that we ask for.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: String,
}

/// Asks for `url`.
///
/// # Errors
/// When there is no answer within `limit`.
pub async fn get(url: &str, limit: Duration) -> Result<Answer> {
    let request = Request::get(url)
        .body(Full::new(Bytes::new()))
        .with_context(|| format!("{url} is no URL"))?;
    send(request, limit).await
}

/// Sends form fields to `url`.
///
/// # Errors
/// When there is no answer within `limit`.
pub async fn post_form(url: &str, fields: &[(&str, &str)], limit: Duration) -> Result<Answer> {
    let body = fields
        .iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect::<Vec<_>>()
        .join("&");
    let request = Request::post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .with_context(|| format!("{url} is no URL"))?;
    send(request, limit).await
}

async fn send(request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer> {
    let url = request.uri().to_string();
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let response = client
            .request(request)
            .await
            .map_err(|error| anyhow::anyhow!(cause::root(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?
            .to_bytes();
        anyhow::Ok(Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer.with_context(|| format!("no answer from {url}")),
        Err(_) => bail!("no answer from {url} within {} ms", limit.as_millis()),
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all that is written");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(super::encode("aZ0-._~ &ä"), "aZ0-._~%20%26%C3%A4");
    }
}
