//! `comind-ops up`: services, collector, and where to find them.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use comind_bootstrap::event::{About, Level, now, say};
use comind_bootstrap::home::Home;
use comind_bootstrap::services::catalog::{self, Service};
use comind_bootstrap::services::settings::Settings;
use comind_bootstrap::watch::client::{Client, State};
use comind_bootstrap::watch::config::{Written, ensure};
use comind_bootstrap::watch::{ready, table, unit};
use comind_collector::config;
use serde_json::json;

use crate::bundle;
use crate::output::Output;
use crate::place::{HomeArgs, ServiceArgs};
use crate::services;
use crate::supervise;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Bring what this machine lacks out of this bundle first: no network is needed
    #[arg(long, value_name = "BUNDLE")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    args: ServiceArgs,
}

impl Up {
    /// Brings everything up and waits until the collector sees it so.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        bundle::offline(self.offline.as_deref(), &["run"], false, out).await?;
        let request = self.args.request(home)?;
        let home = request.home.clone();
        let _lock = services::take_lock(&home, out).await?;
        let (session, outcome) = services::bring_up(request, Vec::new(), out).await?;
        let excused: Vec<&str> = outcome.warned.keys().copied().collect();
        let client = start_collector(&home, &session.settings, &excused, out).await?;
        let state = client.state().await?;
        answer(&session.settings, &client, &state, out)
    }
}

async fn start_collector(
    home: &Home,
    settings: &Settings,
    excused: &[&str],
    out: &Output,
) -> Result<Client> {
    let about = About::new("collector", out);
    let written = ensure(home, settings)?;
    if written == Written::Theirs {
        let path = home.serve_config();
        about.say(
            Level::Note,
            format!("{} was edited and stays as it is", path.display()),
        );
    }
    let listen = listen(home)?;
    let program = std::env::current_exe()?;
    let own = match written {
        Written::Theirs => None,
        Written::Fresh | Written::Same => Some(std::fs::read_to_string(home.serve_config())?),
    };
    let unit = unit::unit(home, program, listen, own.as_deref())?;
    let started = ready::start(&unit, &supervise::launcher()?, listen.port()).await?;
    let client = Client::at(listen);
    ready::wait(home, &unit, &client, excused, about).await?;
    match started {
        Some(done) => about.say(
            Level::Changed,
            format!("{done}; it has looked at everything"),
        ),
        None => about.say(Level::Unchanged, "runs and has looked at everything"),
    }
    Ok(client)
}

/// Where the collector of this home listens, by its configuration.
pub(crate) fn listen(home: &Home) -> Result<SocketAddr> {
    let path = home.serve_config();
    if !path.exists() {
        bail!(
            "no collector was set up in {}; comind-ops up does that",
            home.path().display()
        );
    }
    Ok(config::load(&path)?.api.listen)
}

/// The table and the five places to go to.
fn answer(settings: &Settings, client: &Client, state: &State, out: &Output) -> Result<()> {
    let mut places = vec![("live page", client.page())];
    let services = settings.wanted().into_iter();
    places.extend(services.map(|service| (title(service), catalog::url(service, settings))));
    let mut text = table::targets(state, now(), out.look());
    text.push('\n');
    for (title, url) in &places {
        text.push_str(&format!("{title:<14} {url}\n"));
    }
    let urls: serde_json::Map<String, serde_json::Value> = places
        .into_iter()
        .map(|(title, url)| (title.to_owned(), url.into()))
        .collect();
    out.answer(&text, &json!({ "state": state, "urls": urls }))?;
    say(
        out,
        Level::Note,
        "comind-ops status --watch shows every change; comind-ops down stops it all",
    );
    Ok(())
}

fn title(service: Service) -> &'static str {
    match service {
        Service::Postgresql => "PostgreSQL",
        Service::Minio => "MinIO console",
        Service::Redis => "Redis",
        Service::Elasticmq => "ElasticMQ",
    }
}
