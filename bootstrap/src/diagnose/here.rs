//! The parts of a bundle that this machine knows: version, findings, journals, logs, units.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::diagnose::{File, Part, Subject, at_once, redact};
use crate::doctor::check::Machine;
use crate::doctor::{self, finding};
use crate::home::Home;
use crate::secret::Secret;
use crate::services::session::{Request, settings};
use crate::services::settings::Settings;
use crate::supervise::state::Files;
use crate::supervise::unit::Unit;
use crate::supervise::{control, logs};

/// The last lines of a log.
const LINES: usize = 500;
/// The last lines of a journal: all that is left of it when it is begun anew.
const JOURNAL_LINES: usize = 20_000;
/// The last lines of what a supervisor says itself.
const SUPERVISOR_LINES: usize = 50;
/// Folders in folders of logs.
const DEEP: usize = 3;

/// What is known to be secret: the services' passwords and what processes have in their
/// environment. Those that everybody can read in our documents are none.
///
/// # Errors
/// When the settings cannot be understood: nobody knows then what must not be seen.
pub(super) fn secrets(request: &Request) -> Result<Vec<Secret>> {
    let named = request.settings_file.as_deref();
    let used = settings(&request.home, None, &request.amendments)
        .context("what is secret cannot be known")?;
    let mut all = passwords(&used);
    if let Some(named) = named {
        let asked = settings(&request.home, Some(named), &request.amendments);
        all.extend(passwords(&asked.context("what is secret cannot be known")?));
    }
    for run_dir in run_dirs(&request.home) {
        // A damaged one is told of among the units; what it had is not shown there.
        if let Ok(Some(unit)) = Unit::load(&run_dir) {
            let hidden = unit
                .env
                .into_iter()
                .filter(|(name, _)| redact::is_secret(name));
            all.extend(hidden.map(|(_, value)| Secret::new(value)));
        }
    }
    let public = passwords(&Settings::default());
    all.retain(|one| !public.contains(one));
    Ok(all)
}

fn passwords(settings: &Settings) -> Vec<Secret> {
    let of = &settings.services;
    vec![of.postgresql.password.clone(), of.minio.secret_key.clone()]
}

/// The parts.
pub(super) fn parts(subject: &Subject) -> Vec<Part<'_>> {
    let version = subject.version.clone();
    let (place, home) = (subject.place.clone(), subject.request.home.clone());
    let journals = vec![
        home.path()
            .join(format!("bootstrap-{}.jsonl", place.env.name())),
        place.data("journal.jsonl"),
    ];
    let units_home = home.clone();
    vec![
        at_once("version", move || Ok(vec![machine(&version)?])),
        ("doctor", findings(subject).boxed()),
        at_once("journals", move || journals_of(&journals)),
        at_once("logs", move || logs_below(&home.path().join("logs"))),
        at_once("units", move || units(&units_home)),
    ]
}

fn machine(version: &str) -> Result<File> {
    let system = rustix::system::uname();
    let words = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let value = json!({
        "version": version,
        "system": words(system.sysname()),
        "kernel": words(system.release()),
        "machine": words(system.machine()),
        "at": crate::event::now(),
    });
    File::json("version.json", value)
}

async fn findings(subject: &Subject) -> Result<Vec<File>> {
    let machine = Machine::new(subject.request.clone())?;
    let findings = doctor::look(&machine).await;
    let well = finding::well(&findings);
    let value = json!({ "well": well, "findings": findings });
    Ok(vec![File::json("doctor.json", value)?])
}

fn journals_of(paths: &[PathBuf]) -> Result<Vec<File>> {
    let mut all = Vec::new();
    for path in paths {
        let name = match path.parent().and_then(Path::file_name) {
            Some(dir) if path.ends_with("journal.jsonl") => {
                format!("journals/{}.jsonl", dir.to_string_lossy())
            }
            _ => format!("journals/{}", file_name(path)),
        };
        all.push(match path.exists() {
            true => File::text(name, lines(path, JOURNAL_LINES)?),
            false => File::text(
                format!("{name}.missing.txt"),
                format!("there is no {}\n", path.display()),
            ),
        });
    }
    Ok(all)
}

fn logs_below(dir: &Path) -> Result<Vec<File>> {
    let mut all = Vec::new();
    for path in files_below(dir, DEEP) {
        let name = path.strip_prefix(dir).unwrap_or(&path);
        let name = format!("logs/{}", name.display());
        all.push(match lines(&path, LINES) {
            Ok(text) => File::text(name, text),
            Err(error) => File::text(format!("{name}.missing.txt"), format!("{error:#}\n")),
        });
    }
    Ok(all)
}

/// The logs in a folder, in order. Links are not followed: they may lead anywhere.
fn files_below(dir: &Path, deep: usize) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() && deep > 0 => all.extend(files_below(&path, deep - 1)),
            Ok(kind) if kind.is_file() && file_name(&path).ends_with(".log") => all.push(path),
            _ => {}
        }
    }
    all.sort();
    all
}

fn lines(path: &Path, most: usize) -> Result<String> {
    let lines = logs::tail(path, most)?;
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn run_dirs(home: &Home) -> Vec<PathBuf> {
    let all = std::fs::read_dir(home.run("")).into_iter().flatten();
    let mut all: Vec<PathBuf> = all.flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn units(home: &Home) -> Result<Vec<File>> {
    let mut all = Vec::new();
    for run_dir in run_dirs(home) {
        let name = file_name(&run_dir);
        let told = unit(&run_dir).unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        all.push(File::json(format!("units/{name}.json"), told)?);
        let said = lines(&Files::new(&run_dir).supervisor_log(), SUPERVISOR_LINES);
        if let Ok(said) = said
            && !said.is_empty()
        {
            all.push(File::text(format!("units/{name}.supervisor.log"), said));
        }
    }
    Ok(all)
}

/// How a unit stands. Its environment is not for others.
fn unit(run_dir: &Path) -> Result<Value> {
    let unit = Unit::load(run_dir)?;
    let standing = control::look(run_dir)?;
    let standing = standing.map(|one| {
        json!({
            "phase": one.phase, "pid": one.pid, "since": one.since, "restarts": one.restarts,
            "reason": one.reason, "supervised": one.supervised,
        })
    });
    let unit = unit.map(|unit| {
        json!({
            "program": unit.program, "args": unit.args, "directory": unit.directory,
            "run_as": unit.run_as, "log": unit.log, "network": unit.network,
        })
    });
    Ok(json!({ "unit": unit, "standing": standing }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_found_and_links_are_not_followed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let logs = dir.path().join("logs");
        std::fs::create_dir_all(logs.join("deep"))?;
        std::fs::write(dir.path().join("private.log"), "a")?;
        std::fs::write(logs.join("b.log"), "1\n2\n")?;
        std::fs::write(logs.join("deep/a.log"), "3\n")?;
        std::fs::write(logs.join("b.txt"), "4\n")?;
        std::os::unix::fs::symlink(dir.path().join("private.log"), logs.join("c.log"))?;
        let names: Vec<String> = logs_below(&logs)?.into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["logs/b.log", "logs/deep/a.log"]);
        assert!(logs_below(&dir.path().join("none"))?.is_empty());
        Ok(())
    }

    #[test]
    fn a_journal_that_is_not_there_is_told() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let there = dir.path().join("bootstrap-dev.jsonl");
        std::fs::write(&there, "{}\n")?;
        let not = dir.path().join("cluster-dev/journal.jsonl");
        let all = journals_of(&[there, not])?;
        let names: Vec<String> = all.into_iter().map(|one| one.name).collect();
        assert_eq!(
            names,
            [
                "journals/bootstrap-dev.jsonl",
                "journals/cluster-dev.jsonl.missing.txt"
            ]
        );
        Ok(())
    }

    #[test]
    fn documented_passwords_are_no_secrets() {
        let public = passwords(&Settings::default());
        assert_eq!(public, ["postgres", "minioadmin"].map(Secret::new));
    }
}
