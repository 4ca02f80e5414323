//! `comind-ops destroy`: takes down what `bootstrap` has made, and nothing else.

use anyhow::Result;
use clap::Args;
use comind_bootstrap::cluster::kind::Kind;
use comind_bootstrap::cluster::session::Session as Cluster;
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::platform::{plan, removal};
use comind_bootstrap::services::flow;
use comind_bootstrap::services::session::Session;
use comind_bootstrap::store;

use crate::kind::KindArgs;
use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs, ServiceArgs};
use crate::services::{set_up, stop, take_lock};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Destroy {
    #[command(flatten)]
    env: EnvArgs,
    /// The data of the services too
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    services: ServiceArgs,
}

impl Destroy {
    /// Asks, then takes it all down: the cluster first, because it uses the services.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        let request = self.services.request(home)?;
        if !set_up(&request, out) {
            return Ok(());
        }
        let found = KindArgs::default().request(self.env.env, home, false)?;
        let found = Cluster::open_as_is(found)?;
        let cluster = &*found.cluster;
        let foreign = cluster.known().ways.kind == Kind::Existing;
        let session = Session::open_as_is(&request)?;
        let mut all = Vec::new();
        if cluster.exists() {
            if foreign {
                all = removal::belongings(cluster.known()).await?;
            }
            all.extend(cluster.belongings().await?);
        }
        let services = flow::belongings(session.runtime.as_ref()).await?;
        match self.volumes {
            true => all.extend(services),
            false if !services.is_empty() => all
                .push("nothing of the services, which are stopped and keep their data".to_owned()),
            false => {}
        }
        if all.is_empty() {
            say(out, Level::Unchanged, "nothing of ours is left to remove");
            return Ok(());
        }
        let _lock = take_lock(&request.home, out).await?;
        let list = all.join("\n    ");
        out.confirm(&format!("This would remove:\n    {list}\nRemove it"))?;
        if cluster.exists() {
            if foreign {
                removal::remove(cluster.known(), out).await?;
            }
            cluster.delete(out).await?;
        }
        found.forget()?;
        stop(&request, &[], out).await?;
        if self.volumes {
            flow::clean(session.runtime.as_ref(), out).await?;
            session.forget()?;
        }
        store::remove(&plan::journal(cluster.known()))?;
        Ok(())
    }
}
