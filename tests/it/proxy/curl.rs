//! curl as a client: another's TLS, HTTP/2 and PROXY headers.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result};
use comind_peers::tool::Tool;
use tokio::process::Command;

pub(super) const CURL: Tool = Tool::debian("curl", "curl");

/// What curl saw.
#[derive(Debug)]
pub(super) struct Seen {
    /// 0 where it failed.
    pub(super) status: u16,
    /// `1.1` or `2`.
    pub(super) version: String,
    /// Heads, as they came.
    pub(super) head: String,
    pub(super) body: String,
    pub(super) error: String,
}

/// Asks for a URL whose host is at `addr`, whatever its name.
pub(super) async fn curl(addr: SocketAddr, url: &str, more: &[&str]) -> Result<Seen> {
    let rest = url.split_once("://").context("no scheme")?.1;
    let host = rest.split('/').next().unwrap_or(rest);
    let (name, port) = host.split_once(':').context("no port")?;
    let dir = tempfile::tempdir()?;
    let (head, body) = (dir.path().join("head"), dir.path().join("body"));
    std::fs::write(&body, "")?;
    let output = Command::new(CURL.find()?)
        .args(["--silent", "--show-error", "--max-time", "20", "--resolve"])
        .arg(format!("{name}:{port}:{}", addr.ip()))
        .arg("--dump-header")
        .arg(&head)
        .arg("--output")
        .arg(&body)
        .args(["--write-out", "%{http_code} %{http_version}"])
        .args(more)
        .arg(url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, version) = told.split_once(' ').unwrap_or(("0", ""));
    Ok(Seen {
        status: status.parse().unwrap_or(0),
        version: version.to_owned(),
        head: std::fs::read_to_string(&head)
            .unwrap_or_default()
            .to_lowercase(),
        body: std::fs::read_to_string(&body)?,
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
