//! Addresses for Services of type LoadBalancer: MetalLB's programs, and the pool that they give from.
//! Two steps, because the pool is of a kind that the first one defines.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::applied::Applied;
use crate::cluster::env::Env;
use crate::cluster::host::network;
use crate::cluster::objects;
use crate::cluster::ready::Workload;
use crate::plan::step::Planned;

const NAMESPACE: &str = "metallb-system";

/// The images of its two programs.
pub(super) struct Images<'a> {
    /// Gives addresses.
    pub controller: &'a str,
    /// Makes them known.
    pub speaker: &'a str,
}

/// The steps `load-balancer` and `addresses`.
///
/// # Errors
/// When a manifest is wrong.
pub(super) fn steps(
    env: Env,
    kubeconfig: &Path,
    images: &Images<'_>,
) -> Result<[Box<dyn Planned>; 2]> {
    let step = |id, needs, wanted, works| -> Box<dyn Planned> {
        Box::new(Applied {
            id,
            needs,
            limit: Duration::from_secs(120),
            kubeconfig: kubeconfig.to_owned(),
            wanted,
            works,
        })
    };
    Ok([
        step(
            "load-balancer",
            &["kubelet", "kube-proxy", "controller-manager", "scheduler"],
            programs(images)?,
            vec![
                Workload::Deployment(NAMESPACE, "controller"),
                Workload::DaemonSet(NAMESPACE, "speaker"),
            ],
        ),
        step("addresses", &["load-balancer"], pool(env)?, Vec::new()),
    ])
}

fn programs(images: &Images<'_>) -> Result<Vec<Value>> {
    let text = include_str!("../../../manifests/metallb.yaml")
        .replace("@CONTROLLER@", images.controller)
        .replace("@SPEAKER@", images.speaker);
    objects::parse(&text)
}

fn pool(env: Env) -> Result<Vec<Value>> {
    let pool = env.pool();
    let text = include_str!("../../../manifests/metallb-pool.yaml")
        .replace("@POOL@", &format!("{}-{}", pool.start(), pool.end()))
        .replace("@LINK@", network::INSIDE);
    objects::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_environment_gives_of_its_own_network() -> Result<()> {
        let addresses = |env| -> Result<Value> {
            let pool = pool(env)?;
            let found = pool.iter().find(|one| one["kind"] == "IPAddressPool");
            Ok(found.map_or(Value::Null, |one| one["spec"]["addresses"].clone()))
        };
        assert_eq!(addresses(Env::Dev)?[0], "10.231.0.200-10.231.0.239");
        assert_eq!(addresses(Env::Prod)?[0], "10.231.3.200-10.231.3.239");
        Ok(())
    }

    #[test]
    fn its_programs_are_ours_and_nothing_is_pulled() -> Result<()> {
        let all = programs(&Images {
            controller: "ours/controller:1",
            speaker: "ours/speaker:1",
        })?;
        let containers: Vec<_> = all
            .iter()
            .filter_map(|one| one["spec"]["template"]["spec"]["containers"].as_array())
            .flatten()
            .map(|one| (one["image"].clone(), one["imagePullPolicy"].clone()))
            .collect();
        let ours = |image: &str| (Value::from(image), Value::from("Never"));
        assert_eq!(
            containers,
            [ours("ours/controller:1"), ours("ours/speaker:1")]
        );
        Ok(())
    }
}
