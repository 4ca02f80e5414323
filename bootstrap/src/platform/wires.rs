//! The step that lays the wires between this machine's loopback and the cluster: pods reach the
//! services here, and people the ingress there. Each is a supervised socat.
//!
//! Towards pods it listens on the cable's address, and only for what comes through the cable; towards
//! people on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cluster::host::steps::Known;
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::platform::hosts;
use crate::services::catalog;
use crate::services::ports;
use crate::services::settings::Settings;
use crate::supervise::control;
use crate::supervise::logs;
use crate::supervise::state::Phase;
use crate::supervise::unit::{StopSignal, Unit};
use crate::wait::Look;

/// Connections of one wire at once; each is a process.
const MOST: u32 = 256;

/// The step.
pub struct Wires {
    known: Arc<Known>,
    program: PathBuf,
    wires: Vec<Wire>,
}

/// One wire.
struct Wire {
    name: &'static str,
    from: SocketAddr,
    /// Only for what comes through this link.
    link: Option<String>,
    to: SocketAddr,
}

impl Wires {
    /// To services with these settings, and from people to the ingress.
    ///
    /// # Errors
    /// When socat is missing.
    pub fn new(known: &Arc<Known>, settings: &Settings) -> Result<Self> {
        let install = "run `make setup-cluster`, or: apt-get install socat";
        Ok(Self {
            known: known.clone(),
            program: known.programs.find("socat", install)?,
            wires: wires(known, settings),
        })
    }

    fn unit(&self, wire: &Wire) -> Unit {
        let place = &self.known.place;
        let name = place.wire(wire.name);
        Unit {
            run_dir: place.home.run(&name),
            log: place.home.log(&name),
            name,
            program: self.program.clone(),
            args: wire.arguments(),
            env: BTreeMap::new(),
            directory: place.dir(),
            run_as: None,
            stop_signal: StopSignal::Term,
            stop_grace_ms: 2_000,
            reads: String::new(),
            network: None,
        }
    }

    fn look(&self, wire: &Wire) -> Look<(), String> {
        let name = wire.name;
        match control::look(&self.unit(wire).run_dir) {
            Ok(Some(one)) if one.phase == Phase::Running && one.restarts < 3 => Look::Done(()),
            Ok(Some(one)) if one.restarts >= 3 => Look::Hopeless(format!(
                "the wire {name} fails again and again: {}",
                one.reason.unwrap_or_default()
            )),
            Ok(_) => Look::NotYet(format!("the wire {name} begins")),
            Err(error) => Look::Hopeless(format!("{error:#}")),
        }
    }
}

fn wires(known: &Known, settings: &Settings) -> Vec<Wire> {
    let env = known.place.env;
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let reached = match known.ways.reach_this_machine() {
        true => settings.wanted(),
        false => Vec::new(),
    };
    let mut all: Vec<Wire> = reached
        .into_iter()
        .map(|service| {
            let port = catalog::ports(service, settings)[0].host;
            Wire {
                name: service.name(),
                from: (env.gateway(), port).into(),
                link: Some(env.link()),
                to: here(port),
            }
        })
        .collect();
    let (from, to) = (
        here(hosts::port(env)),
        known.ways.node_port(hosts::NODE_PORT),
    );
    // Where the node's port is there itself, nothing has to be laid.
    if from != to {
        all.push(Wire {
            name: "ingress",
            from,
            link: None,
            to,
        });
    }
    all
}

impl Wire {
    fn arguments(&self) -> Vec<String> {
        let link = self.link.as_ref();
        let link = link.map_or_else(String::new, |link| format!(",so-bindtodevice={link}"));
        let (from, to) = (self.from, self.to);
        vec![
            format!(
                "TCP4-LISTEN:{},bind={}{link},reuseaddr,fork,max-children={MOST},nodelay",
                from.port(),
                from.ip()
            ),
            format!("TCP4:{to},connect-timeout=5,nodelay"),
        ]
    }

    /// Nobody else may listen where people are to find the ingress.
    fn check_free(&self) -> Result<()> {
        if let Some(holder) = ports::holder(self.from.port())?
            && self.link.is_none()
        {
            bail!(
                "port {} of the ingress is taken by {}; stop it, or choose another ENV",
                self.from.port(),
                holder.describe()
            );
        }
        Ok(())
    }
}

/// The wires that do not run as they should, by their number.
pub struct Seen(Vec<usize>);

impl Step for Wires {
    type Seen = Seen;

    fn id(&self) -> Id {
        "wires"
    }

    fn needs(&self) -> &'static [Id] {
        &["network"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn observe(&self) -> Result<Seen> {
        let mut lacking = Vec::new();
        for (number, wire) in self.wires.iter().enumerate() {
            let unit = self.unit(wire);
            let standing = control::look(&unit.run_dir)?;
            let well = standing.is_some_and(|one| {
                one.pid.is_some() && one.supervised && one.fingerprint == Some(unit.fingerprint())
            });
            if !well {
                lacking.push(number);
            }
        }
        Ok(Seen(lacking))
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let lacking = seen.0.iter().map(|number| &self.wires[*number]);
        lacking
            .map(|Wire { name, from, to, .. }| {
                Change::new(format!("lay the wire {name} from {from} to {to}"))
            })
            .collect()
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        for number in seen.0 {
            let wire = &self.wires[number];
            let unit = self.unit(wire);
            control::stop(&unit.run_dir).await?;
            wire.check_free()?;
            make(&unit.directory)?;
            control::start(&unit, &self.known.launcher).await?;
        }
        Ok(())
    }

    async fn ready(&self) -> Look<(), String> {
        let all = self.wires.iter().map(|wire| self.look(wire));
        all.into_iter()
            .find(|one| !matches!(one, Look::Done(())))
            .unwrap_or(Look::Done(()))
    }

    fn last_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for wire in &self.wires {
            if !matches!(self.look(wire), Look::Done(())) {
                lines.extend(logs::tail(&self.unit(wire).log, 3).unwrap_or_default());
            }
        }
        lines
    }
}

fn make(dir: &Path) -> Result<()> {
    Ok(std::fs::create_dir_all(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towards_pods_only_the_cable_is_heard() {
        let wire = |link: Option<&str>| Wire {
            name: "redis",
            from: ([10, 231, 0, 1], 6379).into(),
            link: link.map(str::to_owned),
            to: ([127, 0, 0, 1], 6379).into(),
        };
        insta::assert_snapshot!(wire(Some("comind-dev")).arguments().join(" "), @"TCP4-LISTEN:6379,bind=10.231.0.1,so-bindtodevice=comind-dev,reuseaddr,fork,max-children=256,nodelay TCP4:127.0.0.1:6379,connect-timeout=5,nodelay");
        assert!(!wire(None).arguments()[0].contains("bindtodevice"));
    }
}
