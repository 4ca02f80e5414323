//! [`Runtime`] for containers.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bollard::Docker as Api;
use bollard::container::LogOutput;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
    NetworkCreateRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use crate::event::About;
use crate::services::catalog::{self, Service};
use crate::services::docker::engine::Named;
use crate::services::docker::spec::{self, NETWORK, Spec};
use crate::services::docker::{archive, engine, images};
use crate::services::ports;
use crate::services::runtime::{Kind, Phase, Removed, Runtime, Seen};
use crate::services::settings::Settings;

/// When a followed log ends because its container does, so long until the next look.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// The servers as containers.
pub struct Docker {
    settings: Settings,
    api: OnceCell<Api>,
    /// Services are prepared side by side, and only one of them makes the network.
    network: Mutex<()>,
}

impl Docker {
    /// The containers of these settings. Connects at the first use.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            api: OnceCell::new(),
            network: Mutex::new(()),
        }
    }

    /// Whether containers can serve, and why.
    ///
    /// # Errors
    /// With the reason why not.
    pub async fn can_serve(settings: &Settings) -> Result<String, String> {
        let docker = engine::connect()
            .await
            .map_err(|error| format!("{error:#}"))?;
        let mut pulls = 0;
        for service in settings.wanted() {
            let image = settings.image(service);
            let there = images::present(&docker, &image).await;
            if there.map_err(|error| format!("{error:#}"))? {
                continue;
            }
            images::pullable(&docker, &image).await.map_err(|why| {
                format!("Docker answers, but {image} is neither here nor to be pulled: {why}")
            })?;
            pulls += 1;
        }
        Ok(match pulls {
            0 => "Docker answers and all images are here".to_owned(),
            _ => format!("Docker answers and the {pulls} images that lack can be pulled"),
        })
    }

    async fn api(&self) -> Result<&Api> {
        self.api.get_or_try_init(engine::connect).await
    }

    async fn look_up(&self, service: Service) -> Result<Named> {
        engine::look_up(self.api().await?, service.container()).await
    }

    /// Our container, to stop or remove it: what is not ours is none of our business.
    async fn own(&self, service: Service) -> Result<Option<ContainerInspectResponse>> {
        Ok(match self.look_up(service).await? {
            Named::Ours(container) => Some(*container),
            Named::Nobody | Named::Stranger(_) => None,
        })
    }

    /// Our container, to make or start it: nobody else may have its name.
    async fn own_or_none(&self, service: Service) -> Result<Option<ContainerInspectResponse>> {
        match self.look_up(service).await? {
            Named::Ours(container) => Ok(Some(*container)),
            Named::Nobody => Ok(None),
            Named::Stranger(why) => bail!(why),
        }
    }

    async fn prepared(&self, service: Service, about: About<'_>) -> Result<Vec<String>> {
        let api = self.api().await?;
        let spec = spec::of(service, &self.settings);
        let mut changes = Vec::new();
        // Before a long pull: what would refuse in the end refuses now.
        self.own_or_none(service).await?;
        if images::ensure(api, &spec.image, about).await? {
            changes.push(format!("pulled {}", spec.image));
        }
        if self.ensure_network().await? {
            changes.push(format!("made network {NETWORK}"));
        }
        if self.ensure_volume(service).await? {
            changes.push(format!("made volume {}", service.volume()));
        }
        Ok(changes)
    }

    async fn ensure_network(&self) -> Result<bool> {
        let _one = self.network.lock().await;
        let api = self.api().await?;
        if engine::found(api.inspect_network(NETWORK, None).await)?.is_some() {
            return Ok(false);
        }
        let request = NetworkCreateRequest {
            name: NETWORK.to_owned(),
            labels: Some(
                [spec::OWNER]
                    .map(|(key, value)| (key.into(), value.into()))
                    .into(),
            ),
            ..NetworkCreateRequest::default()
        };
        let made = api.create_network(request).await;
        made.map_err(|error| {
            anyhow::anyhow!("cannot make network {NETWORK}: {}", engine::words(&error))
        })?;
        Ok(true)
    }

    async fn ensure_volume(&self, service: Service) -> Result<bool> {
        let api = self.api().await?;
        let name = service.volume();
        if let Some(volume) = engine::found(api.inspect_volume(name).await)? {
            if !spec::ours(Some(&volume.labels)) {
                bail!(
                    "there is a volume {name} which is not ours; it is left alone, and {} cannot use it",
                    service.name()
                );
            }
            return Ok(false);
        }
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(spec::labels(service)),
            ..VolumeCreateRequest::default()
        };
        let made = api.create_volume(request).await;
        made.map_err(|error| {
            anyhow::anyhow!("cannot make volume {name}: {}", engine::words(&error))
        })?;
        Ok(true)
    }

    async fn started(&self, service: Service) -> Result<Option<String>> {
        let api = self.api().await?;
        let spec = spec::of(service, &self.settings);
        let name = service.container();
        let mut done = "started";
        let mut exists = false;
        if let Some(container) = self.own_or_none(service).await? {
            let as_wanted = made_from(&container) == Some(spec.fingerprint());
            let runs = matches!(status(&container), Status::RUNNING | Status::RESTARTING);
            if as_wanted && runs {
                return Ok(None);
            }
            exists = as_wanted;
            if !as_wanted {
                remove(api, service).await?;
                done = "made anew with changed settings, and started; its data is kept";
            }
        }
        self.check_ports(service).await?;
        if !exists {
            create(api, service, &spec).await?;
        }
        if let Err(error) = api.start_container(name, None).await {
            bail!("{name} does not start: {}", engine::words(&error));
        }
        Ok(Some(done.to_owned()))
    }

    async fn check_ports(&self, service: Service) -> Result<()> {
        let api = self.api().await?;
        let wanted = catalog::ports(service, &self.settings);
        for port in &wanted {
            if let Some(holder) = engine::publishers(api, port.host, service.container()).await? {
                bail!("{}", ports::taken(service, port, &holder));
            }
        }
        ports::check_free(service, &wanted, |_| false)
    }

    async fn seen(&self, service: Service) -> Result<Seen> {
        Ok(match self.look_up(service).await? {
            Named::Ours(container) => see(service, &container),
            Named::Nobody => Seen::absent(),
            Named::Stranger(why) => Seen {
                phase: Phase::Blocked,
                reason: Some(why),
                ..Seen::absent()
            },
        })
    }

    async fn stopped(&self, service: Service) -> Result<bool> {
        let Some(container) = self.own(service).await? else {
            return Ok(false);
        };
        let ran = matches!(
            status(&container),
            Status::RUNNING | Status::RESTARTING | Status::PAUSED
        );
        // Also one that is not running just now: the Engine must know that it shall stay so.
        stop(self.api().await?, service).await?;
        Ok(ran)
    }

    async fn lines(&self, service: Service, lines: usize) -> Result<Vec<String>> {
        if self.own(service).await?.is_none() {
            return Ok(Vec::new());
        }
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let mut log = Box::pin(self.api().await?.logs(service.container(), Some(options)));
        let mut all = Vec::new();
        while let Some(part) = log.next().await {
            let part = part.map_err(|error| anyhow::anyhow!("{}", engine::words(&error)))?;
            all.extend(text(&part));
        }
        Ok(all)
    }

    async fn followed(
        &self,
        service: Service,
        line: &(dyn Fn(String) + Send + Sync),
    ) -> Result<()> {
        let api = self.api().await?;
        let mut pause = tokio::time::interval(FOLLOW_PAUSE);
        loop {
            pause.tick().await;
            let since = i32::try_from(Timestamp::now().as_second()).unwrap_or(i32::MAX);
            let options = LogsOptionsBuilder::default()
                .stdout(true)
                .stderr(true)
                .follow(true)
                .since(since)
                .build();
            let mut log = Box::pin(api.logs(service.container(), Some(options)));
            // It ends with the container; the next one is followed again.
            while let Some(Ok(part)) = log.next().await {
                text(&part).into_iter().for_each(line);
            }
        }
    }

    async fn owned(&self, service: Service) -> Result<Removed> {
        let api = self.api().await?;
        let mut all = Removed::new();
        if self.own(service).await?.is_some() {
            all.push(format!("container {}", service.container()));
        }
        let volume = engine::found(api.inspect_volume(service.volume()).await)?;
        if volume.is_some_and(|volume| spec::ours(Some(&volume.labels))) {
            all.push(format!("volume {}", service.volume()));
        }
        Ok(all)
    }

    async fn cleaned(&self, service: Service) -> Result<Removed> {
        let api = self.api().await?;
        let owned = self.owned(service).await?;
        if self.own(service).await?.is_some() {
            remove(api, service).await?;
        }
        if owned.iter().any(|what| what.starts_with("volume ")) {
            let gone = api
                .remove_volume(service.volume(), None::<RemoveVolumeOptions>)
                .await;
            engine::found(gone)
                .with_context(|| format!("cannot remove volume {}", service.volume()))?;
        }
        Ok(owned)
    }

    async fn cleaned_shared(&self) -> Result<Removed> {
        let api = self.api().await?;
        let Some(network) = engine::found(api.inspect_network(NETWORK, None).await)? else {
            return Ok(Removed::new());
        };
        let used = network
            .containers
            .is_some_and(|containers| !containers.is_empty());
        if !spec::ours(network.labels.as_ref()) || used {
            return Ok(Removed::new());
        }
        engine::found(api.remove_network(NETWORK).await)?;
        Ok(vec![format!("network {NETWORK}")])
    }
}

async fn create(api: &Api, service: Service, spec: &Spec) -> Result<()> {
    let name = service.container();
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    if let Err(error) = api
        .create_container(Some(options), spec.body(service))
        .await
    {
        bail!("cannot make container {name}: {}", engine::words(&error));
    }
    if spec.files.is_empty() {
        return Ok(());
    }
    let archive = bollard::body_full(Bytes::from(archive::of(&spec.files)?));
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    if let Err(error) = api.upload_to_container(name, Some(options), archive).await {
        // Half a container would look like a whole one to the next run.
        remove(api, service).await?;
        bail!("cannot put files into {name}: {}", engine::words(&error));
    }
    Ok(())
}

async fn stop(api: &Api, service: Service) -> Result<()> {
    let seconds = i32::try_from(service.stop_grace().as_secs()).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::default().t(seconds).build();
    engine::found(api.stop_container(service.container(), Some(options)).await)
        .with_context(|| format!("{} does not stop", service.container()))?;
    Ok(())
}

/// Removes the container and keeps its volume.
async fn remove(api: &Api, service: Service) -> Result<()> {
    // Stopped first, so that the server can write all down.
    stop(api, service).await?;
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    engine::found(
        api.remove_container(service.container(), Some(options))
            .await,
    )
    .with_context(|| format!("cannot remove {}", service.container()))?;
    Ok(())
}

fn made_from(container: &ContainerInspectResponse) -> Option<String> {
    let labels = container.config.as_ref()?.labels.as_ref()?;
    labels.get(spec::FINGERPRINT).cloned()
}

fn status(container: &ContainerInspectResponse) -> Status {
    let state = container.state.as_ref();
    state
        .and_then(|state| state.status)
        .unwrap_or(Status::EMPTY)
}

fn see(service: Service, container: &ContainerInspectResponse) -> Seen {
    let empty = ContainerState::default();
    let state = container.state.as_ref().unwrap_or(&empty);
    let phase = match status(container) {
        Status::RUNNING | Status::PAUSED => Phase::Running,
        Status::RESTARTING => Phase::Restarting,
        _ => Phase::Stopped,
    };
    let when = match phase {
        Phase::Running => &state.started_at,
        _ => &state.finished_at,
    };
    let pid = state
        .pid
        .and_then(|pid| i32::try_from(pid).ok())
        .filter(|pid| *pid > 0);
    Seen {
        phase,
        pid,
        container: Some(service.container().to_owned()),
        // The Engine says year 1 where there was no such moment.
        since: when
            .as_ref()
            .and_then(|text| text.parse::<Timestamp>().ok())
            .filter(|at| *at > Timestamp::UNIX_EPOCH),
        restarts: container
            .restart_count
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(0),
        reason: reason(phase, state),
    }
}

/// Why it is not plainly running.
fn reason(phase: Phase, state: &ContainerState) -> Option<String> {
    if state.paused == Some(true) {
        return Some("paused; docker unpause lets it go on".to_owned());
    }
    if let Some(error) = state.error.as_ref().filter(|error| !error.is_empty()) {
        return Some(error.clone());
    }
    match phase {
        Phase::Running => health(state),
        _ if state.oom_killed == Some(true) => Some("killed: out of memory".to_owned()),
        _ => match state.exit_code {
            None | Some(0) => None,
            Some(code) => Some(format!("exited with code {code}")),
        },
    }
}

/// The last word of a failing health check.
fn health(state: &ContainerState) -> Option<String> {
    let health = state.health.as_ref()?;
    let last = health.log.as_ref()?.last()?;
    let output = last.output.as_deref().unwrap_or_default().trim();
    let first = output.lines().next().unwrap_or("no output");
    match health.failing_streak {
        Some(streak) if streak >= 3 => {
            Some(format!("its health check failed {streak} times: {first}"))
        }
        _ => None,
    }
}

fn text(part: &LogOutput) -> Vec<String> {
    let text = part.to_string();
    text.lines().map(str::to_owned).collect()
}

impl Runtime for Docker {
    fn kind(&self) -> Kind {
        Kind::Docker
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
        self.seen(service).boxed()
    }

    fn stop(&self, service: Service) -> BoxFuture<'_, Result<bool>> {
        self.stopped(service).boxed()
    }

    fn tail(&self, service: Service, lines: usize) -> BoxFuture<'_, Result<Vec<String>>> {
        self.lines(service, lines).boxed()
    }

    fn follow<'a>(
        &'a self,
        service: Service,
        line: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, Result<()>> {
        self.followed(service, line).boxed()
    }

    fn belongings(&self, service: Service) -> BoxFuture<'_, Result<Removed>> {
        self.owned(service).boxed()
    }

    fn clean(&self, service: Service) -> BoxFuture<'_, Result<Removed>> {
        self.cleaned(service).boxed()
    }

    fn clean_shared(&self) -> BoxFuture<'_, Result<Removed>> {
        self.cleaned_shared().boxed()
    }
}
