//! [`Runtime`] for plain processes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::event::{About, Level};
use crate::home::Home;
use crate::programs::Programs;
use crate::services::catalog::{self, Service};
use crate::services::host::initdb;
use crate::services::host::units::Maker;
use crate::services::host::user;
use crate::services::ports;
use crate::services::runtime::{Kind, Phase, Removed, Runtime, Seen};
use crate::services::settings::Settings;
use crate::store;
use crate::supervise::control::{self, Launcher};
use crate::supervise::logs::{self, Follower};
use crate::supervise::state;

/// How often a followed log is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// The servers as plain processes.
pub struct Host {
    /// Where files are.
    pub home: Home,
    /// Where programs are.
    pub programs: Programs,
    /// What is wanted.
    pub settings: Settings,
    /// How a supervisor is started.
    pub launcher: Launcher,
}

impl Host {
    fn maker(&self) -> Maker<'_> {
        Maker {
            home: &self.home,
            programs: &self.programs,
            settings: &self.settings,
        }
    }

    /// What is missing for these services to run here; empty when nothing is.
    pub fn lacks(&self) -> Vec<String> {
        let programs = &self.programs;
        let lack = |service| {
            let found = match service {
                Service::Postgresql => programs.postgresql().map(drop),
                Service::Minio => programs.find("minio", "run `make setup`").map(drop),
                Service::Redis | Service::Elasticmq => Ok(()),
            };
            found.err().map(|error| error.to_string())
        };
        self.settings
            .wanted()
            .into_iter()
            .filter_map(lack)
            .collect()
    }

    async fn prepared(&self, service: Service, report: About<'_>) -> Result<Vec<String>> {
        self.home.create()?;
        // A missing program is told before anything begins.
        self.maker().unit(service)?;
        let mut changes = Vec::new();
        if service == Service::Postgresql {
            let bin = self.programs.postgresql()?;
            let data = self.home.data(service.name());
            if !data.join("PG_VERSION").exists() {
                report.say(Level::Doing, "making the data directory (initdb)");
            }
            let run_as = user::unprivileged()?;
            let settings = &self.settings.services.postgresql;
            if initdb::ensure(&bin, &data, run_as.as_ref(), settings).await? {
                changes.push(format!("made {}", data.display()));
            }
        }
        Ok(changes)
    }

    async fn started(&self, service: Service) -> Result<Option<String>> {
        let run_dir = self.home.run(service.name());
        let unit = self.maker().unit(service)?;
        let standing = control::look(&run_dir)?;
        let own = standing.as_ref().and_then(|standing| standing.pid);
        let wanted = catalog::ports(service, &self.settings);
        ports::check_free(service, &wanted, |process| {
            own.is_some_and(|own| process.pid == own || process.ancestors.contains(&own))
                || crate::supervise::server::carries_mark(process.pid, &run_dir)
        })?;
        control::start(&unit, &self.launcher).await
    }

    fn seen(&self, service: Service) -> Result<Seen> {
        let Some(standing) = control::look(&self.home.run(service.name()))? else {
            return Ok(Seen::absent());
        };
        let phase = match standing.phase {
            state::Phase::Running => Phase::Running,
            state::Phase::Waiting => Phase::Restarting,
            state::Phase::Stopped => Phase::Stopped,
        };
        Ok(Seen {
            phase,
            pid: standing.pid,
            container: None,
            since: standing.since,
            restarts: standing.restarts,
            reason: standing.reason,
        })
    }

    /// The paths of one service that exist.
    fn paths(&self, service: Service) -> Vec<PathBuf> {
        let data = self.home.data(service.name());
        let mut all = vec![data.clone(), self.home.run(service.name())];
        all.extend(initdb::leftovers(&data));
        all.extend(logs::files(&self.home.log(service.name())));
        all.retain(|path| path.exists());
        all
    }

    fn removable(&self, service: Service) -> Removed {
        let paths = self.paths(service);
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    async fn cleaned(&self, service: Service) -> Result<Removed> {
        control::stop(&self.home.run(service.name())).await?;
        let removed = self.removable(service);
        for path in self.paths(service) {
            store::remove(&path)?;
        }
        Ok(removed)
    }
}

impl Runtime for Host {
    fn kind(&self) -> Kind {
        Kind::Host
    }

    fn prepare<'a>(
        &'a self,
        service: Service,
        report: About<'a>,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        self.prepared(service, report).boxed()
    }

    fn start(&self, service: Service) -> BoxFuture<'_, Result<Option<String>>> {
        self.started(service).boxed()
    }

    fn look(&self, service: Service) -> BoxFuture<'_, Result<Seen>> {
        std::future::ready(self.seen(service)).boxed()
    }

    fn stop(&self, service: Service) -> BoxFuture<'_, Result<bool>> {
        async move { control::stop(&self.home.run(service.name())).await }.boxed()
    }

    fn tail(&self, service: Service, lines: usize) -> BoxFuture<'_, Result<Vec<String>>> {
        std::future::ready(logs::tail(&self.home.log(service.name()), lines)).boxed()
    }

    fn follow<'a>(
        &'a self,
        service: Service,
        line: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut follower = Follower::new(&self.home.log(service.name()));
            let mut pause = tokio::time::interval(FOLLOW_PAUSE);
            loop {
                pause.tick().await;
                follower.added()?.into_iter().for_each(line);
            }
        }
        .boxed()
    }

    fn belongings(&self, service: Service) -> BoxFuture<'_, Result<Removed>> {
        std::future::ready(Ok(self.removable(service))).boxed()
    }

    fn clean(&self, service: Service) -> BoxFuture<'_, Result<Removed>> {
        self.cleaned(service).boxed()
    }

    fn clean_shared(&self) -> BoxFuture<'_, Result<Removed>> {
        std::future::ready(Ok(Removed::new())).boxed()
    }
}
