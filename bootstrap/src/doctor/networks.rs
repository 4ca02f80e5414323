//! Whether this machine uses the networks itself that the clusters use.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use serde::Deserialize;

use crate::cluster::env::Env;
use crate::cluster::host::command::run;
use crate::cluster::host::place::{PODS, SERVICES};
use crate::doctor::check::Check;
use crate::doctor::finding::{Finding, Level};

const NAME: &str = "networks";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |_| look().boxed(),
    mend: None,
};

/// All environments' networks between this machine and their nodes.
const NODES: &str = "10.231.0.0/16";

/// A shorter prefix is that of a way out, as tunnels set it, and not of a network.
const SHORTEST: u32 = 8;

/// A route, as `ip -json route` prints it.
#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: String,
}

#[derive(Clone, Copy, Debug)]
struct Net {
    address: u32,
    length: u32,
}

impl Net {
    /// Nothing for what is no network, such as `default`.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        Some(Self {
            address: address.parse::<Ipv4Addr>().ok()?.to_bits(),
            length: length.parse::<u32>().ok().filter(|length| *length <= 32)?,
        })
    }

    fn contains(self, other: Self) -> bool {
        let mask = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
        self.length <= other.length && (self.address ^ other.address) & mask == 0
    }
}

async fn look() -> Result<Vec<Finding>> {
    let text = run("ip", ["-json", "route"]).await?;
    let routes: Vec<Route> =
        serde_json::from_str(&text).context("cannot understand `ip -json route`")?;
    Ok(judge(&routes))
}

fn judge(routes: &[Route]) -> Vec<Finding> {
    let foreign = routes.iter().filter(|route| !ours(route));
    let findings: Vec<Finding> = foreign
        .flat_map(|route| [NODES, SERVICES, PODS].map(|wanted| overlap(route, wanted)))
        .flatten()
        .collect();
    if findings.is_empty() {
        let text = format!("nothing else uses {NODES}, {SERVICES} or {PODS}");
        return vec![Finding::ok(NAME, text)];
    }
    findings
}

fn ours(route: &Route) -> bool {
    Env::ALL.iter().any(|env| env.link() == route.dev)
}

/// A network inside ours is lost to us or to its owner. A wider one loses only the part that is
/// ours, which may be in use or not.
fn overlap(route: &Route, wanted: &str) -> Option<Finding> {
    let (theirs, our) = (Net::parse(&route.dst)?, Net::parse(wanted)?);
    let Route { dst, dev } = route;
    if our.contains(theirs) {
        let says = format!("{} uses {dst}, which is in our {wanted}", owner(dev));
        return Some(Finding::new(NAME, Level::Problem, says, way_out(dst, dev)));
    }
    if theirs.length >= SHORTEST && theirs.contains(our) {
        let says = format!(
            "{} uses {dst}: what it has in {wanted} will be out of reach for the cluster",
            owner(dev)
        );
        let fix = format!("if something there is needed: {}", way_out(dst, dev));
        return Some(Finding::new(NAME, Level::Warning, says, fix));
    }
    None
}

fn dockers(dev: &str) -> bool {
    dev.starts_with("docker") || dev.starts_with("br-")
}

fn owner(dev: &str) -> String {
    match dev {
        "" => "a route".to_owned(),
        _ if dockers(dev) => format!("a Docker network ({dev})"),
        _ => format!("a route by {dev}"),
    }
}

fn way_out(dst: &str, dev: &str) -> String {
    match dev {
        "" => format!("take it away: ip route delete {dst}"),
        _ if dockers(dev) => {
            "remove it (docker network ls, docker network rm), or give Docker other \
                              addresses: default-address-pools in /etc/docker/daemon.json"
                .to_owned()
        }
        _ => format!("take it away: ip route delete {dst} dev {dev}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{NODES, Net, Route, judge};
    use crate::cluster::env::Env;
    use crate::doctor::finding::Level;

    fn judged(dst: &str, dev: &str) -> Vec<Level> {
        let route = Route {
            dst: dst.to_owned(),
            dev: dev.to_owned(),
        };
        judge(&[route]).iter().map(|one| one.level).collect()
    }

    #[test]
    fn inside_ours_is_a_problem_around_them_a_warning() {
        use Level::{Ok, Problem, Warning};
        for (dst, dev, expected) in [
            ("default", "eth0", vec![Ok]),
            ("192.0.2.0/24", "eth0", vec![Ok]),
            ("10.232.0.0/16", "eth0", vec![Ok]),
            ("10.231.0.0/24", "comind-dev", vec![Ok]),
            ("10.231.0.0/24", "eth0", vec![Problem]),
            ("10.96.0.0/16", "eth0", vec![Problem]),
            ("10.244.3.7", "cni0", vec![Problem]),
            ("10.0.0.0/8", "tun0", vec![Warning; 3]),
            ("0.0.0.0/1", "tun0", vec![Ok]),
            ("10.224.0.0/11", "", vec![Warning, Warning]),
            ("nonsense/99", "eth0", vec![Ok]),
        ] {
            assert_eq!(judged(dst, dev), expected, "{dst} by {dev}");
        }
    }

    #[test]
    fn a_docker_network_is_called_so() {
        let text = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
            {"dst":"10.231.0.0/16","dev":"br-0123","protocol":"kernel","flags":["linkdown"]}]"#;
        let routes: Vec<Route> = serde_json::from_str(text).expect("as `ip` prints it");
        let findings = judge(&routes);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].says.contains("a Docker network (br-0123)"));
        let fix = findings[0].fix.as_deref().unwrap_or_default();
        assert!(fix.contains("docker network rm"), "{fix}");
    }

    #[test]
    fn every_environment_is_among_what_is_looked_for() {
        let all = Net::parse(NODES).expect("a network");
        for env in Env::ALL {
            let one = Net::parse(&env.network()).expect("a network");
            assert!(all.contains(one), "{env:?}");
        }
    }
}
