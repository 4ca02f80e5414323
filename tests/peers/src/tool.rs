//! Where the real programs are on this machine, and what to run when one is
//! missing.
//!
//! Must not start anything.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Name of the executable.
    pub program: &'static str,
    /// Debian package to install, or `None` for what only `make setup-test` builds.
    pub package: Option<&'static str>,
}

impl Tool {
    /// A program from a Debian package.
    pub const fn debian(program: &'static str, package: &'static str) -> Self {
        let package = Some(package);
        Self { program, package }
    }

    /// A program which the project's setup builds or fetches.
    pub const fn built(program: &'static str) -> Self {
        let package = None;
        Self { program, package }
    }

    /// The path of the executable. A missing one is an error that names the
    /// command which installs it: a test fails then and is never skipped.
    pub fn find(&self) -> Result<PathBuf> {
        let places = places()?;
        for place in &places {
            let path = place.join(self.program);
            if path.is_file() {
                return Ok(path);
            }
        }
        bail!(
            "{} is not on this machine (looked in {}): run `make setup-test`{}",
            self.program,
            places
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(":"),
            match self.package {
                Some(package) => format!(" or `apt-get install {package}`"),
                None => String::new(),
            }
        )
    }
}

/// The directory into which `make setup-test` puts what Debian does not have:
/// `$COMIND_TOOLS`, or `comind-ops/tools` in the user's cache directory.
pub fn tools_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("COMIND_TOOLS") {
        return Ok(dir.into());
    }
    Ok(cache_home()?.join("comind-ops/tools"))
}

/// A directory for what these tests keep between runs (templates, images).
pub fn cache_dir() -> Result<PathBuf> {
    let dir = cache_home()?.join("comind-ops/peers");
    std::fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(dir)
}

fn cache_home() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("XDG_CACHE_HOME") {
        return Ok(dir.into());
    }
    let home = env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache"))
}

fn places() -> Result<Vec<PathBuf>> {
    let mut places = vec![tools_dir()?.join("bin")];
    places.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    places.extend(["/usr/sbin".into(), "/sbin".into()]);
    places.extend(postgres_bins());
    Ok(places)
}

/// Debian keeps PostgreSQL's server programs out of `PATH`; newest first.
fn postgres_bins() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|v| Some((v.file_name().to_str()?.parse().ok()?, v.path().join("bin"))))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_its_install_line() {
        let error = Tool::debian("no-such-server", "no-such-package")
            .find()
            .map_err(|e| e.to_string());
        let text = error.err().unwrap_or_default();
        assert!(text.contains("make setup-test"), "{text}");
        assert!(text.contains("apt-get install no-such-package"), "{text}");
    }
}
