//! Tells the program which commit it was built from, for `--version`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=COMIND_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    let commit = std::env::var("COMIND_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(from_git)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=COMIND_COMMIT={commit}");
}

/// The commit's first 12 digits, with `-dirty` when tracked files differ from it.
///
/// `-dirty` is as of the last time that HEAD moved or this script ran: watching every file would
/// build this package anew at each change anywhere.
fn from_git() -> Option<String> {
    watch_head();
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{dirty}"))
}

/// Every commit and every checkout adds a line to the log of HEAD. Where it is not kept, Cargo
/// finds the path missing and runs this script each time, which is slow but right.
fn watch_head() {
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
