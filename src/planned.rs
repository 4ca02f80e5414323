//! What commands that carry out a plan have in common: which part is meant, and how it is told.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use comind_bootstrap::cluster::known::Known;
use comind_bootstrap::cluster::kubeconfig;
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::plan::graph::{Graph, Part};
use comind_bootstrap::plan::preview;
use comind_bootstrap::plan::run::{self, Outcome};
use comind_bootstrap::plan::step::Planned;
use comind_bootstrap::store;
use comind_collector::config::duration::Span;
use serde_json::json;

use crate::exit;
use crate::output::Output;

/// Which part of a plan is meant, and what is to be done with it.
#[derive(Args, Debug)]
pub(crate) struct Wishes {
    /// Only say what would be done; exit 2 if that is anything
    #[arg(long)]
    pub(crate) plan: bool,
    /// Stop after this step
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// Only these steps
    #[arg(long, value_name = "STEP", conflicts_with = "until")]
    only: Vec<String>,
    /// Give each step at most this long, such as 60s [default: each has a limit of its own]
    #[arg(long, value_name = "DURATION")]
    step_timeout: Option<Span>,
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

    /// The longest that a step may take.
    fn most(&self) -> Duration {
        self.step_timeout.map_or(Duration::MAX, |span| span.0)
    }
}

/// What became of a command.
pub(crate) enum Ended {
    /// Done, and all is well.
    Well,
    /// Something is not as it should be, and that was said.
    Badly,
    /// A plan would change something.
    WouldChange,
}

impl Ended {
    /// By what was seen.
    pub(crate) fn by(well: bool) -> Self {
        if well { Self::Well } else { Self::Badly }
    }
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(match ended {
            Ended::Well => exit::DONE,
            Ended::Badly => exit::FAILED,
            Ended::WouldChange => exit::WOULD_CHANGE,
        })
    }
}

/// Shows what would be done.
pub(crate) async fn show(graph: &Graph, steps: &[Box<dyn Planned>], out: &Output) -> Result<Ended> {
    let rows = preview::preview(graph, steps).await;
    out.answer(&preview::table(&rows, out.look()), &json!({ "plan": rows }))?;
    Ok(match preview::would_change(&rows) {
        true => Ended::WouldChange,
        false => Ended::Well,
    })
}

/// Carries a plan out for `what`, as it was wished; an error if a step fails.
pub(crate) async fn carry_out(
    graph: &Graph,
    steps: &[Box<dyn Planned>],
    (journal, what): (&Path, &str),
    wishes: &Wishes,
    out: &Output,
) -> Result<Outcome> {
    let outcome = run::run(graph, steps, journal, wishes.most(), out).await?;
    outcome.verdict()?;
    if outcome.changed.is_empty() {
        let text = format!("the {what} was as wanted: nothing was changed");
        say(out, Level::Unchanged, text);
    }
    Ok(outcome)
}

/// Says where the cluster is, and what was done.
pub(crate) fn tell(known: &Known, outcome: &Outcome, out: &Output) -> Result<()> {
    let kubeconfig = store::read(&known.place.kubeconfig())?.unwrap_or_default();
    let kubeconfig = kubeconfig::parse(&kubeconfig)?;
    let (name, server) = (known.place.name(), kubeconfig::server(&kubeconfig));
    let context = &known.ways.context;
    let text = format!("\nCluster {name} at {server}\n  kubectl --context {context} get pods -A\n");
    let value =
        json!({ "cluster": name, "server": server, "context": context, "outcome": outcome });
    out.answer(&text, &value)
}
