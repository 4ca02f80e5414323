//! Debian's packages: fetched with all that they depend on, and installed where there is no network.
//! Both are apt's work, which knows what depends on what; it is only told of other places.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::bundle::policy::Quiet;
use crate::digest;

/// How long apt may fetch, or install.
const LIMIT: Duration = Duration::from_secs(3600);
/// The list of packages that apt reads.
pub(super) const INDEX: &str = "Packages";

/// Fetches packages with all that they depend on into `dir`, which is empty, with an index of
/// them. `work` is a folder for apt's own files.
///
/// What they depend on is all of it, as if nothing were installed: another machine has other
/// packages than this one, and older ones than those that were built against this archive's.
///
/// # Errors
/// When they cannot be had.
pub(super) async fn fetch(packages: &[String], dir: &Path, work: &Path) -> Result<()> {
    std::fs::create_dir_all(dir.join("partial"))?;
    let nothing = work.join("status");
    std::fs::write(&nothing, "")?;
    let settings = [
        ("Dir::State::status", nothing.as_path()),
        ("Dir::State::extended_states", &work.join("extended_states")),
        ("Dir::Cache::archives", dir),
        ("APT::Sandbox::User", Path::new("root")),
    ];
    let download = || async {
        let mut apt = apt_get(&settings);
        apt.args(["install", "--download-only"]).args(packages);
        ended(apt).await
    };
    if download().await.is_err() {
        // The lists are refreshed only where they do not lead to the packages.
        ended(apt_get(&[]).arg_also("update"))
            .await
            .context("cannot fetch Debian's packages")?;
        download().await.context("cannot fetch Debian's packages")?;
    }
    std::fs::remove_dir_all(dir.join("partial"))?;
    std::fs::remove_file(dir.join("lock")).ok();
    index(dir).await
}

/// Names each package's file after it, and writes the index.
async fn index(dir: &Path) -> Result<()> {
    let mut fetched: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    fetched.sort();
    let mut all = String::new();
    for file in fetched {
        let field = Command::new("dpkg-deb");
        let control = ended(field.arg_also("--field").arg_also(&file)).await?;
        let name = package(&control)
            .with_context(|| format!("{} does not say what it is", file.display()))?;
        let name = format!("{name}.deb");
        let named = dir.join(&name);
        std::fs::rename(&file, &named)?;
        let (size, sum) = digest::of(std::fs::File::open(&named)?)?;
        all += control.trim_end();
        all += &format!("\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n\n");
    }
    std::fs::write(dir.join(INDEX), all)?;
    Ok(())
}

fn package(control: &str) -> Option<&str> {
    control
        .lines()
        .find_map(|line| line.strip_prefix("Package: "))
        .map(str::trim)
}

/// Packages out of a folder with an index, and of what they depend on only what is missing or too
/// old here.
#[derive(Debug)]
pub(super) struct Install<'a> {
    packages: &'a [String],
    /// What apt is told: nothing but the folder.
    settings: Vec<(&'static str, PathBuf)>,
}

impl<'a> Install<'a> {
    /// Prepares it; says what would be done and changes nothing yet. `work` is a folder for apt's
    /// own files.
    ///
    /// # Errors
    /// When it cannot be done, with apt's reason.
    pub(super) async fn prepare(
        packages: &'a [String],
        dir: &Path,
        work: &Path,
    ) -> Result<(Self, Vec<String>)> {
        let (lists, cache) = (work.join("lists"), work.join("cache"));
        for folder in [&lists, &cache] {
            std::fs::create_dir_all(folder.join("partial"))?;
        }
        let sources = work.join("sources.list");
        // Each file was compared with the manifest; nobody has signed the folder.
        let place = dir.display().to_string().replace(' ', "%20");
        std::fs::write(&sources, format!("deb [trusted=yes] file:{place} ./\n"))?;
        let none = Path::new("/dev/null").to_owned();
        let install = Self {
            packages,
            settings: vec![
                ("Dir::Etc::sourcelist", sources),
                ("Dir::Etc::sourceparts", none.clone()),
                ("Dir::Etc::preferences", none.clone()),
                ("Dir::Etc::preferencesparts", none),
                ("Dir::State::lists", lists),
                ("Dir::Cache", cache),
                ("APT::Sandbox::User", "root".into()),
                ("Acquire::Languages", "none".into()),
            ],
        };
        ended(install.apt().arg_also("update")).await?;
        let told = ended(install.install().arg_also("--simulate"))
            .await
            .context("Debian's packages in it cannot be installed here")?;
        Ok((install, installed(&told)))
    }

    /// Does it, as one transaction, and starts no daemon.
    ///
    /// # Errors
    /// With apt's reason.
    pub(super) async fn carry_out(self) -> Result<()> {
        let _quiet = Quiet::begin()?;
        let mut rest = Command::new("dpkg");
        rest.args(["--force-confold", "--configure", "-a"]);
        // What another one has not finished; whether that is in the way is apt's to say.
        ended(rest).await.ok();
        ended(self.install()).await?;
        Ok(())
    }

    fn install(&self) -> Command {
        let mut apt = self.apt();
        apt.args(["install", "--no-remove"]).args(self.packages);
        apt
    }

    fn apt(&self) -> Command {
        let settings: Vec<_> = self
            .settings
            .iter()
            .map(|(key, value)| (*key, value.as_path()))
            .collect();
        apt_get(&settings)
    }
}

/// The packages that a simulation names.
fn installed(told: &str) -> Vec<String> {
    told.lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn apt_get(settings: &[(&str, &Path)]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["--yes", "--quiet", "--no-install-recommends"]);
    for setting in [
        "DPkg::Lock::Timeout=600",
        "Dpkg::Options::=--force-confold",
        "APT::Update::Error-Mode=any",
    ] {
        apt.args(["-o", setting]);
    }
    for (key, value) in settings {
        apt.arg("-o").arg(format!("{key}={}", value.display()));
    }
    apt
}

/// A command built in one line.
trait ArgAlso {
    fn arg_also(self, arg: impl AsRef<OsStr>) -> Self;
}

impl ArgAlso for Command {
    fn arg_also(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.arg(arg);
        self
    }
}

/// Runs a command to its end; gives what it wrote.
async fn ended(mut command: Command) -> Result<String> {
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    // dpkg wants what root has, whatever we were started with.
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .with_context(|| format!("{name} did not end within {} s", LIMIT.as_secs()))?
        .with_context(|| format!("cannot run {name}; bundles are for Debian"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    bail!("{name} failed ({}): {}", output.status, end_of(&said))
}

/// The last lines, which have the reason.
fn end_of(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_names_what_would_be_installed() {
        let told = "Reading…\nInst git (1:2 local [amd64]) []\nInst runc [1.0] (1.1 x)\nConf git (1:2 local)\n";
        assert_eq!(installed(told), ["git", "runc"]);
    }

    #[test]
    fn a_package_says_its_name() {
        assert_eq!(package("Package: git\nVersion: 1\n"), Some("git"));
        assert_eq!(package("Version: 1\n"), None);
    }

    #[tokio::test]
    async fn what_fails_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no space >&2; exit 3"]);
        let error = ended(command).await.expect_err("it fails").to_string();
        assert!(error.contains("no space") && error.contains('3'), "{error}");
    }
}
