//! `comind-ops bootstrap`: the whole platform, from nothing, in one command.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use comind_bootstrap::cluster::env::Env;
use comind_bootstrap::cluster::host::cluster::HostCluster;
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::plan::graph::Part;
use comind_bootstrap::plan::{preview, run};
use comind_bootstrap::platform::plan;
use comind_bootstrap::services::session::Session;
use serde_json::json;

use crate::cluster::{Ended, known};
use crate::output::Output;
use crate::place::{HomeArgs, ServiceArgs};
use crate::services::{show, take_lock};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Bootstrap {
    /// Where the platform is to be
    #[arg(long, env = "PROFILE", value_enum, default_value = "local")]
    profile: Profile,
    /// Which environment: dev, stage, qa or prod
    #[arg(long, env = "ENV", default_value = "dev")]
    env: Env,
    #[command(flatten)]
    wishes: Wishes,
    #[command(flatten)]
    services: ServiceArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Profile {
    /// This machine
    Local,
    /// AWS
    Aws,
}

/// Which part of a plan is meant, and what is to be done with it.
#[derive(Args, Debug)]
pub(crate) struct Wishes {
    /// Only say what would be done; exit 2 if that is anything
    #[arg(long)]
    pub(crate) plan: bool,
    /// Stop after this step
    #[arg(long, value_name = "STEP")]
    pub(crate) until: Option<String>,
    /// Only these steps
    #[arg(long, value_name = "STEP", conflicts_with = "until")]
    pub(crate) only: Vec<String>,
    /// Leave your own kubeconfig alone
    #[arg(long)]
    pub(crate) no_kubeconfig: bool,
}

impl Wishes {
    /// The part that is meant.
    pub(crate) fn part(&self) -> Part {
        match (&self.until, &self.only) {
            (Some(last), _) => Part::Until(last.clone()),
            (None, only) if !only.is_empty() => Part::Only(only.clone()),
            _ => Part::Whole,
        }
    }
}

impl Bootstrap {
    /// Brings the platform up, or says what that would do.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        if self.profile == Profile::Aws {
            bail!(
                "the profile aws is not there yet; PROFILE=local brings the platform up on this machine"
            );
        }
        let known = Arc::new(known(self.env, home, !self.wishes.no_kubeconfig)?);
        let cluster = HostCluster {
            known: known.clone(),
        };
        if let Some(lack) = cluster.lacks().await {
            bail!("{lack}");
        }
        let session = Arc::new(Session::open(self.services.request(home)?).await?);
        let steps = plan::steps(&known, &session)?;
        let graph = plan::graph(&steps)?.part(&self.wishes.part())?;
        if self.wishes.plan {
            return show_plan(&preview::preview(&graph, &steps).await, out);
        }
        let _lock = take_lock(&known.place.home, out).await?;
        let (kind, because) = (session.runtime.kind().name(), &session.because);
        say(
            out,
            Level::Note,
            format!("services by {kind}, because {because}"),
        );
        say(
            out,
            Level::Note,
            "cluster by host: Kubernetes' own programs as processes",
        );
        session.record()?;
        let outcome = run::run(&graph, &steps, &plan::journal(&known), out).await?;
        outcome.verdict()?;
        if outcome.changed.is_empty() {
            say(
                out,
                Level::Unchanged,
                "the platform was as wanted: nothing was changed",
            );
        }
        show(&session, out).await?;
        let place = &known.place;
        let text = format!(
            "\nCluster {} at {}\n  kubectl --context {} get pods -A\n",
            place.name(),
            place.server(),
            place.name()
        );
        out.answer(
            &text,
            &json!({ "cluster": place.name(), "server": place.server(), "outcome": outcome }),
        )?;
        Ok(Ended::Well)
    }
}

/// Shows what would be done.
pub(crate) fn show_plan(rows: &[preview::Row], out: &Output) -> Result<Ended> {
    out.answer(&preview::table(rows, out.look()), &json!({ "plan": rows }))?;
    Ok(match preview::would_change(rows) {
        true => Ended::WouldChange,
        false => Ended::Well,
    })
}
