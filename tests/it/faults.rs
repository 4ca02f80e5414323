//! The faults that every server can have, and what the program must make of each: on the
//! process itself, and on the way to it.
//!
//! Must not know which server it is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use comind_peers::peer::Peer;
use comind_peers::relay::{Mode, Relay};

use crate::events::{Events, Seen};
use crate::serve::{LATER, SOON, Serve};

/// A stopped server is noticed by the next heartbeat (1 s) and its deadline (1 s). The rest is
/// slack for a busy machine; how fast it really is, is measured by the bench.
const SILENCE: Duration = Duration::from_secs(6);

/// Killed and started again, stopped and continued.
pub(crate) async fn of_process(serve: &Serve, name: &str, peer: &mut Peer) -> Result<()> {
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    serve.until_up(name).await?;
    killed(serve, &mut events, name, peer).await?;
    stopped(serve, &mut events, name, peer).await
}

async fn killed(serve: &Serve, events: &mut Events, name: &str, peer: &mut Peer) -> Result<()> {
    events.mark();
    let at = peer.kill()?;
    let down = events.transition(name, "down", SOON).await;
    let down = down.map_err(|error| serve.blame(error))?;
    let reason = &down.data["reason"];
    // While a server's processes die one after the other, the last of them may still hang up.
    ensure!(
        ["refused", "connection_closed", "shutting_down"].contains(&reason.as_str().unwrap_or("")),
        "{down:?}"
    );
    ensure!(down.data["hint"] == "connection_closed", "{down:?}");
    let detected = down.data["detected_ms"].as_f64().context("detected_ms")?;
    ensure!(detected < 1000.0, "{down:?}");
    let heard = down.at.saturating_duration_since(at);
    ensure!(heard < Duration::from_secs(1), "heard after {heard:?}");
    serve.until_is(name, "down", "refused").await?;
    peer.restart().await?;
    came_back(serve, events, name).await
}

async fn stopped(serve: &Serve, events: &mut Events, name: &str, peer: &Peer) -> Result<()> {
    events.mark();
    let at = peer.stop_signal()?;
    let down = events.transition(name, "down", LATER).await;
    let down = down.map_err(|error| serve.blame(error))?;
    is_silence(&down, at)?;
    peer.continue_signal()?;
    came_back(serve, events, name).await
}

fn is_silence(down: &Seen, since: Instant) -> Result<()> {
    ensure!(down.data["reason"] == "timeout", "{down:?}");
    let heard = down.at.saturating_duration_since(since);
    ensure!(heard < SILENCE, "heard after {heard:?}");
    Ok(())
}

async fn came_back(serve: &Serve, events: &mut Events, name: &str) -> Result<()> {
    let up = events.transition(name, "up", LATER).await;
    up.map_err(|error| serve.blame(error))?;
    serve.until_up(name).await?;
    Ok(())
}

/// Cut, slow, too slow, silent, refusing: the server itself is well all the time.
pub(crate) async fn of_the_way(serve: &Serve, name: &str, relay: &Relay) -> Result<()> {
    // Up first, so that the way there is in the snapshot and not among the events.
    serve.until_up(name).await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    cut(serve, &mut events, name, relay).await?;
    slow(serve, &mut events, name, relay).await?;
    too_slow(serve, &mut events, name, relay).await?;
    black_hole(serve, &mut events, name, relay).await?;
    refusing(serve, &mut events, name, relay).await
}

async fn cut(serve: &Serve, events: &mut Events, name: &str, relay: &Relay) -> Result<()> {
    events.mark();
    let before = relay.counts().accepted;
    relay.cut().await?;
    serve.until_looked(name, 4).await?;
    let accepted = relay.counts().accepted;
    ensure!(accepted > before, "nothing connected after the cut");
    ensure!(events.since().is_empty(), "{:?}", events.since());
    Ok(())
}

async fn slow(serve: &Serve, events: &mut Events, name: &str, relay: &Relay) -> Result<()> {
    events.mark();
    relay.set(Mode::Slow(Duration::from_millis(60))).await?;
    let slowed = |target: &serde_json::Value| {
        let latency = target["latency_ms"].as_f64();
        target["health"] == "up" && latency.is_some_and(|latency| latency >= 100.0)
    };
    serve.until(name, "up and slow", LATER, slowed).await?;
    serve.until_looked(name, 3).await?;
    ensure!(events.since().is_empty(), "{:?}", events.since());
    Ok(())
}

async fn too_slow(serve: &Serve, events: &mut Events, name: &str, relay: &Relay) -> Result<()> {
    events.mark();
    relay.set(Mode::Slow(Duration::from_millis(1500))).await?;
    let down = events.transition(name, "down", LATER).await;
    let down = down.map_err(|error| serve.blame(error))?;
    ensure!(down.data["reason"] == "timeout", "{down:?}");
    relay.set(Mode::Pass).await?;
    came_back(serve, events, name).await
}

async fn black_hole(serve: &Serve, events: &mut Events, name: &str, relay: &Relay) -> Result<()> {
    events.mark();
    let at = Instant::now();
    relay.set(Mode::Blackhole).await?;
    let down = events.transition(name, "down", LATER).await;
    let down = down.map_err(|error| serve.blame(error))?;
    is_silence(&down, at)?;
    relay.set(Mode::Pass).await?;
    came_back(serve, events, name).await
}

async fn refusing(serve: &Serve, events: &mut Events, name: &str, relay: &Relay) -> Result<()> {
    events.mark();
    relay.set(Mode::Refuse).await?;
    let down = events.transition(name, "down", SOON).await;
    let down = down.map_err(|error| serve.blame(error))?;
    ensure!(down.data["reason"] == "refused", "{down:?}");
    relay.set(Mode::Pass).await?;
    came_back(serve, events, name).await
}
