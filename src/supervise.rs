//! `comind-ops supervise DIR`, hidden: the process that keeps a server running.

use std::path::PathBuf;

use clap::Args;
use comind_bootstrap::supervise::control::Launcher;
use comind_bootstrap::supervise::supervisor;

use crate::logging;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Supervise {
    /// The run directory with the unit.
    run_dir: PathBuf,
}

impl Supervise {
    /// Runs until the server is to stop.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        logging::init(logging::Format::Text, None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(supervisor::run(&self.run_dir))
    }
}

/// How `comind-ops` starts itself as a supervisor.
pub(crate) fn launcher() -> anyhow::Result<Launcher> {
    Ok(Launcher {
        program: std::env::current_exe()?,
        args: vec!["supervise".to_owned()],
    })
}
