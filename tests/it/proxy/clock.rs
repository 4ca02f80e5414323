//! Sessions while the machine's clock is set, or it sleeps: they last by whichever clock goes further, and
//! what is under way does not notice.

use anyhow::{Result, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::Request;
use http_body_util::Full;

use super::sessions::audit;
use super::sockets::WebSocket;
use crate::clock::Clock;
use crate::serve::{LATER, Serve};

const ASKS: (&str, &str) = ("authorization", "Bearer a-token-of-the-night-0123456789");

async fn ends(socket: &mut WebSocket, serve: &Serve, why: &str) -> Result<()> {
    socket.ended().await?;
    let why = format!("\"why\":\"{why}\"");
    wait_for("it in the audit log", LATER, async || {
        let log = audit(serve)?;
        ensure!(log.contains(&why), "{log}");
        Ok(())
    })
    .await
}

async fn says(socket: &mut WebSocket, text: &str) -> Result<()> {
    socket.send(text).await?;
    ensure!(socket.receive().await? == text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_by_the_clock_that_goes_further() -> Result<()> {
    let (node, port, dir) = (Node::start().await?, Port::free()?, tempfile::tempdir()?);
    let (clock, token) = (Clock::new(dir.path())?, dir.path().join("token"));
    std::fs::write(&token, &ASKS.1["Bearer ".len()..])?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {}\n  \
         logins: {{ day: {{ ttl: 8h, idle: 4h, bearer: {{ tokens: {{ night: {{ token_file: {} }} }} }} }} }}\n  \
         routes: [{{ host: \"*\", upstream: \"http://{}\", login: day }}]\n",
        port.addr(),
        token.display(),
        node.addr()
    );
    let serve = Serve::start_in(&config, &clock.env()?).await?;
    let addr = port.addr();
    let good = async || {
        let request = Request::get("/count").header(ASKS.0, ASKS.1);
        let answer = send(addr, request.body(Full::<Bytes>::default())?).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        Ok(())
    };
    let mut socket = WebSocket::open_with(addr, "/echo", &[ASKS]).await?;
    // Forward, back behind its own beginning, and right again: it goes on.
    for to in ["+3h", "-20h", "+0"] {
        clock.set(to)?;
        says(&mut socket, to).await?;
        good().await?;
    }
    // A night's sleep.
    clock.set("+9h")?;
    ends(&mut socket, &serve, "expired").await?;
    good().await?;
    // A lunch: its time is not over, but nobody was heard.
    let mut socket = WebSocket::open_with(addr, "/echo", &[ASKS]).await?;
    says(&mut socket, "back").await?;
    clock.set("+14h")?;
    ends(&mut socket, &serve, "idle").await
}
