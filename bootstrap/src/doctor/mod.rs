//! Whether a machine has what the platform needs, before anything is brought up on it.
//!
//! A check is a file in here with a `CHECK`, and a line in [`CHECKS`]. Each looks at one thing, and
//! a pure `judge` makes findings of what was seen. Must not know who shows them.

pub mod check;
pub mod finding;
pub mod table;

mod cgroups;
mod clock;
mod disk;
mod forwarding;
mod inotify;
mod memory;
mod names;
mod networks;
mod overlay;
mod ports;
mod root;
mod runtime;
mod tools;

use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::future::join_all;

use crate::doctor::check::{Check, Machine, Mend};
use crate::doctor::finding::Finding;
use crate::event::{About, Level, Report, say};

/// Every check, in the order in which findings are shown.
pub const CHECKS: &[Check] = &[
    root::CHECK,
    tools::CHECK,
    runtime::CHECK,
    ports::CHECK,
    networks::CHECK,
    forwarding::CHECK,
    names::CHECK,
    clock::CHECK,
    cgroups::CHECK,
    overlay::CHECK,
    inotify::CHECK,
    memory::CHECK,
    disk::CHECK,
];

/// No check may take longer; nor may mending.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks at everything, side by side.
pub async fn look(machine: &Machine) -> Vec<Finding> {
    let looks = CHECKS.iter().map(|check| ask(check, machine, LIMIT));
    join_all(looks).await.into_iter().flatten().collect()
}

async fn ask(check: &Check, machine: &Machine, limit: Duration) -> Vec<Finding> {
    let looked = tokio::time::timeout(limit, (check.look)(machine)).await;
    looked
        .unwrap_or_else(|_| Err(anyhow!("no answer within {limit:?}")))
        .unwrap_or_else(|error| vec![unseen(check.name, &error)])
}

fn unseen(check: &'static str, why: &anyhow::Error) -> Finding {
    Finding::new(
        check,
        finding::Level::Warning,
        format!("this could not be looked at: {why:#}"),
        "mend what it says, then run `comind-ops doctor` again",
    )
}

/// Does what is safe to be done without being asked, and says each thing that was done.
pub async fn mend(machine: &Machine, report: &dyn Report) {
    let mut touched = false;
    for check in CHECKS {
        let Some(mend) = check.mend else {
            continue;
        };
        let about = About::new(check.name, report);
        match mended(mend, machine).await {
            Ok(done) => {
                touched |= !done.is_empty();
                done.into_iter()
                    .for_each(|done| about.say(Level::Changed, done));
            }
            Err(error) => {
                touched = true;
                about.say(Level::Warning, format!("cannot be mended: {error:#}"));
            }
        }
    }
    if !touched {
        say(report, Level::Unchanged, "there was nothing to be mended");
    }
}

async fn mended(mend: Mend, machine: &Machine) -> Result<Vec<String>> {
    let ended = tokio::time::timeout(LIMIT, mend(machine)).await;
    ended.unwrap_or_else(|_| Err(anyhow!("no end within {LIMIT:?}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::home::{Home, Surroundings};
    use crate::programs::Programs;
    use crate::services::session::Request;
    use crate::services::settings::Amendments;
    use crate::supervise::control::Launcher;

    fn machine(home: &std::path::Path) -> Result<Machine> {
        let surroundings = Surroundings {
            asked: Some(home.to_owned()),
            ..Surroundings::default()
        };
        Ok(Machine::new(Request {
            home: Home::choose(&surroundings)?,
            programs: Programs::default(),
            launcher: Launcher {
                program: "/bin/false".into(),
                args: Vec::new(),
            },
            settings_file: None,
            amendments: Amendments::default(),
        })?)
    }

    #[test]
    fn no_two_checks_have_one_name() {
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
    }

    #[tokio::test]
    async fn a_check_that_hangs_or_fails_is_a_warning_that_says_so() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let machine = machine(dir.path())?;
        let hangs = Check {
            name: "hangs",
            look: |_| std::future::pending().boxed(),
            mend: None,
        };
        let fails = Check {
            name: "fails",
            look: |_| std::future::ready(Err(anyhow!("no such file"))).boxed(),
            mend: None,
        };
        for (check, says) in [(hangs, "no answer within 10ms"), (fails, "no such file")] {
            let findings = ask(&check, &machine, Duration::from_millis(10)).await;
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].check, check.name);
            assert_eq!(findings[0].level, finding::Level::Warning);
            assert!(findings[0].says.contains(says), "{:?}", findings[0]);
        }
        Ok(())
    }
}
