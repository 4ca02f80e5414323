//! Whose the containers of a cluster by k3d are. k3d's own list says only the labels that k3d gives.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use bollard::query_parameters::ListContainersOptionsBuilder;

use crate::services::docker::engine::{self, words};
use crate::services::docker::spec;

/// Whether all containers of the cluster carry our label; one without containers is nobody's.
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
    let ours = |labels: Option<&HashMap<String, String>>| spec::ours(labels);
    Ok(!all.is_empty() && all.iter().all(|one| ours(one.labels.as_ref())))
}
