//! The cluster's network namespace, the cable from this machine into it, and the way out.
//!
//! All that Kubernetes does to networks (bridges, iptables, addresses of Services) happens in
//! there: this machine's own rules stay as they are, clusters do not disturb each other, and all
//! of it is gone with the namespace.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cluster::host::command::{run, succeeds};
use crate::cluster::host::place::{PODS, Place, SERVICES};
use crate::plan::step::Change;

/// In the cluster's namespace the cable's end is called so.
pub(super) const INSIDE: &str = "eth0";
/// Told apart from other people's rules by this.
const COMMENT: &str = "comind-ops";

/// What there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The namespace.
    pub namespace: bool,
    /// The cable, with both addresses.
    pub cable: bool,
    /// Pods reach what this machine reaches.
    pub way_out: bool,
}

/// Looks.
///
/// # Errors
/// When the system's programs are missing.
pub async fn look(place: &Place) -> Result<Seen> {
    let name = place.name();
    let namespace = place.namespace().exists();
    let mut seen = Seen {
        namespace,
        ..Seen::default()
    };
    refuse_foreign(place).await?;
    if namespace {
        let outside = run("ip", ["-json", "address", "show"]).await?;
        let inside = run("ip", ["-n", &name, "-json", "address", "show"]).await?;
        seen.cable = has(
            &outside,
            &place.env.link(),
            &place.env.gateway().to_string(),
        )? && has(&inside, INSIDE, &place.node().to_string())?;
    }
    seen.way_out = forwards() && masquerades(place).await;
    Ok(seen)
}

/// Whether a link of that name is up with that address.
fn has(json: &str, link: &str, address: &str) -> Result<bool> {
    let links: Vec<Value> = serde_json::from_str(json)?;
    Ok(links.iter().any(|found| {
        found["ifname"] == link
            && found["flags"]
                .as_array()
                .is_some_and(|flags| flags.iter().any(|flag| flag == "UP"))
            && found["addr_info"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["local"] == address))
    }))
}

fn forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

/// The rules on this machine: leave as us, and be let through. But addresses that mean something
/// inside only stay inside: while a Service has nobody behind it, somebody outside might answer.
/// Each is put before those before it.
fn rules(place: &Place) -> [Vec<String>; 5] {
    let (network, link) = (place.env.network(), place.env.link());
    let rule = |text: String| {
        let words = text.split(' ').map(str::to_owned);
        words
            .chain(["-m", "comment", "--comment", COMMENT].map(str::to_owned))
            .collect()
    };
    [
        rule(format!(
            "-t nat @ POSTROUTING -s {network} ! -o {link} -j MASQUERADE"
        )),
        rule(format!("-t filter @ FORWARD -i {link} -j ACCEPT")),
        rule(format!(
            "-t filter @ FORWARD -o {link} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        )),
        rule(format!(
            "-t filter @ FORWARD -i {link} -d {SERVICES} -j REJECT"
        )),
        rule(format!("-t filter @ FORWARD -i {link} -d {PODS} -j REJECT")),
    ]
}

/// `what` is `-C` (check), `-I` (insert) or `-D` (delete).
fn with(rule: &[String], what: &str) -> Vec<String> {
    let words = rule
        .iter()
        .map(|word| if word == "@" { what } else { word });
    ["-w", "10"]
        .into_iter()
        .chain(words)
        .map(str::to_owned)
        .collect()
}

async fn masquerades(place: &Place) -> bool {
    for rule in rules(place) {
        if !succeeds("iptables", with(&rule, "-C")).await {
            return false;
        }
    }
    true
}

/// What is missing, in words. Pure.
pub fn diff(place: &Place, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    if !seen.namespace {
        changes.push(Change::new(format!(
            "make the network namespace {}",
            place.name()
        )));
    }
    if !seen.cable {
        changes.push(Change::new(format!(
            "lay the cable {} ({} to {})",
            place.env.link(),
            place.env.gateway(),
            place.node()
        )));
    }
    if !seen.way_out {
        changes.push(Change::new(format!(
            "let {} out (forwarding, and five iptables rules with the comment {COMMENT})",
            place.env.network()
        )));
    }
    changes
}

/// Makes what is missing.
///
/// # Errors
/// When the system refuses, or the network is in use for something else.
pub async fn make(place: &Place, seen: &Seen) -> Result<()> {
    let name = place.name();
    if !seen.namespace {
        run("ip", ["netns", "add", &name]).await?;
    }
    if !seen.cable {
        refuse_overlap(place).await?;
        lay_cable(place).await?;
    }
    if !seen.way_out {
        run("sysctl", ["-q", "-w", "net.ipv4.ip_forward=1"]).await?;
        for rule in rules(place) {
            if !succeeds("iptables", with(&rule, "-C")).await {
                run("iptables", with(&rule, "-I")).await?;
            }
        }
    }
    Ok(())
}

async fn refuse_overlap(place: &Place) -> Result<()> {
    let network = place.env.network();
    let routes = run("ip", ["route", "show", "to", "root", &network]).await?;
    let foreign = routes
        .lines()
        .find(|line| !line.contains(&place.env.link()));
    match foreign {
        Some(route) => bail!(
            "the network {network} is in use on this machine (`{}`); remove that route, or choose another ENV",
            route.trim()
        ),
        None => Ok(()),
    }
}

/// Who owns the cable is written on it: names of environments are the machine's, and there may be
/// several homes.
async fn owner(place: &Place) -> Result<Option<String>> {
    let links: Vec<Value> = serde_json::from_str(&run("ip", ["-json", "link", "show"]).await?)?;
    let link = links
        .iter()
        .find(|link| link["ifname"] == place.env.link().as_str());
    Ok(link.and_then(|link| Some(link["ifalias"].as_str()?.to_owned())))
}

fn home(place: &Place) -> String {
    place.home.path().display().to_string()
}

async fn refuse_foreign(place: &Place) -> Result<()> {
    match owner(place).await? {
        Some(owner) if owner != home(place) => bail!(
            "the environment {} of this machine belongs to {owner}; work there (COMIND_HOME), or choose another ENV",
            place.env.name()
        ),
        _ => Ok(()),
    }
}

async fn lay_cable(place: &Place) -> Result<()> {
    let (name, link) = (place.name(), place.env.link());
    let (gateway, node) = (place.env.gateway().to_string(), place.node().to_string());
    // One half may be left of a run that was cut off.
    if succeeds("ip", ["link", "show", &link]).await {
        run("ip", ["link", "delete", &link]).await?;
    }
    run(
        "ip",
        [
            "link", "add", &link, "type", "veth", "peer", "name", INSIDE, "netns", &name,
        ],
    )
    .await?;
    run("ip", ["link", "set", &link, "alias", &home(place)]).await?;
    let (outside, inside) = (format!("{gateway}/24"), format!("{node}/24"));
    run("ip", ["address", "add", &outside, "dev", &link]).await?;
    run("ip", ["link", "set", &link, "up"]).await?;
    run("ip", ["-n", &name, "link", "set", "lo", "up"]).await?;
    run(
        "ip",
        ["-n", &name, "address", "add", &inside, "dev", INSIDE],
    )
    .await?;
    run("ip", ["-n", &name, "link", "set", INSIDE, "up"]).await?;
    run(
        "ip",
        ["-n", &name, "route", "add", "default", "via", &gateway],
    )
    .await?;
    let file = place.namespace();
    let network = format!("--net={}", file.display());
    run(
        "nsenter",
        [
            network.as_str(),
            "sysctl",
            "-q",
            "-w",
            "net.ipv4.ip_forward=1",
        ],
    )
    .await?;
    // Pods that reach a Service of their own node go through iptables too; not every kernel knows it.
    let bridged = "net.bridge.bridge-nf-call-iptables=1";
    succeeds("nsenter", [network.as_str(), "sysctl", "-q", "-w", bridged]).await;
    Ok(())
}

/// Removes all of it.
///
/// # Errors
/// When the system refuses.
pub async fn remove(place: &Place) -> Result<()> {
    refuse_foreign(place).await?;
    for rule in rules(place) {
        // However often a run that was cut off has put it there.
        while succeeds("iptables", with(&rule, "-D")).await {}
    }
    if succeeds("ip", ["link", "show", &place.env.link()]).await {
        run("ip", ["link", "delete", &place.env.link()]).await?;
    }
    if place.namespace().exists() {
        run("ip", ["netns", "delete", &place.name()]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::env::Env;
    use crate::home::{Home, Surroundings};

    fn place() -> Place {
        let surroundings = Surroundings {
            asked: Some("/h".into()),
            ..Surroundings::default()
        };
        Place {
            env: Env::Dev,
            home: Home::choose(&surroundings).expect("it was asked for"),
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let words = |seen| Change::words(&diff(&place(), &seen)).join("\n");
        insta::assert_snapshot!(words(Seen::default()), @r"
        make the network namespace comind-ops-dev
        lay the cable comind-dev (10.231.0.1 to 10.231.0.2)
        let 10.231.0.0/24 out (forwarding, and five iptables rules with the comment comind-ops)
        ");
        let all = Seen {
            namespace: true,
            cable: true,
            way_out: true,
        };
        assert_eq!(words(all), "");
    }

    #[test]
    fn rules_are_checked_as_they_are_made() {
        let rule = &rules(&place())[0];
        insta::assert_snapshot!(with(rule, "-C").join(" "), @"-w 10 -t nat -C POSTROUTING -s 10.231.0.0/24 ! -o comind-dev -j MASQUERADE -m comment --comment comind-ops");
    }

    #[test]
    fn a_cable_counts_when_it_is_up_with_its_address() -> Result<()> {
        let json = r#"[{"ifname":"eth0","flags":["UP"],"addr_info":[{"local":"10.231.0.2"}]},{"ifname":"eth1","flags":[],"addr_info":[{"local":"10.231.0.3"}]}]"#;
        assert!(has(json, "eth0", "10.231.0.2")?);
        assert!(!has(json, "eth0", "10.231.0.3")? && !has(json, "eth1", "10.231.0.3")?);
        Ok(())
    }
}
