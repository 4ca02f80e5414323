//! `comind-ops destroy`: takes down what `bootstrap` has made, and nothing else.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use comind_bootstrap::cluster::host::cluster::HostCluster;
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::platform::plan;
use comind_bootstrap::services::flow;
use comind_bootstrap::services::session::Session;
use comind_bootstrap::store;

use crate::cluster::known;
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
        let cluster = HostCluster {
            known: Arc::new(known(self.env.env, home, false)?),
        };
        let session = Session::open_as_is(&request)?;
        let mut all = cluster.belongings();
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
            cluster.delete(out).await?;
        }
        stop(&request, &[], out).await?;
        if self.volumes {
            flow::clean(session.runtime.as_ref(), out).await?;
            session.forget()?;
        }
        store::remove(&plan::journal(&cluster.known))?;
        Ok(())
    }
}
