//! `comind-ops serve`: the collector.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use comind_collector::lease::keep::Place;
use comind_collector::metrics::Build;
use comind_collector::run::{self, Beside, Running};
use comind_model::ingress::Ingress;
use comind_model::session::Sessions;
use comind_proxy::run::Proxy;
use listenfd::ListenFd;
use prometheus_client::collector::Collector;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What is running.
pub(crate) const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("COMIND_COMMIT"),
};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration
    #[arg(long, env = "COMIND_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// With several replicas: the Kubernetes Lease that says which of them tells people of outages
    #[arg(long, env = "COMIND_LEASE", value_name = "NAMESPACE/NAME")]
    lease: Option<Place>,
    /// A kubeconfig for the lease; without one, the service account of the pod that this runs in
    #[arg(long, value_name = "FILE", requires = "lease")]
    lease_kubeconfig: Option<PathBuf>,
}

/// Starts the ingress proxy, where the config has one; `traced` where there is a provider of traces.
fn proxy(beside: Beside, traced: bool) -> Result<Running, String> {
    let Some(told) = beside.proxy.borrow().clone() else {
        return Ok(Running::default());
    };
    let addresses: Vec<String> = told
        .listen
        .iter()
        .map(|address| format!("http://{address}/"))
        .chain(
            told.listen_tls
                .iter()
                .map(|address| format!("https://{address}/")),
        )
        .collect();
    let routes = told.routes.len();
    let tracer = traced.then(|| opentelemetry::global::tracer("comind-proxy"));
    // Sockets that systemd, or whoever started us, keeps open over our restarts (LISTEN_FDS).
    let mut given = ListenFd::from_env();
    let inherited: Vec<_> = (0..given.len())
        .filter_map(|number| given.take_tcp_listener(number).ok().flatten())
        .collect();
    let proxy = Proxy::start(Ingress::clone(&told), &inherited, tracer)
        .map_err(|error| error.to_string())?;
    tracing::info!(routes, "the proxy serves on {}", addresses.join(", "));
    let collectors: Vec<Box<dyn Collector>> = vec![Box::new(proxy.collector())];
    let sessions: Arc<dyn Sessions> = Arc::new(proxy.sessions());
    let task = tokio::spawn(proxy.follow(beside.proxy, beside.seen, beside.stop));
    Ok(Running {
        sessions: Some(sessions),
        collectors,
        task: Some(task),
    })
}

impl Serve {
    /// Serves until SIGTERM or SIGINT, with a provider of traces or without; the first drains, the second ends it at once.
    pub(crate) async fn run(self, traced: bool) -> Result<()> {
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
        let lease = self.lease.map(|lease| Place {
            kubeconfig: self.lease_kubeconfig,
            ..lease
        });
        let served = run::serve(self.config, lease, BUILD, shutdown, |beside| {
            proxy(beside, traced)
        })
        .await;
        listener.abort();
        Ok(served?)
    }
}
