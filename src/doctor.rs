//! `comind-ops doctor`: what this machine lacks for the platform, and what to do about it.

use anyhow::Result;
use clap::Args;
use comind_bootstrap::doctor::check::Machine;
use comind_bootstrap::doctor::{self, finding, table};
use serde_json::json;

use crate::output::Output;
use crate::place::{HomeArgs, ServiceArgs};
use crate::planned::Ended;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// First do what is safe: raise limits of the kernel, load its modules
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    services: ServiceArgs,
}

impl Doctor {
    /// Looks at everything, after mending what it may; badly if there is a problem.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        let machine = Machine::new(self.services.request(home)?)?;
        if self.fix {
            doctor::mend(&machine, out).await;
        }
        let findings = doctor::look(&machine).await;
        let well = finding::well(&findings);
        let text = format!(
            "{}\n{}\n",
            table::findings(&findings, out.look()),
            finding::summary(&findings)
        );
        out.answer(&text, &json!({ "well": well, "findings": findings }))?;
        Ok(Ended::by(well))
    }
}
