//! `comind-ops cluster …`.

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use comind_bootstrap::cluster::env::Env;
use comind_bootstrap::cluster::host::table;
use comind_bootstrap::cluster::kind::{Cluster as Any, Kind};
use comind_bootstrap::cluster::known::Known;
use comind_bootstrap::cluster::session::Session;
use comind_bootstrap::event::{Level, now, say};
use comind_bootstrap::plan::step::graph;
use comind_bootstrap::store;
use serde_json::json;

use crate::kind::KindArgs;
use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};
use crate::planned::{self, Ended, Wishes};
use crate::services::take_lock;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    env: EnvArgs,
    #[command(flatten)]
    kind: KindArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the cluster, or what it lacks, and wait until it works
    Create(Wishes),
    /// Start it again, after `stop` or a restart of the machine
    Start(Wishes),
    /// Stop it; what it keeps stays
    Stop,
    /// Remove it with all that it keeps, after asking; one that was there already is only forgotten
    Delete,
    /// How its programs or nodes stand; exit 1 unless all run
    Status,
    /// Print its kubeconfig
    Kubeconfig,
}

impl Cluster {
    /// Does what is asked.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        let with_users = match &self.what {
            What::Create(wishes) | What::Start(wishes) => !wishes.no_kubeconfig,
            _ => false,
        };
        let request = self.kind.request(self.env.env, home, with_users)?;
        let session = match &self.what {
            What::Create(_) | What::Start(_) => Session::open(request).await?,
            _ => Session::open_as_is(request)?,
        };
        let cluster = &*session.cluster;
        match self.what {
            What::Create(wishes) | What::Start(wishes) => create(&session, &wishes, out).await,
            What::Stop => stop(cluster, out).await,
            What::Delete => delete(&session, out).await,
            What::Status => status(cluster, out).await,
            What::Kubeconfig => {
                let text = kubeconfig(cluster.known())?;
                out.answer(&text, &serde_json::from_str(&text)?)?;
                Ok(Ended::Well)
            }
        }
    }
}

/// What the steps of an environment's cluster know, as it was made.
pub(crate) fn known(env: Env, home: &HomeArgs, with_users: bool) -> Result<Known> {
    let request = KindArgs::default().request(env, home, with_users)?;
    let session = Session::open_as_is(request)?;
    Ok(session.cluster.known().as_ref().clone())
}

/// Says which kind of cluster it is, and why.
pub(crate) fn tell_kind(session: &Session, out: &Output) {
    let kind = session.cluster.known().ways.kind;
    let (name, because) = (kind.name(), &session.because);
    let text = format!("cluster by {name}, because {because}");
    say(out, Level::Note, text);
    if kind == Kind::Existing {
        let text =
            "this machine's services are not watched from there: its pods have no way to them";
        say(out, Level::Note, text);
    }
}

async fn create(session: &Session, wishes: &Wishes, out: &Output) -> Result<Ended> {
    let cluster = &*session.cluster;
    tell_kind(session, out);
    if let Some(lack) = cluster.lacks().await {
        bail!("{lack}");
    }
    let steps = cluster.steps()?;
    let graph = graph(&steps)?.part(&wishes.part())?;
    if wishes.plan {
        return planned::show(&graph, &steps, out).await;
    }
    let known = cluster.known();
    let _lock = take_lock(&known.place.home, out).await?;
    session.begin()?;
    let journal = known.place.data("journal.jsonl");
    let carries = (journal.as_path(), "cluster");
    let outcome = planned::carry_out(&graph, &steps, carries, wishes, out).await?;
    session.record()?;
    planned::tell(known, &outcome, out)?;
    Ok(Ended::Well)
}

fn nothing_there(cluster: &dyn Any, out: &Output) -> Ended {
    let name = cluster.known().place.name();
    say(out, Level::Unchanged, format!("there is no cluster {name}"));
    Ended::Well
}

async fn stop(cluster: &dyn Any, out: &Output) -> Result<Ended> {
    if !cluster.exists() {
        return Ok(nothing_there(cluster, out));
    }
    let _lock = take_lock(&cluster.known().place.home, out).await?;
    if !cluster.stop(out).await? {
        say(out, Level::Unchanged, "nothing ran that is ours to stop");
    }
    Ok(Ended::Well)
}

async fn delete(session: &Session, out: &Output) -> Result<Ended> {
    let cluster = &*session.cluster;
    let all = match cluster.exists() {
        true => cluster.belongings().await?,
        false => Vec::new(),
    };
    if all.is_empty() {
        session.forget()?;
        return Ok(nothing_there(cluster, out));
    }
    let _lock = take_lock(&cluster.known().place.home, out).await?;
    let list = all.join("\n    ");
    out.confirm(&format!("This would remove:\n    {list}\nRemove it"))?;
    cluster.delete(out).await?;
    session.forget()?;
    Ok(Ended::Well)
}

async fn status(cluster: &dyn Any, out: &Output) -> Result<Ended> {
    let rows = cluster.rows().await?;
    let text = table::components(&rows, now(), out.look());
    let (name, kind) = (cluster.known().place.name(), cluster.known().ways.kind);
    out.answer(
        &text,
        &json!({ "cluster": name, "kind": kind, "components": rows }),
    )?;
    Ok(Ended::by(rows.iter().all(|row| row.state == "running")))
}

/// The administrator's kubeconfig.
fn kubeconfig(known: &Known) -> Result<String> {
    store::read(&known.place.kubeconfig())?.with_context(|| {
        let name = known.place.name();
        format!("there is no cluster {name}; comind-ops cluster create makes it")
    })
}
