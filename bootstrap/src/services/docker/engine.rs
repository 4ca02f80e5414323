//! The connection to the Docker Engine, and its errors in words.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;

use crate::cause;
use crate::services::docker::spec;

/// A daemon on this machine answers at once or not at all.
const LIMIT: Duration = Duration::from_secs(3);
/// Where the daemon is unless `DOCKER_HOST` says otherwise.
const USUAL: &str = "unix:///var/run/docker.sock";

/// Connects, and agrees on a version of the API.
///
/// # Errors
/// When no daemon answers, with the way out.
pub async fn connect() -> Result<Docker> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| USUAL.to_owned());
    let connected = async {
        let docker = Docker::connect_with_host(&host)?;
        docker.negotiate_version().await
    };
    match tokio::time::timeout(LIMIT, connected).await {
        Ok(Ok(docker)) => Ok(docker),
        Ok(Err(Error::UnsupportedURISchemeError { uri })) => {
            bail!("DOCKER_HOST={uri} cannot be used here; only unix:// sockets can")
        }
        Ok(Err(error)) => bail!("no Docker daemon answers at {host}: {}", words(&error)),
        Err(_) => bail!(
            "no Docker daemon answers at {host} within {} s",
            LIMIT.as_secs()
        ),
    }
}

/// An error in the Engine's own words.
pub fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        other => cause::root(other),
    }
}

/// `None` for what is not there.
///
/// # Errors
/// All other errors, in words.
pub fn found<T>(result: std::result::Result<T, Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => Ok(None),
        Err(error) => bail!("Docker: {}", words(&error)),
    }
}

/// Who has a name.
pub enum Named {
    /// Nobody.
    Nobody,
    /// A container of ours.
    Ours(Box<ContainerInspectResponse>),
    /// A container that is not ours; the text says so, and the way out.
    Stranger(String),
}

/// Looks who has the name.
///
/// # Errors
/// When the daemon does not say.
pub async fn look_up(docker: &Docker, name: &str) -> Result<Named> {
    let Some(container) = found(docker.inspect_container(name, None).await)? else {
        return Ok(Named::Nobody);
    };
    let config = container.config.as_ref();
    if spec::ours(config.and_then(|config| config.labels.as_ref())) {
        return Ok(Named::Ours(Box::new(container)));
    }
    let image = config.and_then(|config| config.image.as_deref());
    Ok(Named::Stranger(format!(
        "there is a container {name} which is not ours (image {}, no label {}={}); \
         rename it: docker rename {name} {name}-old",
        image.unwrap_or("unknown"),
        spec::OWNER.0,
        spec::OWNER.1
    )))
}

/// The names of running containers that publish a port of this machine, but for `own`.
///
/// # Errors
/// When the daemon does not list them.
pub async fn publishers(docker: &Docker, port: u16, own: &str) -> Result<Option<String>> {
    let running = found(docker.list_containers(None).await)
        .context("cannot list containers")?
        .unwrap_or_default();
    Ok(running.into_iter().find_map(|container| {
        let publishes = container
            .ports
            .iter()
            .flatten()
            .any(|published| published.public_port == Some(port));
        let name = container.names?.into_iter().next()?;
        let name = name.trim_start_matches('/').to_owned();
        (publishes && name != own)
            .then(|| format!("container {name} ({})", container.image.unwrap_or_default()))
    }))
}
