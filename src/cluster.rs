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
use comind_bootstrap::programs::Programs;
use serde_json::json;

use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};
use crate::planned::{self, Ended, Wishes};
use crate::services::take_lock;
use crate::supervise::launcher;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    env: EnvArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the cluster, or what it lacks, and wait until it works
    Create(Wishes),
    /// Start it again, after `stop` or a restart of the machine
    Start(Wishes),
    /// Stop it; what it keeps stays
    Stop,
    /// Remove it with all that it keeps, after asking
    Delete,
    /// How its programs stand; exit 1 unless all run
    Status,
    /// Print its kubeconfig
    Kubeconfig,
}

impl Cluster {
    /// Does what is asked.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        let wishes = match &self.what {
            What::Create(wishes) | What::Start(wishes) => !wishes.no_kubeconfig,
            _ => false,
        };
        let cluster = HostCluster {
            known: Arc::new(known(self.env.env, home, wishes)?),
        };
        match self.what {
            What::Create(wishes) | What::Start(wishes) => create(&cluster, &wishes, out).await,
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

/// What the steps of an environment's cluster know.
pub(crate) fn known(env: Env, home: &HomeArgs, with_users: bool) -> Result<Known> {
    Ok(Known {
        place: Place {
            env,
            home: home.home()?,
        },
        programs: Programs::from_env(),
        launcher: launcher()?,
        users_kubeconfig: with_users.then(users_kubeconfig).flatten(),
    })
}

fn users_kubeconfig() -> Option<PathBuf> {
    let list = std::env::var("KUBECONFIG").ok();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    kubeconfig::users_file(list.as_deref(), home.as_deref())
}

async fn create(cluster: &HostCluster, wishes: &Wishes, out: &Output) -> Result<Ended> {
    if let Some(lack) = cluster.lacks().await {
        bail!("{lack}");
    }
    let (graph, steps) = cluster.plan(&wishes.part())?;
    if wishes.plan {
        return planned::show(&graph, &steps, out).await;
    }
    let place = &cluster.known.place;
    let _lock = take_lock(&place.home, out).await?;
    let journal = cluster.journal();
    let outcome = planned::carry_out(&graph, &steps, &journal, "cluster", out).await?;
    planned::tell(place, &outcome, out)?;
    Ok(Ended::Well)
}

fn nothing_there(cluster: &HostCluster, out: &Output) -> Ended {
    let name = cluster.known.place.name();
    say(out, Level::Unchanged, format!("there is no cluster {name}"));
    Ended::Well
}

async fn stop(cluster: &HostCluster, out: &Output) -> Result<Ended> {
    if !cluster.exists() {
        return Ok(nothing_there(cluster, out));
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
        return Ok(nothing_there(cluster, out));
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
    Ok(Ended::by(rows.iter().all(|row| row.state == "running")))
}
