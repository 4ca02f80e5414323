//! Tells the program which commit it was built from, for `--version`.

use std::path::Path;
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

fn watch_head() {
    let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]) else {
        return;
    };
    println!("cargo:rerun-if-changed={head}");
    let Some(branch) = git(&["symbolic-ref", "--quiet", "HEAD"]) else {
        return;
    };
    // A branch that was packed has no file until its next commit; then packed-refs changes first.
    for name in [branch.as_str(), "packed-refs"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
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
