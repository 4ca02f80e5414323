//! `comind-ops`: the command line. Wiring only: what is done is in the libraries.

mod access;
mod bootstrap;
mod bundle;
mod cluster;
mod completions;
mod config;
mod destroy;
mod diagnose;
mod doctor;
mod down;
mod exit;
mod gitops;
mod hash_password;
mod kind;
mod logging;
mod output;
mod place;
mod planned;
mod probe;
mod seal;
mod serve;
mod services;
mod sessions;
mod status;
mod supervise;
mod tf;
mod tls;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use comind_collector::traces;
use comind_proxy::telemetry::trace::Ids;

use crate::output::{Output, Wishes};
use crate::place::HomeArgs;

/// Gives memory back to the system as well after many small pieces: with the system's own
/// allocator, idle connections that had given up their buffers kept the pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Watches a platform and brings it up.
#[derive(Debug, Parser)]
#[command(name = "comind-ops", version = VERSION, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 a plan would change something, \
                        64 wrong usage, 78 wrong configuration"
)]
struct Cli {
    /// Say everything as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// Answer every question with yes
    #[arg(long, short, global = true)]
    yes: bool,
    /// No progress, only answers, warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// The form of log lines
    #[arg(
        long,
        value_enum,
        env = "COMIND_LOG_FORMAT",
        default_value_t,
        global = true
    )]
    log_format: logging::Format,
    #[command(flatten)]
    home: HomeArgs,
    #[command(subcommand)]
    command: Command,
}

/// The version with the commit that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMIND_COMMIT"), ")");

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything: the services, and the collector that watches them
    Up(up::Up),
    /// Stop everything; data is kept
    Down(down::Down),
    /// Show what the collector sees; exit 1 while the platform is down
    Status(status::Status),
    /// The data services: PostgreSQL, MinIO, Redis, ElasticMQ
    Services(services::Services),
    /// Bring up the platform: services, cluster, and what every namespace has
    Bootstrap(bootstrap::Bootstrap),
    /// Take down what `bootstrap` has made
    Destroy(destroy::Destroy),
    /// What this machine lacks for `bootstrap`, and what to do; exit 1 on a problem
    Doctor(doctor::Doctor),
    /// What a machine without a network needs for `bootstrap`, as one file
    Bundle(bundle::Bundle),
    /// Everything that is known of what does not work, without secrets, as one file
    Diagnose(diagnose::Diagnose),
    /// The layer of infrastructure below, by Terraform: plan, apply, output, destroy
    Tf(tf::Tf),
    /// Seal Secrets for the cluster, from standard input, without asking it
    Seal(seal::Seal),
    /// One address for the platform's pages, whichever way leads there: ingress, Service or tunnel
    Access(access::Access),
    /// The platform's repository and what comes of it: status, logins, history, rollback
    Gitops(gitops::Gitops),
    /// A Kubernetes cluster of plain processes on this machine
    Cluster(cluster::Cluster),
    /// Watch what a configuration names: metrics, API, live page
    Serve(serve::Serve),
    /// Look once at one target; exit 0 if it is up, 1 if not
    Probe(probe::Probe),
    /// Check a configuration, or print its schema
    Config(config::Config),
    /// Who is logged in at the proxy; ends sessions, verifies their audit log
    Sessions(sessions::Sessions),
    /// The proxy's local certificates
    Tls(tls::Tls),
    /// Make the hash of a password for `api.users`
    HashPassword(hash_password::HashPassword),
    /// Print a script for tab completion
    Completions(completions::Completions),
    #[command(hide = true)]
    Supervise(supervise::Supervise),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. Nothing to be done if nobody reads them.
            let _ = error.print();
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            return ExitCode::from(code);
        }
    };
    let out = Output::new(Wishes {
        json: cli.json,
        quiet: cli.quiet,
        yes: cli.yes,
    });
    run(cli, &out).unwrap_or_else(|error| {
        out.failed(&error);
        exit::code(&error)
    })
}

fn run(cli: Cli, out: &Output) -> Result<ExitCode> {
    if let Command::Supervise(supervise) = cli.command {
        // A process of its own with little to do: it brings its own small runtime.
        return supervise.run().map(|()| ExitCode::SUCCESS);
    }
    let serving = matches!(cli.command, Command::Serve(_));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut provider = None;
    if serving || std::env::var_os("COMIND_LOG").is_some() {
        if serving {
            provider = traces::provider(serve::BUILD, runtime.handle().clone(), Ids::default())
                .map_err(anyhow::Error::msg)?;
            if let Some(provider) = &provider {
                opentelemetry::global::set_tracer_provider(provider.clone());
            }
        }
        logging::init(cli.log_format, provider.as_ref());
    }
    let ended = runtime.block_on(Box::pin(dispatch(cli, out, provider.is_some())));
    if let Some(provider) = provider
        && let Err(error) = provider.shutdown()
    {
        tracing::warn!("the last traces could not be delivered: {error}");
    }
    ended
}

async fn dispatch(cli: Cli, out: &Output, traced: bool) -> Result<ExitCode> {
    match cli.command {
        Command::Up(up) => up.run(&cli.home, out).await?,
        Command::Down(down) => down.run(&cli.home, out).await?,
        Command::Status(status) => return Ok(verdict(status.run(&cli.home, out).await?)),
        Command::Services(services) => services.run(&cli.home, out).await?,
        Command::Cluster(cluster) => return Ok(cluster.run(&cli.home, out).await?.into()),
        Command::Bootstrap(bootstrap) => {
            return Ok(bootstrap.run(&cli.home, out).await?.into());
        }
        Command::Access(access) => access.run(&cli.home, out).await?,
        Command::Gitops(gitops) => return Ok(gitops.run(&cli.home, out).await?.into()),
        Command::Destroy(destroy) => destroy.run(&cli.home, out).await?,
        Command::Doctor(doctor) => return Ok(doctor.run(&cli.home, out).await?.into()),
        Command::Bundle(bundle) => bundle.run(out).await?,
        Command::Diagnose(diagnose) => diagnose.run(&cli.home, out).await?,
        Command::Tf(tf) => return Ok(tf.run(&cli.home, out).await?.into()),
        Command::Seal(seal) => seal.run(&cli.home, out)?,
        Command::Serve(serve) => serve.run(traced).await?,
        Command::Sessions(sessions) => return Ok(verdict(sessions.run(out).await?)),
        Command::Tls(tls) => tls.run(out)?,
        Command::Probe(probe) => return Ok(verdict(probe.run(out).await?)),
        Command::Config(config) => config.run(out)?,
        Command::HashPassword(hash) => hash.run(out)?,
        Command::Completions(completions) => completions.run(out)?,
        Command::Supervise(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Success while what was asked about works.
fn verdict(works: bool) -> ExitCode {
    ExitCode::from(if works { exit::DONE } else { exit::FAILED })
}
