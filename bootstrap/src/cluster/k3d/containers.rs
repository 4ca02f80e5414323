//! Whose the containers of a cluster by k3d are. k3d's own list says only the labels that k3d gives.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};

use crate::services::docker::engine::{self, words};
use crate::services::docker::spec;

/// The label by which k3d tells nodes from its helpers.
const ROLE: &str = "k3d.role";

/// Whether all nodes of the cluster carry our label; one without nodes is nobody's. k3d's helpers never
/// do, and one of them is there for as long as a cluster is being made.
///
/// # Errors
/// When Docker does not answer.
pub async fn ours(cluster: &str) -> Result<bool> {
    let docker = engine::connect().await?;
    let of_it = HashMap::from([("label", vec![format!("k3d.cluster={cluster}")])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&of_it)
        .build();
    let all = docker.list_containers(Some(options)).await;
    let all = all.map_err(|error| anyhow!("cannot list containers: {}", words(&error)))?;
    Ok(nodes_are_ours(&all))
}

fn nodes_are_ours(all: &[ContainerSummary]) -> bool {
    let role = |one: &&ContainerSummary| {
        let role = one.labels.as_ref().and_then(|labels| labels.get(ROLE));
        role.is_some_and(|role| role == "server" || role == "agent")
    };
    let mut nodes = all.iter().filter(role).peekable();
    nodes.peek().is_some() && nodes.all(|one| spec::ours(one.labels.as_ref()))
}

/// Removes the container by which k3d looks around: a `create` that was cut off has left it, and it
/// holds on to the network.
///
/// # Errors
/// When Docker refuses.
pub async fn remove_tools(cluster: &str) -> Result<()> {
    let docker = engine::connect().await?;
    let name = format!("k3d-{cluster}-tools");
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    let removed = docker.remove_container(&name, Some(options)).await;
    engine::found(removed).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(role: &str, owner: &str) -> ContainerSummary {
        let labels = [(ROLE, role), (spec::OWNER.0, owner)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ContainerSummary {
            labels: Some(labels.into()),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn nodes_tell_whose_a_cluster_is_and_helpers_do_not() {
        let ours = container("server", spec::OWNER.1);
        let tools = container("noRole", "");
        let theirs = container("agent", "somebody");
        assert!(nodes_are_ours(&[ours.clone(), tools.clone()]));
        assert!(!nodes_are_ours(&[ours, theirs]));
        assert!(!nodes_are_ours(&[tools]) && !nodes_are_ours(&[]));
    }
}
