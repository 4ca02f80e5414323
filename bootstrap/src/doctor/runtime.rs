//! Which runtime will serve the data services, Docker or plain processes, and whether it can.
//! The rule is that of `services::auto`.

use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;

use crate::doctor::check::{Check, Machine};
use crate::doctor::finding::{Finding, Level};
use crate::services::auto::{Found, choose};
use crate::services::docker::engine;
use crate::services::docker::runtime::Docker;
use crate::services::host::runtime::Host;
use crate::services::runtime::Kind;
use crate::services::session::Session;
use crate::services::settings::{RuntimeChoice, Settings};

const NAME: &str = "runtime";

pub(super) const CHECK: Check = Check {
    name: NAME,
    look: |machine| look(machine).boxed(),
    mend: None,
};

/// Registries may be slow; this is less than what a check may take.
const LIMIT: Duration = Duration::from_secs(4);

async fn look(machine: &Machine) -> Result<Vec<Finding>> {
    let asked = machine.settings.runtime;
    let before = Session::open_as_is(&machine.request)?.before;
    let docker = match (asked, before) {
        (RuntimeChoice::Host, _) | (RuntimeChoice::Auto, Some(Kind::Host)) => None,
        (RuntimeChoice::Auto, None) => Some(can_serve(&machine.settings).await),
        (RuntimeChoice::Docker, _) | (RuntimeChoice::Auto, Some(Kind::Docker)) => {
            Some(answers().await)
        }
    };
    let found = Found {
        before,
        docker,
        host_lacks: host(machine).lacks(),
    };
    Ok(vec![judge(asked, &found)])
}

async fn can_serve(settings: &Settings) -> Result<String, String> {
    let asked = tokio::time::timeout(LIMIT, Docker::can_serve(settings)).await;
    asked.unwrap_or_else(|_| {
        Err(format!(
            "Docker does not say within {} s whether images can be pulled (`bootstrap` waits longer)",
            LIMIT.as_secs()
        ))
    })
}

async fn answers() -> Result<String, String> {
    match engine::connect().await {
        Ok(_) => Ok("Docker answers".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn host(machine: &Machine) -> Host {
    let request = &machine.request;
    Host {
        home: request.home.clone(),
        programs: request.programs.clone(),
        settings: machine.settings.clone(),
        launcher: request.launcher.clone(),
    }
}

fn judge(asked: RuntimeChoice, found: &Found) -> Finding {
    let choice = match choose(asked, found) {
        Ok(choice) => choice,
        Err(why) => return Finding::new(NAME, Level::Problem, why, "make setup"),
    };
    let (kind, because) = (choice.kind.name(), choice.because);
    let chosen = match asked {
        RuntimeChoice::Auto => format!("`auto` takes {kind} for the services, because {because}"),
        _ => format!("the services run by {kind}, because {because}"),
    };
    match (choice.kind, &found.docker) {
        (Kind::Host, _) if !found.host_lacks.is_empty() => {
            let lacks = found.host_lacks.join("; ");
            Finding::new(
                NAME,
                Level::Problem,
                format!("{chosen}; but {lacks}"),
                "make setup",
            )
        }
        (Kind::Docker, Some(Err(why))) => Finding::new(
            NAME,
            Level::Problem,
            format!("{chosen}; but {why}"),
            "start Docker, or choose plain processes: --runtime host",
        ),
        _ => Finding::new(
            NAME,
            Level::Note,
            chosen,
            "nothing has to be done; --runtime docker or --runtime host decides otherwise",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::doctor::finding::Level;
    use crate::services::auto::Found;
    use crate::services::runtime::Kind;
    use crate::services::settings::RuntimeChoice;

    fn judged(asked: RuntimeChoice, found: &Found) -> (Level, String) {
        let finding = judge(asked, found);
        assert!(finding.fix.is_some(), "{finding:?}");
        (finding.level, finding.says)
    }

    #[test]
    fn that_docker_is_missing_is_no_problem() {
        let mut found = Found {
            docker: Some(Err("no daemon answers".into())),
            ..Found::default()
        };
        let (level, says) = judged(RuntimeChoice::Auto, &found);
        assert_eq!(level, Level::Note);
        assert_eq!(
            says,
            "`auto` takes host for the services, because no daemon answers"
        );
        found.docker = Some(Ok("Docker answers and all images are here".into()));
        let (level, says) = judged(RuntimeChoice::Auto, &found);
        assert_eq!(level, Level::Note);
        assert!(says.contains("`auto` takes docker"), "{says}");
    }

    #[test]
    fn that_nothing_can_serve_is_one() {
        let lacking = Found {
            before: None,
            docker: Some(Err("no daemon answers".into())),
            host_lacks: vec!["minio is not installed".into()],
        };
        for asked in [
            RuntimeChoice::Auto,
            RuntimeChoice::Host,
            RuntimeChoice::Docker,
        ] {
            assert_eq!(judged(asked, &lacking).0, Level::Problem, "{asked:?}");
        }
        let set_up_so = Found {
            before: Some(Kind::Docker),
            host_lacks: Vec::new(),
            ..lacking
        };
        let (level, says) = judged(RuntimeChoice::Auto, &set_up_so);
        assert_eq!(level, Level::Problem);
        assert!(says.ends_with("but no daemon answers"), "{says}");
    }
}
