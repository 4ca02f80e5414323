//! Runs the system's programs for networks, mounts and images, and says well what went wrong.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// None of them takes long.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a program to its end; gives what it wrote.
///
/// # Errors
/// With the command and its last words when it fails or does not end.
pub async fn run<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
) -> Result<String> {
    run_within(LIMIT, program, args).await
}

/// The same, for a program that may take so long.
///
/// # Errors
/// With the command and its last words when it fails or does not end.
pub async fn run_within<A: AsRef<OsStr>>(
    limit: Duration,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<String> {
    run_with(Stdio::null(), limit, program, args).await
}

/// The same, for a program that is given something to read or to hold.
///
/// # Errors
/// With the command and its last words when it fails or does not end.
pub async fn run_with<A: AsRef<OsStr>>(
    input: Stdio,
    limit: Duration,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(input).kill_on_drop(true);
    let shown = shown(&command);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("`{shown}` did not end within {} s", limit.as_secs()))?
        .with_context(|| format!("cannot run `{shown}`; run `make setup-cluster`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    bail!("`{shown}` failed ({}): {}", output.status, words.trim())
}

/// Whether a program ends well, whatever it writes.
pub async fn succeeds<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> bool {
    run(program, args).await.is_ok()
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}
