//! `comind-ops down`: stops the collector and the services; all data is kept.

use anyhow::Result;
use clap::Args;
use comind_bootstrap::event::{About, Level};
use comind_bootstrap::supervise::control;
use comind_bootstrap::watch::unit;

use crate::output::Output;
use crate::place::{HomeArgs, ServiceArgs};
use crate::services;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    args: ServiceArgs,
}

impl Down {
    /// Stops everything; the collector first, or it would see each service go down.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        let request = self.args.request(home)?;
        if !services::set_up(&request, out) {
            return Ok(());
        }
        let _lock = services::take_lock(&request.home, out).await?;
        stop_collector(&request.home, out).await?;
        services::stop(&request, &[], out).await
    }
}

/// Stops the collector of this home.
pub(crate) async fn stop_collector(
    home: &comind_bootstrap::home::Home,
    out: &Output,
) -> Result<()> {
    let about = About::new("collector", out);
    if control::stop(&home.run(unit::NAME)).await? {
        about.say(Level::Changed, "stopped");
    } else {
        about.say(Level::Unchanged, "did not run");
    }
    Ok(())
}
