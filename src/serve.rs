//! `comind-ops serve`: the collector.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comind_collector::metrics::Build;
use comind_collector::run;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration
    #[arg(long, env = "COMIND_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT; the first drains, the second ends it at once.
    pub(crate) async fn run(self) -> Result<()> {
        let shutdown = CancellationToken::new();
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let token = shutdown.clone();
        let listener = tokio::spawn(async move {
            for round in 0.. {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                };
                if round > 0 {
                    tracing::warn!("a second {name}: ending at once");
                    std::process::exit(i32::from(crate::exit::FAILED));
                }
                tracing::info!("{name}: draining");
                token.cancel();
            }
        });
        let build = Build {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("COMIND_COMMIT"),
        };
        let served = run::serve(self.config, build, shutdown).await;
        listener.abort();
        Ok(served?)
    }
}
