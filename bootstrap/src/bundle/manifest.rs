//! What a bundle says of itself: for which machine it is, and every file in it. Pure; must not know
//! archives or where anything goes.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The form that this program writes and reads.
const FORMAT: u32 = 1;
/// The manifest's own name; it is the first file of a bundle.
pub const NAME: &str = "manifest.json";
/// This program, which begins with a bundle on a machine that has nothing.
pub const PROGRAM: &str = "comind-ops";
/// The folder of what goes among our own tools.
pub const TOOLS: &str = "tools/";
/// The folder of Debian's packages and their index.
pub const DEBIAN: &str = "debian/";
/// More files are in no bundle.
const MOST: usize = 10_000;

/// What programs are built for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's, as Rust calls it.
    pub architecture: String,
    /// The system's release, as `/etc/os-release` calls it.
    pub codename: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// When it does not say what it is.
    pub fn this() -> Result<Self> {
        let path = "/etc/os-release";
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let codename = codename(&text)
            .with_context(|| format!("{path} names no release; bundles are for Debian"))?;
        Ok(Self {
            architecture: std::env::consts::ARCH.to_owned(),
            codename,
        })
    }
}

fn codename(os_release: &str) -> Option<String> {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let name = line.trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// One file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name in the bundle.
    pub path: String,
    /// How long it is when it is unpacked.
    pub size: u64,
    /// What it is when it is unpacked.
    pub sha256: String,
    /// Whether it is a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Entry {
    /// Whether it lies compressed in the bundle. Packages are compressed already, and the program
    /// has to be had by whoever has nothing but `tar`.
    pub fn compressed(&self) -> bool {
        self.path.starts_with(TOOLS)
    }

    /// Its name in the archive.
    pub fn stored(&self) -> String {
        let suffix = if self.compressed() { ".zst" } else { "" };
        format!("{}{suffix}", self.path)
    }
}

/// What is in a bundle, in the order in which it is there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the bundle.
    format: u32,
    /// Who made it: the program's version with its commit.
    pub program: String,
    /// When.
    pub made: Timestamp,
    /// What it is for.
    pub machine: Machine,
    /// Its files.
    pub files: Vec<Entry>,
}

impl Manifest {
    /// Of these files.
    pub fn new(program: String, made: Timestamp, machine: Machine, files: Vec<Entry>) -> Self {
        Self {
            format: FORMAT,
            program,
            made,
            machine,
            files,
        }
    }

    /// Reads one, and refuses what no bundle of ours has.
    ///
    /// # Errors
    /// When it is of another form, cannot be understood, or names a file that could go elsewhere.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).context("its manifest is damaged")?;
        let format = &value["format"];
        ensure!(
            *format == FORMAT,
            "it has the form {format}; this program reads {FORMAT}: use the program in the bundle"
        );
        let all: Self = serde_json::from_value(value).context("its manifest is damaged")?;
        ensure!(
            all.files.len() <= MOST,
            "its manifest names {} files; none of ours has more than {MOST}",
            all.files.len()
        );
        let mut names = BTreeSet::new();
        for entry in &all.files {
            let path = &entry.path;
            ensure!(
                allowed(path),
                "its manifest names {path:?}, which no bundle of ours has"
            );
            ensure!(
                names.insert(path),
                "its manifest names {path} more than once"
            );
        }
        Ok(all)
    }

    /// Refuses what is for another machine.
    ///
    /// # Errors
    /// With both machines.
    pub fn fits(&self, here: &Machine) -> Result<()> {
        if self.machine == *here {
            return Ok(());
        }
        let told = |machine: &Machine| format!("{} on {}", machine.codename, machine.architecture);
        bail!(
            "it is for {}, and this machine is {}; make one on a machine like this",
            told(&self.machine),
            told(here)
        )
    }

    /// How long all of its files are when they are unpacked.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|entry| entry.size).sum()
    }
}

/// Whether a file may be called so: below one of our folders, and no way out of it.
fn allowed(path: &str) -> bool {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    // A path as it is written is the one that is meant: no `a//b`, no `a/./b`, no `a/`.
    let exact = path.split('/').all(|part| !part.is_empty() && part != ".");
    let below = [TOOLS, DEBIAN]
        .iter()
        .any(|folder| path.starts_with(folder));
    let clean = !path.chars().any(|sign| sign.is_control() || sign == '\\');
    plain && exact && clean && (below || path == PROGRAM)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            size: 3,
            sha256: "00".to_owned(),
            executable: false,
        }
    }

    fn machine(architecture: &str, codename: &str) -> Machine {
        Machine {
            architecture: architecture.to_owned(),
            codename: codename.to_owned(),
        }
    }

    fn manifest(paths: &[&str]) -> Manifest {
        let files = paths.iter().map(|path| entry(path)).collect();
        let machine = machine("x86_64", "bookworm");
        Manifest::new("1 (a)".to_owned(), Timestamp::UNIX_EPOCH, machine, files)
    }

    fn parsed(manifest: &Manifest) -> Result<Manifest, String> {
        let text = serde_json::to_vec(manifest).map_err(|error| error.to_string())?;
        Manifest::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_written_is_read() {
        let written = manifest(&["comind-ops", "tools/bin/etcd", "debian/git.deb"]);
        assert_eq!(parsed(&written), Ok(written));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for path in [
            "../etc/passwd",
            "tools/../../etc/passwd",
            "tools/./a",
            "tools//a",
            "tools/a/",
            "tools/",
            "/tools/a",
            "etc/passwd",
            "manifest.json",
            "comind-ops/a",
            "tools/a\nb",
            "",
        ] {
            let error = parsed(&manifest(&[path])).expect_err(path);
            assert!(error.contains(&format!("{path:?}")), "{error}");
        }
        let twice = parsed(&manifest(&["tools/a", "tools/a"])).expect_err("it is there twice");
        assert!(twice.contains("tools/a more than once"), "{twice}");
    }

    #[test]
    fn another_form_says_what_to_do() {
        let error = Manifest::parse(br#"{"format":2,"news":true}"#).expect_err("it is newer");
        assert!(
            error.to_string().contains("use the program in the bundle"),
            "{error}"
        );
        assert!(Manifest::parse(b"{").is_err());
    }

    #[test]
    fn another_machine_is_refused_with_both_named() {
        let one = manifest(&[]);
        assert!(one.fits(&machine("x86_64", "bookworm")).is_ok());
        for other in [machine("aarch64", "bookworm"), machine("x86_64", "trixie")] {
            let error = one.fits(&other).expect_err("it is another").to_string();
            assert!(error.contains("bookworm on x86_64"), "{error}");
            assert!(error.contains(&other.architecture), "{error}");
            assert!(error.contains(&other.codename), "{error}");
        }
    }

    #[test]
    fn the_release_is_what_the_system_calls_it() {
        let text = "NAME=\"Debian\"\nVERSION_CODENAME=\"trixie\"\n";
        assert_eq!(codename(text).as_deref(), Some("trixie"));
        assert_eq!(codename("VERSION_CODENAME=\n"), None);
        assert_eq!(codename("NAME=x\n"), None);
    }

    proptest! {
        /// Whatever is allowed stays below the folder that it is unpacked to.
        #[test]
        fn what_is_allowed_stays_inside(path in "(tools/|debian/|/)?[a.\\\\/-]{0,8}") {
            if allowed(&path) {
                let joined = Path::new("/room").join(&path);
                prop_assert!(joined.starts_with("/room"));
                prop_assert!(joined.components().all(|part| part != Component::ParentDir));
                prop_assert_eq!(joined.to_string_lossy(), format!("/room/{path}"));
            }
        }
    }
}
