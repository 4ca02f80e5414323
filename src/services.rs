//! `comind-ops services …`.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::home::Home;
use comind_bootstrap::lock;
use comind_bootstrap::services::catalog::Service;
use comind_bootstrap::services::flow::Outcome;
use comind_bootstrap::services::session::{Request, Session};
use comind_bootstrap::services::{flow, status, table};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::output::Output;
use crate::place::{HomeArgs, ServiceArgs};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Services {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    args: ServiceArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prepare and start the services, and make the database, buckets and queues
    Setup,
    /// Start services that were set up (sets them up if they were not)
    Start {
        /// Only these
        #[arg(value_parser = service)]
        services: Vec<Service>,
    },
    /// Stop services; their data is kept
    Stop {
        /// Only these
        #[arg(value_parser = service)]
        services: Vec<Service>,
    },
    /// Show how the services stand
    Status,
    /// Show what services wrote to their logs
    Logs {
        /// Only this one
        #[arg(value_parser = service)]
        service: Option<Service>,
        /// Go on with what they write from now on
        #[arg(long, short)]
        follow: bool,
        /// So many last lines of each
        #[arg(long, default_value_t = 50, value_name = "N")]
        tail: usize,
    },
    /// Remove the services with their data; only what is ours, and after asking
    Clean,
}

fn service(name: &str) -> Result<Service, String> {
    let all = Service::ALL.map(Service::name).join(", ");
    Service::named(name).ok_or_else(|| format!("the services are {all}"))
}

impl Services {
    /// Does what is asked.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        let request = self.args.request(home)?;
        match self.what {
            What::Setup => setup(request, Vec::new(), out).await,
            What::Start { services } => setup(request, services, out).await,
            What::Stop { services } => {
                if !set_up(&request, out) {
                    return Ok(());
                }
                let _lock = take_lock(&request.home, out).await?;
                stop(&request, &services, out).await
            }
            What::Status => show(&Session::open_as_is(&request)?, out).await,
            What::Logs {
                service,
                follow,
                tail,
            } => logs(&request, service, follow, tail, out).await,
            What::Clean => clean(&request, out).await,
        }
    }
}

async fn setup(request: Request, only: Vec<Service>, out: &Output) -> Result<()> {
    let _lock = take_lock(&request.home, out).await?;
    let (session, _) = bring_up(request, only, out).await?;
    show(&session, out).await
}

/// Brings up `only` these services, or all; fails if a required one does.
pub(crate) async fn bring_up(
    request: Request,
    only: Vec<Service>,
    out: &Output,
) -> Result<(Session, Outcome)> {
    let session = Session::open(request).await?;
    let wanted = session.settings.wanted();
    if let Some(disabled) = only.iter().find(|service| !wanted.contains(service)) {
        bail!("{} is switched off in the settings", disabled.name());
    }
    let runtime = session.runtime.as_ref();
    let (kind, because) = (runtime.kind().name(), &session.because);
    say(
        out,
        Level::Note,
        format!("runtime: {kind}, because {because}"),
    );
    let fresh = session.record()?;
    let services = if only.is_empty() { wanted } else { only };
    let outcome = flow::start(runtime, &session.settings, &services, out).await;
    if outcome.changed.is_empty() && outcome.failed.is_empty() && outcome.warned.is_empty() {
        let what = if fresh {
            "only the settings were written"
        } else {
            "nothing was changed"
        };
        say(
            out,
            Level::Unchanged,
            format!("the services were as wanted: {what}"),
        );
    }
    if !outcome.failed.is_empty() {
        show(&session, out).await?;
        let names: Vec<_> = outcome.failed.into_keys().collect();
        bail!(
            "required services failed: {} (reasons above; their logs: comind-ops services logs)",
            names.join(", ")
        );
    }
    Ok((session, outcome))
}

/// Whether anything was ever set up here; says so if not.
pub(crate) fn set_up(request: &Request, out: &Output) -> bool {
    let there = request.home.path().exists();
    if !there {
        let home = request.home.path().display();
        say(
            out,
            Level::Unchanged,
            format!("nothing was set up in {home}"),
        );
    }
    there
}

/// Stops these services, or all. The caller holds the lock.
pub(crate) async fn stop(request: &Request, only: &[Service], out: &Output) -> Result<()> {
    let session = Session::open_as_is(request)?;
    let services = if only.is_empty() { &Service::ALL } else { only };
    flow::stop(session.runtime.as_ref(), services, out).await?;
    Ok(())
}

/// Shows how the services stand.
pub(crate) async fn show(session: &Session, out: &Output) -> Result<()> {
    let rows = status::rows(session.runtime.as_ref(), &session.settings).await?;
    let text = table::services(&rows, comind_bootstrap::event::now(), out.look());
    let value = json!({ "runtime": session.runtime.kind(), "services": rows });
    out.answer(&text, &value)
}

async fn logs(
    request: &Request,
    only: Option<Service>,
    follow: bool,
    tail: usize,
    out: &Output,
) -> Result<()> {
    let session = Session::open_as_is(request)?;
    let runtime = session.runtime.as_ref();
    let services = only.map_or_else(|| Service::ALL.to_vec(), |service| vec![service]);
    let line = |service: Service, text: &str| {
        let value = json!({ "service": service, "line": text });
        let shown = match only {
            Some(_) => format!("{text}\n"),
            None => format!("{:<10} | {text}\n", service.name()),
        };
        out.answer(&shown, &value)
    };
    for service in &services {
        for text in runtime.tail(*service, tail).await? {
            line(*service, &text)?;
        }
    }
    if follow {
        let all = services.iter().map(|service| async move {
            let show = |text: String| {
                // Only a reader that has gone away, and that ends the program.
                let _ = line(*service, &text);
            };
            runtime.follow(*service, &show).await
        });
        try_join_all(all).await?;
    }
    Ok(())
}

async fn clean(request: &Request, out: &Output) -> Result<()> {
    if !set_up(request, out) {
        return Ok(());
    }
    let _lock = take_lock(&request.home, out).await?;
    let session = Session::open_as_is(request)?;
    let runtime = session.runtime.as_ref();
    let all = flow::belongings(runtime).await?;
    if all.is_empty() {
        session.forget()?;
        say(out, Level::Unchanged, "nothing of ours is left to remove");
        return Ok(());
    }
    let list = all.join("\n    ");
    out.confirm(&format!(
        "This would remove, with all data:\n    {list}\nRemove it"
    ))?;
    flow::clean(runtime, out).await?;
    session.forget()
}

/// One command at a time changes things in a home.
pub(crate) async fn take_lock(home: &Home, out: &Output) -> Result<lock::Lock> {
    home.create()?;
    let limit = std::time::Duration::from_secs(300);
    lock::take(&home.lock(), limit, |why| say(out, Level::Waiting, why)).await
}
