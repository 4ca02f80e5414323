//! `comind-ops status`: what the collector sees, once or for as long as one watches.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use comind_bootstrap::event::{Level, now, say};
use comind_bootstrap::watch::client::Client;
use comind_bootstrap::watch::stream::{Event, Stream};
use comind_bootstrap::watch::table;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::output::Output;
use crate::place::HomeArgs;
use crate::up;

/// Times and latencies are drawn anew this often while nothing happens.
const REDRAW: Duration = Duration::from_secs(1);

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Go on, and show every change at once
    #[arg(long, short)]
    watch: bool,
}

impl Status {
    /// Shows the state; whether the platform works.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<bool> {
        let client = Client::at(up::listen(&home.home()?)?);
        let state = client
            .state()
            .await
            .context("the collector does not answer; comind-ops up starts it")?;
        if self.watch {
            return watch(&client, out).await.map(|()| true);
        }
        let text = table::targets(&state, now(), out.look());
        out.answer(&text, &serde_json::to_value(&state)?)?;
        Ok(matches!(state.health.as_str(), "up" | "degraded"))
    }
}

/// Follows the stream until interrupted; a collector that restarts is found again.
async fn watch(client: &Client, out: &Output) -> Result<()> {
    let mut last = None;
    let mut retry = tokio::time::interval(REDRAW);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        retry.tick().await;
        let followed = follow(client, &mut last, out).await;
        let why = followed
            .err()
            .map_or_else(|| "it ended".to_owned(), |error| format!("{error:#}"));
        say(
            out,
            Level::Warning,
            format!("the stream of events is lost, trying again: {why}"),
        );
    }
}

async fn follow(client: &Client, last: &mut Option<String>, out: &Output) -> Result<()> {
    let mut stream = Stream::open(&client.events(), last.as_deref()).await?;
    let live = std::io::stdout().is_terminal() && !out.json();
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = stream.next() => match event? {
                Some(event) => Some(event),
                None => return Ok(()),
            },
            _ = redraw.tick(), if live => None,
        };
        if let Some(event) = &event
            && let Some(id) = &event.id
        {
            *last = Some(id.clone());
        }
        if live {
            draw(client, out).await?;
        } else if let Some(event) = event {
            tell(&event, client, out).await?;
        }
    }
}

/// The whole table in place of the last one.
async fn draw(client: &Client, out: &Output) -> Result<()> {
    let state = client.state().await?;
    let table = table::targets(&state, now(), out.look());
    // Home, the text, and nothing of the old one below or beside it.
    let text = table.replace('\n', "\u{1b}[K\n");
    out.print(&format!("\u{1b}[H{text}\u{1b}[J"))
}

/// One line for each change, where there is no terminal to draw on.
async fn tell(event: &Event, client: &Client, out: &Output) -> Result<()> {
    let data: Value = serde_json::from_str(&event.data)
        .with_context(|| format!("the collector sent no JSON in event {}", event.kind))?;
    if event.kind != "transition" {
        let text = match out.json() {
            true => String::new(),
            false => table::targets(&client.state().await?, now(), out.look()),
        };
        return out.answer(&text, &json!({ "event": event.kind, "data": data }));
    }
    let word = |key: &str| data[key].as_str().unwrap_or("?");
    let text = format!(
        "{} {}: {} -> {} ({}: {})\n",
        word("at"),
        word("target"),
        word("from"),
        word("to"),
        word("reason"),
        word("message")
    );
    out.answer(&text, &json!({ "event": event.kind, "data": data }))
}
