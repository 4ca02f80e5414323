//! The collector as a supervised process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::fingerprint;
use crate::home::Home;
use crate::supervise::unit::{StopSignal, Unit};

/// The name of its unit, log and directory.
pub const NAME: &str = "serve";

/// The unit which runs `program serve`, listening on `listen`.
///
/// A configuration that we wrote is part of it: when `up` returns, what it shows must be what was
/// asked for. One that a person edited is not (`None`): the collector has reloaded that by itself.
///
/// # Errors
/// When the program cannot be looked at.
pub fn unit(
    home: &Home,
    program: PathBuf,
    listen: SocketAddr,
    config: Option<&str>,
) -> Result<Unit> {
    let config = config.unwrap_or("edited");
    let reads = format!("{} {listen} {config}", version(&program)?);
    Ok(Unit {
        name: NAME.to_owned(),
        run_dir: home.run(NAME),
        args: vec![
            "serve".to_owned(),
            "--config".to_owned(),
            home.serve_config().display().to_string(),
        ],
        env: environment(),
        directory: home.path().to_owned(),
        run_as: None,
        stop_signal: StopSignal::Term,
        stop_grace_ms: 10_000,
        log: home.log(NAME),
        reads: fingerprint::of_bytes(reads.as_bytes()),
        network: None,
        program,
    })
}

/// Changes whenever the program is replaced.
fn version(program: &Path) -> Result<String> {
    let meta = std::fs::metadata(program)
        .with_context(|| format!("cannot look at {}", program.display()))?;
    Ok(format!(
        "{} {} {}.{}",
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec()
    ))
}

/// What the collector may need to know of our surroundings: where names are resolved and
/// certificates are, and what to log. The values of `${…}` in a configuration of its own too.
fn environment() -> BTreeMap<String, String> {
    std::env::vars()
        .filter(|(key, _)| !key.starts_with("COMIND_") || key.starts_with("COMIND_LOG"))
        .collect()
}
