//! Puts together what every command about services needs: settings, the runtime, and why that one.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::programs::Programs;
use crate::services::auto::{Choice, Found, choose};
use crate::services::docker::runtime::Docker;
use crate::services::host::runtime::Host;
use crate::services::runtime::{Kind, Phase, Runtime};
use crate::services::settings::{Amendments, RuntimeChoice, Settings, SettingsError};
use crate::store;
use crate::supervise::control::Launcher;

/// What the command line knows.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where files are.
    pub home: Home,
    /// Where programs are.
    pub programs: Programs,
    /// How a supervisor is started.
    pub launcher: Launcher,
    /// A settings file that was named.
    pub settings_file: Option<PathBuf>,
    /// What flags and environment say.
    pub amendments: Amendments,
}

/// The services, ready to be worked with.
pub struct Session {
    /// What is wanted.
    pub settings: Settings,
    /// What runs them.
    pub runtime: Box<dyn Runtime>,
    /// Why that one.
    pub because: String,
    /// Which one was used before, if any.
    pub before: Option<Kind>,
    home: Home,
}

#[derive(Deserialize, Serialize)]
struct Record {
    runtime: Kind,
}

/// The settings: the named file, or those of the last set-up, or the defaults; amendments on top.
///
/// # Errors
/// With the place of the mistake.
pub fn settings(
    home: &Home,
    named: Option<&Path>,
    amendments: &Amendments,
) -> Result<Settings, SettingsError> {
    let base = match named {
        Some(path) => Settings::load(path)?.ok_or_else(|| SettingsError::missing(path))?,
        None => Settings::load(&home.settings())?.unwrap_or_default(),
    };
    base.amended(amendments)
}

impl Session {
    /// Opens the services to change them: chooses the runtime, looking for Docker if need be.
    ///
    /// # Errors
    /// With bad settings, or when nothing can run them.
    pub async fn open(request: Request) -> Result<Self> {
        let settings = settings(
            &request.home,
            request.settings_file.as_deref(),
            &request.amendments,
        )?;
        let before = recorded(&request.home)?;
        let host = host(&request, &settings);
        let mut found = Found {
            before,
            docker: None,
            host_lacks: host.lacks(),
        };
        if settings.runtime == RuntimeChoice::Auto && before.is_none() {
            found.docker = Some(Docker::can_serve(&settings).await);
        }
        let choice = choose(settings.runtime, &found).map_err(|why| anyhow!(why))?;
        let session = Self::with(&request, settings, &choice, host, before);
        session.check_other(&request).await?;
        Ok(session)
    }

    /// Opens the services as they were set up last, to look at them or to stop them.
    ///
    /// # Errors
    /// With bad settings.
    pub fn open_as_is(request: &Request) -> Result<Self> {
        let settings = settings(
            &request.home,
            request.settings_file.as_deref(),
            &request.amendments,
        )?;
        let before = recorded(&request.home)?;
        let asked = match settings.runtime {
            RuntimeChoice::Docker => Kind::Docker,
            RuntimeChoice::Host | RuntimeChoice::Auto => Kind::Host,
        };
        let choice = Choice {
            kind: before.unwrap_or(asked),
            because: "the services were set up so".to_owned(),
        };
        let host = host(request, &settings);
        Ok(Self::with(request, settings, &choice, host, before))
    }

    fn with(
        request: &Request,
        settings: Settings,
        choice: &Choice,
        host: Host,
        before: Option<Kind>,
    ) -> Self {
        let runtime: Box<dyn Runtime> = match choice.kind {
            Kind::Host => Box::new(host),
            Kind::Docker => Box::new(Docker::new(settings.clone())),
        };
        Self {
            settings,
            runtime,
            because: choice.because.clone(),
            before,
            home: request.home.clone(),
        }
    }

    /// One service must not run in both runtimes: their data are two.
    async fn check_other(&self, request: &Request) -> Result<()> {
        let kind = self.runtime.kind();
        let Some(before) = self.before.filter(|before| *before != kind) else {
            return Ok(());
        };
        let other: Box<dyn Runtime> = match before {
            Kind::Host => Box::new(host(request, &self.settings)),
            Kind::Docker => Box::new(Docker::new(self.settings.clone())),
        };
        for service in self.settings.wanted() {
            let seen = other.look(service).await?;
            if matches!(seen.phase, Phase::Running | Phase::Restarting) {
                bail!(
                    "{} runs in the {} runtime; stop it first: comind-ops services stop \
                     (its data stays there and does not move to the {} runtime)",
                    service.name(),
                    before.name(),
                    kind.name()
                );
            }
        }
        Ok(())
    }

    /// Writes down settings and runtime, so that later commands need not be told again.
    /// Says whether anything was new.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn record(&self) -> Result<bool> {
        self.home.create()?;
        let mut fresh = false;
        let known = Settings::load(&self.home.settings())?;
        if known.as_ref() != Some(&self.settings) {
            store::write(&self.home.settings(), self.settings.yaml()?.as_bytes())?;
            fresh = true;
        }
        let runtime = self.runtime.kind();
        if recorded(&self.home)? != Some(runtime) {
            store::write_json(&self.home.runtime(), &Record { runtime })?;
            fresh = true;
        }
        Ok(fresh)
    }

    /// Forgets settings and runtime, after all was cleaned.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn forget(&self) -> Result<()> {
        store::remove(&self.home.settings())?;
        store::remove(&self.home.runtime())?;
        Ok(())
    }
}

fn recorded(home: &Home) -> Result<Option<Kind>> {
    let record: Option<Record> = store::read_json(&home.runtime())?;
    Ok(record.map(|record| record.runtime))
}

fn host(request: &Request, settings: &Settings) -> Host {
    Host {
        home: request.home.clone(),
        programs: request.programs.clone(),
        settings: settings.clone(),
        launcher: request.launcher.clone(),
    }
}
