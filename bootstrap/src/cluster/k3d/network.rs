//! The Docker network of a cluster by k3d: at the addresses and with the link that a cluster of plain
//! processes would have, so that pods find this machine at the same address.

use anyhow::{Result, anyhow};
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use crate::cluster::env::Env;
use crate::services::docker::engine::{self, words};
use crate::services::docker::spec;

/// What was found under its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// Ours.
    Ours,
    /// One that is not ours.
    Stranger,
}

/// Looks for it.
///
/// # Errors
/// When Docker does not answer.
pub async fn look(env: Env) -> Result<Seen> {
    let docker = engine::connect().await?;
    let found = engine::found(docker.inspect_network(&env.cluster(), None).await)?;
    Ok(match found {
        None => Seen::Absent,
        Some(network) if spec::ours(network.labels.as_ref()) => Seen::Ours,
        Some(_) => Seen::Stranger,
    })
}

fn request(env: Env) -> NetworkCreateRequest {
    let text = |(key, value): (&str, String)| (key.to_owned(), value);
    NetworkCreateRequest {
        name: env.cluster(),
        driver: Some("bridge".to_owned()),
        labels: Some([(spec::OWNER.0, spec::OWNER.1.to_owned())].map(text).into()),
        options: Some(
            [("com.docker.network.bridge.name", env.link())]
                .map(text)
                .into(),
        ),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(env.network()),
                gateway: Some(env.gateway().to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        ..NetworkCreateRequest::default()
    }
}

/// Makes it.
///
/// # Errors
/// When Docker refuses: somebody may have its addresses or its link.
pub async fn make(env: Env) -> Result<()> {
    let docker = engine::connect().await?;
    let made = docker.create_network(request(env)).await;
    made.map(drop).map_err(|error| {
        anyhow!(
            "cannot make the Docker network {} ({}, link {}): {}",
            env.cluster(),
            env.network(),
            env.link(),
            words(&error)
        )
    })
}

/// Removes it if it is ours; says whether it was there.
///
/// # Errors
/// When Docker refuses: something may be in it still.
pub async fn remove(env: Env) -> Result<bool> {
    if look(env).await? != Seen::Ours {
        return Ok(false);
    }
    let docker = engine::connect().await?;
    let name = env.cluster();
    let removed = docker.remove_network(&name).await;
    removed
        .map(|()| true)
        .map_err(|error| anyhow!("cannot remove the Docker network {name}: {}", words(&error)))
}
