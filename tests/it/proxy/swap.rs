//! Certificates are replaced while clients ask: on new connections, and on one that is kept.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use comind_peers::node::Node;
use comind_peers::wait::wait_for;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::curl::CURL;
use super::tls::{Place, to};
use crate::secure::Client;
use crate::serve::{LATER, Serve};

/// How many; each takes what the program needs to see a changed file.
const SWAPS: usize = 20;
const NAMES: &[&str] = &["one.test", "127.0.0.1"];

/// Asks on new connections until told to stop; an error if one fails.
async fn keep_shaking(client: Client, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = client.ask("/who", "").await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        count += 1;
    }
    Ok(count)
}

/// curl with one connection, which asks until it is killed; each line is an answer's status.
async fn keep_asking(place: &Place, asked: Arc<AtomicUsize>) -> Result<()> {
    let url = format!("https://one.test:{}/who?[1-10000000]", place.tls.number());
    let mut curl = Command::new(CURL.find()?)
        .args(["--silent", "--show-error", "--fail-early", "--fail"])
        .args(["--cacert", &place.path("ca.crt").display().to_string()])
        .arg("--resolve")
        .arg(format!("one.test:{}:127.0.0.1", place.tls.number()))
        .args(["--output", "/dev/null"])
        // Not to its standard output, which it keeps in a buffer while that is a pipe.
        .args(["--write-out", "%{stderr}%{http_code} %{num_connects}\n"])
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(curl.stderr.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        let wanted = if first { "200 1" } else { "200 0" };
        ensure!(line == wanted, "{line}, not {wanted}");
    }
    anyhow::bail!("curl ended: {}", curl.wait().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_fail_nobody() -> Result<()> {
    let node = Node::start().await?;
    let place = Place::new()?;
    place.certify("one", NAMES)?;
    let serve = Serve::start_with(&place.config("", &to(node.addr()))).await?;
    let client = Client::new(place.tls.addr(), &place.authority, None)?;
    let stop = Arc::new(AtomicBool::new(false));
    let shaking: Vec<_> = (0..4)
        .map(|_| tokio::spawn(keep_shaking(client.clone(), stop.clone())))
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    // Each time as a client that knows nothing yet: in a resumed session no certificate is shown.
    let look = async || {
        let client = Client::new(place.tls.addr(), &place.authority, None)?;
        client.shown().await
    };
    let swapping = async {
        let mut shown = look().await?;
        for round in 1..=SWAPS {
            place.certify("one", NAMES)?;
            let before = shown.clone();
            let waited = wait_for("the new certificate", LATER, async || {
                let now = look().await?;
                ensure!(now != before, "still the one before");
                Ok(now)
            });
            shown = waited
                .await
                .map_err(|error| serve.blame(error.context(format!("swap {round}"))))?;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::select! {
        swapped = swapping => swapped?,
        failed = keep_asking(&place, counted) => failed.context("on the kept connection")?,
    }
    stop.store(true, Ordering::Relaxed);
    let mut handshakes = 0;
    for task in shaking {
        handshakes += task.await?.context("on a new connection")?;
    }
    let asked = asked.load(Ordering::Relaxed);
    ensure!(
        handshakes > SWAPS && asked > SWAPS,
        "{handshakes} handshakes, {asked} requests"
    );
    Ok(())
}
