//! `comind-ops access`: one address for the platform's services, by whichever way leads there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::event::{About, Level, say};
use comind_bootstrap::platform::hosts;
use comind_collector::config::duration::Span;
use comind_model::ingress::Cluster;
use comind_proxy::access::board::{Board, Row};
use comind_proxy::access::profile;
use comind_proxy::access::session;
use comind_proxy::access::wish::{self, Site, Wish};
use comind_proxy::moment;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Access {
    /// Names such as grafana, or NAME=NAMESPACE/SERVICE:PORT[/PATH] [default: all that are known]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    env: EnvArgs,
    /// A kubeconfig [default: that of the platform on this machine, else what kubectl takes: all files
    /// in KUBECONFIG as one]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; of several, each has its hosts: SERVICE.CONTEXT.localhost
    #[arg(long, value_name = "NAME")]
    context: Vec<String>,
    /// The ingress as it is reached from here [default: that of the platform on this machine]
    #[arg(long, value_name = "[CONTEXT=]ADDRESS:PORT")]
    ingress: Vec<At>,
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
        let profiles = profile::wanted(&self.services, self.env.env.name());
        let profiles = profiles.map_err(anyhow::Error::msg)?;
        let contexts = self.contexts()?;
        let of = |context: Option<String>| Cluster {
            kubeconfig: self.kubeconfig.clone(),
            context,
        };
        let sites = match contexts {
            [] => {
                let (cluster, ingress) = self.usual(home, of(None))?;
                vec![Site::new(None, cluster, ingress, profiles)]
            }
            [only] => {
                let ingress = self.ingress_of(only);
                vec![Site::new(None, of(Some(only.clone())), ingress, profiles)]
            }
            several => {
                let labels = wish::labels(several).into_iter();
                let site = |(label, context): (String, &String)| {
                    let cluster = of(Some(context.clone()));
                    let ingress = self.ingress_of(context);
                    Site::new(Some(label), cluster, ingress, profiles.clone())
                };
                labels.zip(several).map(site).collect()
            }
        };
        Ok(Wish {
            sites,
            port: self.port,
        })
    }

    /// The contexts that are asked for, and whether `--ingress` speaks of those.
    fn contexts(&self) -> Result<&[String]> {
        let all = self.context.as_slice();
        for (number, context) in all.iter().enumerate() {
            if all[..number].contains(context) {
                bail!("--context {context} is there twice");
            }
        }
        for at in &self.ingress {
            match &at.context {
                Some(context) if !all.contains(context) => {
                    bail!(
                        "--ingress speaks of {context}; name it with --context {context} as well"
                    );
                }
                None if all.len() > 1 => {
                    let (at, first) = (at.at, &all[0]);
                    bail!(
                        "whose ingress is {at}? Of several contexts write --ingress {first}={at}"
                    );
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn ingress_of(&self, context: &str) -> Option<SocketAddr> {
        let is_of = |at: &&At| at.context.as_deref().is_none_or(|of| of == context);
        self.ingress.iter().find(is_of).map(|at| at.at)
    }

    /// The platform on this machine, where there is one and nothing else is asked for.
    fn usual(&self, home: &HomeArgs, cluster: Cluster) -> Result<(Cluster, Option<SocketAddr>)> {
        let place = Place {
            env: self.env.env,
            home: home.home()?,
        };
        let ours = Some(place.kubeconfig()).filter(|file| file.exists());
        let ours = ours.filter(|_| self.kubeconfig.is_none());
        let ingress = || SocketAddr::from(([127, 0, 0, 1], hosts::port(self.env.env)));
        let told = self.ingress.first().map(|at| at.at);
        let ingress = told.or_else(|| ours.is_some().then(ingress));
        let kubeconfig = ours.or(cluster.kubeconfig);
        let context = cluster.context;
        Ok((
            Cluster {
                kubeconfig,
                context,
            },
            ingress,
        ))
    }
}

/// An ingress, and of which context.
#[derive(Clone, Debug)]
struct At {
    context: Option<String>,
    at: SocketAddr,
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (context, at) = match text.rsplit_once('=') {
            Some((context, at)) => (Some(context.to_owned()), at),
            None => (None, text),
        };
        let at = at.parse().map_err(|_| {
            format!("`{at}` is no address with a port; write 127.0.0.1:80 or [::1]:80")
        })?;
        Ok(Self { context, at })
    }
}

/// `GRAFANA_URL=…`, for `eval`.
fn print_env(wish: &Wish, out: &Output) -> Result<()> {
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let mut named: Vec<(String, String)> = Vec::new();
    for site in &wish.sites {
        let label = site
            .label
            .as_deref()
            .map(|label| format!("_{}", upper(label)));
        let label = label.unwrap_or_default();
        for profile in &site.profiles {
            let name = upper(&profile.name);
            named.push((format!("{name}{label}_URL"), wish.url(site, profile)));
            if profile.needs.calls && wish.sites.len() == 1 {
                // Its command line takes it from there, with --plaintext.
                named.push((format!("{name}_SERVER"), format!("localhost:{}", wish.port)));
            }
        }
    }
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
        let is_same = |old: &&Row| (&old.name, &old.context) == (&row.name, &row.context);
        let old = before.rows.iter().find(is_same);
        let same_way = old.is_some_and(|old| old.chosen.way == row.chosen.way);
        // While nothing leads there, another reason is news.
        let news = match row.chosen.way {
            Some(_) => !same_way,
            None => old.is_none_or(|old| old.chosen != row.chosen),
        };
        if !news || row.chosen.is_early() {
            continue;
        }
        let name = match &row.context {
            Some(context) => format!("{} in {context}", row.name),
            None => row.name.clone(),
        };
        let about = About::new(&name, out);
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
