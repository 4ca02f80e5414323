//! Whether somebody else listens where the data services are to.

use anyhow::Result;
use futures_util::FutureExt as _;

use crate::doctor::check::{Check, Machine};
use crate::doctor::finding::{Finding, Level};
use crate::home::Home;
use crate::services::catalog::{self, Port, Service};
use crate::services::docker::engine::{self, Named};
use crate::services::ports::{Holder, Process, holder, taken};
use crate::supervise::control;
use crate::supervise::server::carries_mark;

const NAME: &str = "ports";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |machine| look(machine).boxed(),
    mend: None,
};

/// A port that one of our services wants and that somebody has.
struct Held {
    service: Service,
    port: Port,
    by: Holder,
}

async fn look(machine: &Machine) -> Result<Vec<Finding>> {
    let there = machine.clone();
    let held = tokio::task::spawn_blocking(move || held(&there)).await??;
    let mut foreign = Vec::new();
    for one in held {
        if !in_our_container(&one).await {
            foreign.push(one);
        }
    }
    Ok(judge(&foreign))
}

/// The ports that no process of ours holds and somebody does.
fn held(machine: &Machine) -> Result<Vec<Held>> {
    let mut all = Vec::new();
    for service in machine.settings.wanted() {
        for port in catalog::ports(service, &machine.settings) {
            let Some(by) = holder(port.host)? else {
                continue;
            };
            if !ours(&machine.request.home, service, by.process.as_ref())? {
                all.push(Held { service, port, by });
            }
        }
    }
    Ok(all)
}

/// Whether it is the service as a process of ours, as the host runtime sees it.
fn ours(home: &Home, service: Service, process: Option<&Process>) -> Result<bool> {
    let Some(process) = process else {
        return Ok(false);
    };
    let run_dir = home.run(service.name());
    let own = control::look(&run_dir)?.and_then(|standing| standing.pid);
    let known = own.is_some_and(|own| process.pid == own || process.ancestors.contains(&own));
    Ok(known || carries_mark(process.pid, &run_dir))
}

/// Whether it is the service in a container of ours.
async fn in_our_container(held: &Held) -> bool {
    if !perhaps_dockers(&held.by) {
        return false;
    }
    let Ok(docker) = engine::connect().await else {
        return false;
    };
    let name = held.service.container();
    let running = match engine::look_up(&docker, name).await {
        Ok(Named::Ours(container)) => container.state.and_then(|state| state.running),
        _ => None,
    };
    let others = engine::publishers(&docker, held.port.host, name).await;
    running == Some(true) && matches!(others, Ok(None))
}

/// Containers' ports are held by a process of Docker's, whose name only root may see.
fn perhaps_dockers(by: &Holder) -> bool {
    by.process
        .as_ref()
        .is_none_or(|process| process.name == "docker-proxy")
}

fn judge(foreign: &[Held]) -> Vec<Finding> {
    if foreign.is_empty() {
        return vec![Finding::ok(
            NAME,
            "nobody else has the ports of the services",
        )];
    }
    foreign.iter().map(problem).collect()
}

/// In the words of whoever would start the service: what is so, and after it the ways out.
fn problem(held: &Held) -> Finding {
    let text = taken(held.service, &held.port, &held.by.describe());
    let (says, fix) = text.rsplit_once("; ").unwrap_or((text.as_str(), "stop it"));
    Finding::new(NAME, Level::Problem, says, fix)
}

#[cfg(test)]
mod tests {
    use super::{Held, judge, perhaps_dockers};
    use crate::doctor::finding::Level;
    use crate::services::catalog::{self, Service};
    use crate::services::ports::{Holder, Process};
    use crate::services::settings::Settings;

    fn held(name: Option<&str>) -> Held {
        let port = catalog::ports(Service::Minio, &Settings::default())[1];
        let process = name.map(|name| Process {
            pid: 4711,
            name: name.to_owned(),
            ancestors: Vec::new(),
        });
        Held {
            service: Service::Minio,
            port,
            by: Holder {
                at: ([127, 0, 0, 1], port.host).into(),
                process,
                uid: 1000,
            },
        }
    }

    #[test]
    fn the_holder_and_the_ways_out_are_told() {
        assert_eq!(judge(&[])[0].level, Level::Ok);
        let findings = judge(&[held(Some("nginx")), held(Some("docker-proxy")), held(None)]);
        assert_eq!(findings.len(), 3);
        assert_eq!(findings[0].says, "port 9001 is taken by nginx (pid 4711)");
        assert!(findings[1].says.contains("docker ps"), "{:?}", findings[1]);
        for finding in &findings {
            assert_eq!(finding.level, Level::Problem);
            assert_eq!(
                finding.fix.as_deref(),
                Some("stop it, or give minio another one: --minio-console-port PORT")
            );
        }
    }

    #[test]
    fn docker_is_asked_only_where_it_may_know() {
        assert!(!perhaps_dockers(&held(Some("nginx")).by));
        assert!(perhaps_dockers(&held(Some("docker-proxy")).by));
        assert!(perhaps_dockers(&held(None).by));
    }
}
