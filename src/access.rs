//! `comind-ops access`: one address for the platform's services, by whichever way leads there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::event::{About, Level, say};
use comind_bootstrap::platform::hosts;
use comind_collector::config::duration::Span;
use comind_model::ingress::Cluster;
use comind_proxy::access::board::Board;
use comind_proxy::access::profile;
use comind_proxy::access::session::{self, Wish};
use comind_proxy::moment;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Access {
    /// Names such as grafana, or NAME=NAMESPACE/SERVICE:PORT [default: all that are known]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    env: EnvArgs,
    /// A kubeconfig [default: that of the platform on this machine, else what kubectl takes]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The ingress as it is reached from here [default: that of the platform on this machine]
    #[arg(long, value_name = "ADDRESS:PORT")]
    ingress: Option<SocketAddr>,
    /// The port on this machine's loopback
    #[arg(long, value_name = "PORT", default_value_t = 8090)]
    port: u16,
    /// Ends by itself after so long, such as 8h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<Span>,
    /// Show the start page in the browser
    #[arg(long)]
    open: bool,
    /// Print the addresses as variables for a shell, and nothing else
    #[arg(long)]
    print_env: bool,
}

impl Access {
    /// Serves until Ctrl-C, SIGTERM or the end of `--ttl`.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        let wish = self.wish(home)?;
        if self.print_env {
            return print_env(&wish, out);
        }
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stop = CancellationToken::new();
        let _ended_with_us = stop.clone().drop_guard();
        let opened = session::open(wish.clone(), stop.clone()).await;
        let mut session = opened
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("port {} cannot be had; --port chooses another", wish.port))?;
        say(
            out,
            Level::Changed,
            format!("{} lists what is reachable", wish.start()),
        );
        if self.open {
            browse(&wish.start(), out);
        }
        let ttl = async {
            match self.ttl {
                Some(Span(ttl)) => moment::passes(ttl).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ttl);
        let mut before = Board::default();
        let why = loop {
            tokio::select! {
                _ = term.recv() => break "SIGTERM",
                _ = int.recv() => break "Ctrl-C",
                () = &mut ttl => break "its time is over",
                changed = session.board.changed() => {
                    if changed.is_err() {
                        bail!("the session has ended by itself");
                    }
                    let now = session.board.borrow_and_update().clone();
                    tell(&before, &now, out);
                    before = now;
                }
            }
        };
        stop.cancel();
        session.task.await?;
        say(out, Level::Note, format!("closed: {why}"));
        Ok(())
    }

    fn wish(&self, home: &HomeArgs) -> Result<Wish> {
        let place = Place {
            env: self.env.env,
            home: home.home()?,
        };
        let ours = Some(place.kubeconfig()).filter(|file| file.exists());
        let ours = ours.filter(|_| self.kubeconfig.is_none() && self.context.is_none());
        let profiles = profile::wanted(&self.services, self.env.env.name());
        let ingress = || SocketAddr::from(([127, 0, 0, 1], hosts::port(self.env.env)));
        Ok(Wish {
            ingress: self.ingress.or_else(|| ours.is_some().then(ingress)),
            cluster: Cluster {
                kubeconfig: ours.or_else(|| self.kubeconfig.clone()),
                context: self.context.clone(),
            },
            profiles: profiles.map_err(anyhow::Error::msg)?,
            port: self.port,
        })
    }
}

/// `GRAFANA_URL=…`, for `eval`.
fn print_env(wish: &Wish, out: &Output) -> Result<()> {
    let named = wish.profiles.iter().map(|profile| {
        let name = profile.name.to_uppercase().replace('-', "_");
        (format!("{name}_URL"), wish.url(profile))
    });
    let named: Vec<(String, String)> = named.collect();
    let text: String = named
        .iter()
        .map(|(name, url)| format!("export {name}={url}\n"))
        .collect();
    let all: serde_json::Map<String, serde_json::Value> = named
        .into_iter()
        .map(|(name, url)| (name, json!(url)))
        .collect();
    out.answer(&text, &json!(all))
}

/// A line for each service that is reached otherwise than before.
fn tell(before: &Board, now: &Board, out: &Output) {
    for row in &now.rows {
        let old = before.rows.iter().find(|old| old.name == row.name);
        let same_way = old.is_some_and(|old| old.chosen.way == row.chosen.way);
        // While nothing leads there, another reason is news.
        let news = match row.chosen.way {
            Some(_) => !same_way,
            None => old.is_none_or(|old| old.chosen != row.chosen),
        };
        if !news {
            continue;
        }
        let about = About::new(&row.name, out);
        match row.chosen.way {
            Some(way) => about.say(
                Level::Changed,
                format!("{} by {}: {}", row.url, way.as_str(), row.chosen.why),
            ),
            None => about.say(
                Level::Warning,
                format!("cannot be reached: {}", row.chosen.why),
            ),
        }
    }
}

/// A browser that cannot be started is no failure: the address stands above.
fn browse(url: &str, out: &Output) {
    let opener = match cfg!(target_os = "macos") {
        true => "open",
        false => "xdg-open",
    };
    let mut command = tokio::process::Command::new(opener);
    command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        say(
            out,
            Level::Warning,
            format!("no browser could be started ({opener}: {error})"),
        );
    }
}
