//! `comind-ops cluster …`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use comind_bootstrap::cluster::env::Env;
use comind_bootstrap::cluster::host::cluster::HostCluster;
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::cluster::host::steps::Known;
use comind_bootstrap::cluster::kubeconfig;
use comind_bootstrap::event::{Level, now, say};
use comind_bootstrap::plan::graph::Part;
use comind_bootstrap::plan::{preview, run};
use comind_bootstrap::programs::Programs;
use serde_json::json;

use crate::output::Output;
use crate::place::HomeArgs;
use crate::services::take_lock;
use crate::supervise::launcher;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    what: What,
    /// Which one: dev, stage, qa or prod
    #[arg(long, env = "ENV", default_value = "dev", global = true)]
    env: Env,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the cluster, or what it lacks, and wait until it works
    Create(Create),
    /// Start it again, after `stop` or a restart of the machine
    Start(Create),
    /// Stop it; what it keeps stays
    Stop,
    /// Remove it with all that it keeps, after asking
    Delete,
    /// How its programs stand; exit 1 unless all run
    Status,
    /// Print its kubeconfig
    Kubeconfig,
}

#[derive(Args, Debug)]
struct Create {
    /// Only say what would be done; exit 2 if that is anything
    #[arg(long)]
    plan: bool,
    /// Stop after this step
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// Only these steps
    #[arg(long, value_name = "STEP", conflicts_with = "until")]
    only: Vec<String>,
    /// Leave your own kubeconfig alone
    #[arg(long)]
    no_kubeconfig: bool,
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

impl Cluster {
    /// Does what is asked.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        let users = match &self.what {
            What::Create(create) | What::Start(create) if !create.no_kubeconfig => {
                users_kubeconfig()
            }
            _ => None,
        };
        let known = Known {
            place: Place {
                env: self.env,
                home: home.home()?,
            },
            programs: Programs::from_env(),
            launcher: launcher()?,
            users_kubeconfig: users,
        };
        let cluster = HostCluster {
            known: Arc::new(known),
        };
        match self.what {
            What::Create(create) | What::Start(create) => create.run(&cluster, out).await,
            What::Stop => stop(&cluster, out).await,
            What::Delete => delete(&cluster, out).await,
            What::Status => status(&cluster, out),
            What::Kubeconfig => {
                let text = cluster.kubeconfig()?;
                out.answer(&text, &serde_json::from_str(&text)?)?;
                Ok(Ended::Well)
            }
        }
    }
}

fn users_kubeconfig() -> Option<PathBuf> {
    let list = std::env::var("KUBECONFIG").ok();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    kubeconfig::users_file(list.as_deref(), home.as_deref())
}

impl Create {
    async fn run(self, cluster: &HostCluster, out: &Output) -> Result<Ended> {
        if let Some(lack) = cluster.lacks().await {
            bail!("{lack}");
        }
        let part = match (self.until, self.only) {
            (Some(last), _) => Part::Until(last),
            (None, only) if !only.is_empty() => Part::Only(only),
            _ => Part::Whole,
        };
        let (graph, steps) = cluster.plan(&part)?;
        if self.plan {
            let rows = preview::preview(&graph, &steps).await;
            out.answer(&preview::table(&rows, out.look()), &json!({ "plan": rows }))?;
            return Ok(match preview::would_change(&rows) {
                true => Ended::WouldChange,
                false => Ended::Well,
            });
        }
        let home = &cluster.known.place.home;
        let _lock = take_lock(home, out).await?;
        let outcome = run::run(&graph, &steps, &cluster.journal(), out).await?;
        outcome.verdict()?;
        if outcome.changed.is_empty() {
            say(
                out,
                Level::Unchanged,
                "the cluster was as wanted: nothing was changed",
            );
        }
        let place = &cluster.known.place;
        let text = format!(
            "the cluster {} works at {}\n  kubectl --context {} get pods -A\n",
            place.name(),
            place.server(),
            place.name()
        );
        let value =
            json!({ "cluster": place.name(), "server": place.server(), "outcome": outcome });
        out.answer(&text, &value)?;
        Ok(Ended::Well)
    }
}

async fn stop(cluster: &HostCluster, out: &Output) -> Result<Ended> {
    if !cluster.exists() {
        say(
            out,
            Level::Unchanged,
            format!("there is no cluster {}", cluster.known.place.name()),
        );
        return Ok(Ended::Well);
    }
    let _lock = take_lock(&cluster.known.place.home, out).await?;
    if !cluster.stop(out).await? {
        say(out, Level::Unchanged, "it did not run");
    }
    Ok(Ended::Well)
}

async fn delete(cluster: &HostCluster, out: &Output) -> Result<Ended> {
    let all = cluster.belongings();
    if all.is_empty() {
        say(
            out,
            Level::Unchanged,
            format!("there is no cluster {}", cluster.known.place.name()),
        );
        return Ok(Ended::Well);
    }
    let _lock = take_lock(&cluster.known.place.home, out).await?;
    let list = all.join("\n    ");
    out.confirm(&format!("This would remove:\n    {list}\nRemove it"))?;
    cluster.delete(out).await?;
    Ok(Ended::Well)
}

fn status(cluster: &HostCluster, out: &Output) -> Result<Ended> {
    let rows = cluster.rows()?;
    let text = comind_bootstrap::cluster::host::table::components(&rows, now(), out.look());
    out.answer(
        &text,
        &json!({ "cluster": cluster.known.place.name(), "components": rows }),
    )?;
    Ok(match rows.iter().all(|row| row.state == "running") {
        true => Ended::Well,
        false => Ended::Badly,
    })
}
