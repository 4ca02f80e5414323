//! Options that say what is meant: where files are, which environment, which services with their
//! runtime, settings and ports.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use comind_bootstrap::cluster::env::Env;
use comind_bootstrap::home::{Home, Surroundings};
use comind_bootstrap::programs::Programs;
use comind_bootstrap::services::session::Request;
use comind_bootstrap::services::settings::{Amendments, RuntimeChoice};

use crate::supervise;

/// Where the services run.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Runtime {
    /// Whichever can serve here, and say why
    Auto,
    /// Plain processes
    Host,
    /// Containers
    Docker,
}

/// Where our files are.
#[derive(Args, Clone, Debug)]
pub(crate) struct HomeArgs {
    /// Where our files are [default: /var/lib/comind-ops for root, else ~/.local/state/comind-ops]
    #[arg(long, env = "COMIND_HOME", value_name = "DIR", global = true)]
    home: Option<PathBuf>,
}

impl HomeArgs {
    /// The place.
    pub(crate) fn home(&self) -> anyhow::Result<Home> {
        let dir = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Home::choose(&Surroundings {
            asked: self.home.clone(),
            xdg_state_home: dir("XDG_STATE_HOME"),
            user_home: dir("HOME"),
            root: comind_bootstrap::home::is_root(),
        })
    }
}

/// Which of the platforms on this machine.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct EnvArgs {
    /// Which environment: dev, stage, qa or prod
    #[arg(long, env = "ENV", default_value = "dev", global = true)]
    pub(crate) env: Env,
}

/// What the services are to be like. Kept by `setup`, `start` and `up` for later commands.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServiceArgs {
    /// Where the services run
    #[arg(long, env = "COMIND_RUNTIME", value_enum, global = true)]
    runtime: Option<Runtime>,
    /// A YAML file with settings [default: those of the last set-up]
    #[arg(long, env = "COMIND_SETTINGS", value_name = "FILE", global = true)]
    settings: Option<PathBuf>,
    /// PostgreSQL's port [default: 5432]
    #[arg(
        long,
        env = "COMIND_POSTGRESQL_PORT",
        value_name = "PORT",
        global = true
    )]
    postgresql_port: Option<u16>,
    /// MinIO's port [default: 9000]
    #[arg(long, env = "COMIND_MINIO_PORT", value_name = "PORT", global = true)]
    minio_port: Option<u16>,
    /// The port of MinIO's console [default: 9001]
    #[arg(
        long,
        env = "COMIND_MINIO_CONSOLE_PORT",
        value_name = "PORT",
        global = true
    )]
    minio_console_port: Option<u16>,
    /// Redis's port [default: 6379]
    #[arg(long, env = "COMIND_REDIS_PORT", value_name = "PORT", global = true)]
    redis_port: Option<u16>,
    /// ElasticMQ's port [default: 9324]
    #[arg(
        long,
        env = "COMIND_ELASTICMQ_PORT",
        value_name = "PORT",
        global = true
    )]
    elasticmq_port: Option<u16>,
    /// The port of the live page, API and metrics [default: 9600]
    #[arg(long, env = "COMIND_API_PORT", value_name = "PORT", global = true)]
    api_port: Option<u16>,
}

impl ServiceArgs {
    /// What the library needs to open the services.
    pub(crate) fn request(&self, home: &HomeArgs) -> anyhow::Result<Request> {
        Ok(Request {
            home: home.home()?,
            programs: Programs::from_env(),
            launcher: supervise::launcher()?,
            settings_file: self.settings.clone(),
            amendments: Amendments {
                runtime: self.runtime.map(|runtime| match runtime {
                    Runtime::Auto => RuntimeChoice::Auto,
                    Runtime::Host => RuntimeChoice::Host,
                    Runtime::Docker => RuntimeChoice::Docker,
                }),
                postgresql_port: self.postgresql_port,
                minio_port: self.minio_port,
                minio_console_port: self.minio_console_port,
                redis_port: self.redis_port,
                elasticmq_port: self.elasticmq_port,
                api_port: self.api_port,
            },
        })
    }
}
