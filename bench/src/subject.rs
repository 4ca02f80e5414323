//! Our own program under measurement: started with a config, listened to, its cost read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use comind_peers::http;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A transition as the event stream told it.
#[derive(Debug)]
pub(crate) struct Told {
    /// When the event had arrived here.
    pub(crate) at: Instant,
    pub(crate) target: String,
    pub(crate) to: String,
}

/// The running program. Dropping it kills it.
pub(crate) struct Subject {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Subject {
    /// Starts it with these target lines (YAML items) and waits until each was looked at.
    pub(crate) async fn start(targets: &[String]) -> Result<Self> {
        Self::start_with("", targets).await
    }

    /// The same, with further sections of the config.
    pub(crate) async fn start_with(sections: &str, targets: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = Port::free()?;
        let address = port.addr();
        let mut config = format!(
            "api: {{ listen: {address} }}\ndata_dir: {}\n{sections}targets:\n",
            dir.path().display()
        );
        for target in targets {
            config.push_str(&format!("  - {target}\n"));
        }
        let file = dir.path().join("comind.yaml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let mut child = Command::new(program()?)
            .args(["serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to start comind-ops")?;
        let ready = wait_for("comind-ops", Duration::from_secs(60), async || {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "it ended: {status}: {}",
                    std::fs::read_to_string(dir.path().join("log"))?
                );
            }
            http::get(address, "/readyz").await.map(drop)
        });
        ready.await?;
        Ok(Self {
            child,
            address,
            dir,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The document of `/api/v1/state`.
    pub(crate) async fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &http::get(self.address, "/api/v1/state").await?,
        )?)
    }

    /// Waits until a target has this health.
    pub(crate) async fn until(&self, target: &str, health: &str) -> Result<()> {
        let what = format!("{target} to be {health}");
        wait_for(&what, Duration::from_secs(60), async || {
            let state = self.state().await?;
            let found = state["targets"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|t| t["name"] == target);
            match found {
                Some(found) if found["health"] == health => Ok(()),
                other => bail!(
                    "it is {}",
                    other.map_or(Value::Null, |t| t["health"].clone())
                ),
            }
        })
        .await
    }

    /// The event stream from now on, each event stamped when it arrives.
    pub(crate) async fn listen(&self) -> Result<mpsc::Receiver<Told>> {
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = hyper::Request::get("/api/v1/events")
            .header("host", "bench")
            .body(Empty::<Bytes>::new())?;
        let mut body = sender.send_request(request).await?.into_body();
        let (tell, told) = mpsc::channel(4096);
        tokio::spawn(async move {
            let _sender = sender;
            let mut text = String::new();
            while let Some(Ok(frame)) = body.frame().await {
                let at = Instant::now();
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                text.push_str(&String::from_utf8_lossy(data));
                while let Some(end) = text.find("\n\n") {
                    let message: String = text.drain(..end + 2).collect();
                    if let Some(event) = transition(&message, at)
                        && tell.send(event).await.is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(told)
    }
}

fn transition(message: &str, at: Instant) -> Option<Told> {
    if !message.contains("event: transition") {
        return None;
    }
    let data = message
        .lines()
        .find_map(|line| line.strip_prefix("data: "))?;
    let event: Value = serde_json::from_str(data).ok()?;
    Some(Told {
        at,
        target: event["target"].as_str()?.to_owned(),
        to: event["to"].as_str()?.to_owned(),
    })
}

/// Waits for a transition; earlier events of other targets are passed over.
pub(crate) async fn told(
    events: &mut mpsc::Receiver<Told>,
    target: &str,
    to: &str,
) -> Result<Instant> {
    let waiting = async {
        while let Some(event) = events.recv().await {
            if event.target == target && event.to == to {
                return Ok(event.at);
            }
        }
        bail!("the event stream ended")
    };
    match tokio::time::timeout(Duration::from_secs(60), waiting).await {
        Ok(result) => result,
        Err(_) => bail!("waited 60 s for {target} to become {to}"),
    }
}

/// The release build beside this program.
pub(crate) fn program() -> Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let program = bench.with_file_name("comind-ops");
    if !program.exists() {
        bail!(
            "{} is missing: cargo build --release makes it",
            program.display()
        );
    }
    Ok(program)
}
