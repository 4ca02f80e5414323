//! What groups of `bootstrap/toolchain` are made of: files among our own tools, and Debian's
//! packages. Pure but for reading the definitions; must not know bundles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use include_dir::{Dir, include_dir};
use ring::digest::{SHA256, digest};

use crate::digest::hex;
use crate::programs::Programs;

static OURS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/toolchain/tools");

/// One tool's folder: its files by their names.
type Folder = BTreeMap<String, Vec<u8>>;

/// The tools' folders by the tools' names.
#[derive(Clone, Debug)]
pub struct Definitions(BTreeMap<String, Folder>);

impl Definitions {
    /// Those that this program was built with, or those in `dir`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(dir: Option<&Path>) -> Result<Self> {
        match dir {
            Some(dir) => from_disk(dir)
                .with_context(|| format!("cannot read the tools' folders in {}", dir.display())),
            None => Ok(embedded()),
        }
    }
}

fn embedded() -> Definitions {
    let folders = OURS.dirs().map(|dir| {
        let files = dir
            .files()
            .map(|file| (name_of(file.path()), file.contents().to_vec()));
        (name_of(dir.path()), files.collect())
    });
    Definitions(folders.collect())
}

fn from_disk(dir: &Path) -> Result<Definitions> {
    let mut all = BTreeMap::new();
    for tool in std::fs::read_dir(dir)? {
        let tool = tool?.path();
        let mut folder = Folder::new();
        for file in std::fs::read_dir(&tool)? {
            let file = file?.path();
            folder.insert(name_of(&file), std::fs::read(&file)?);
        }
        all.insert(name_of(&tool), folder);
    }
    Ok(Definitions(all))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A tool that is a file or some among our own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its files, below the tools' folder.
    pub files: Vec<PathBuf>,
    /// The checksum of its folder, which lies beside what was made from it.
    pub pin: String,
}

impl Own {
    /// Where its pin lies, below the tools' folder.
    pub fn pin_file(&self) -> PathBuf {
        Path::new(".setup/pin").join(&self.name)
    }
}

/// A tool that Debian has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packaged {
    /// What is installed.
    pub packages: Vec<String>,
    /// What that brings: names, or paths of which one part may be `*`.
    pub programs: Vec<String>,
}

impl Packaged {
    /// Whether all that it brings is here, from wherever.
    pub fn there(&self, programs: &Programs) -> bool {
        self.programs
            .iter()
            .all(|program| match program.split_once("/*/") {
                Some((folder, rest)) => std::fs::read_dir(folder)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .any(|entry| entry.path().join(rest).exists()),
                None => programs.find(program, "").is_ok(),
            })
    }
}

/// What groups need.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// Built or fetched.
    pub own: Vec<Own>,
    /// Debian's.
    pub packaged: Vec<Packaged>,
}

impl Needs {
    /// What those groups need.
    ///
    /// # Errors
    /// When a tool is of a kind that cannot be put into a bundle.
    pub fn of(groups: &[&str], definitions: &Definitions) -> Result<Self> {
        let mut needs = Self::default();
        for (name, folder) in &definitions.0 {
            let fields = fields(folder);
            let wanted = words(&fields, "groups").any(|group| groups.contains(&group));
            if !wanted {
                continue;
            }
            let kind = fields.get("kind").copied().unwrap_or_default();
            if kind == "deb" {
                needs.packaged.push(Packaged {
                    packages: words(&fields, "packages").map(str::to_owned).collect(),
                    programs: words(&fields, "program").map(str::to_owned).collect(),
                });
                continue;
            }
            needs.own.push(Own {
                name: name.clone(),
                files: files(kind, name, folder, &fields)?,
                pin: pin(folder),
            });
        }
        Ok(needs)
    }

    /// The packages that are not here, named by the programs that are not.
    pub fn packages_lacking(&self, programs: &Programs) -> Vec<String> {
        let lacking = self.packaged.iter().filter(|tool| !tool.there(programs));
        let mut packages: Vec<String> = lacking.flat_map(|tool| tool.packages.clone()).collect();
        packages.sort();
        packages.dedup();
        packages
    }

    /// All packages.
    pub fn packages(&self) -> Vec<String> {
        let all = self.packaged.iter().flat_map(|tool| tool.packages.clone());
        let mut all: Vec<String> = all.collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The `key=value` lines of a tool.
fn fields(folder: &Folder) -> BTreeMap<&str, &str> {
    let text = folder.get("tool").map(Vec::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(text).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

fn words<'a>(fields: &BTreeMap<&str, &'a str>, key: &str) -> impl Iterator<Item = &'a str> {
    fields
        .get(key)
        .copied()
        .unwrap_or_default()
        .split_whitespace()
}

/// Where each kind's installer puts what it makes (`lib/kind-*.sh`).
fn files(
    kind: &str,
    name: &str,
    folder: &Folder,
    fields: &BTreeMap<&str, &str>,
) -> Result<Vec<PathBuf>> {
    let in_name = |file: &str| Path::new(name).join(name_of(Path::new(file)));
    Ok(match kind {
        "go" => words(fields, "program")
            .map(|program| Path::new("bin").join(program))
            .collect(),
        "gofiles" => words(fields, "files").map(in_name).collect(),
        "rootfs" => vec![Path::new("rootfs").join(format!("{name}.tar"))],
        "maven" => {
            let sums = folder.get("sha256sums").map(Vec::as_slice);
            let sums = String::from_utf8_lossy(sums.unwrap_or_default()).into_owned();
            let jars = sums.lines().filter_map(|line| line.split_once("  "));
            jars.map(|(_, jar)| Path::new(name).join("lib").join(jar))
                .collect()
        }
        other => bail!("{name} is a tool of kind {other}, which cannot be put into a bundle"),
    })
}

/// As `pin_of` of `lib/tool.sh`.
fn pin(folder: &Folder) -> String {
    let all: Vec<u8> = folder.values().flatten().copied().collect();
    hex(digest(&SHA256, &all).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up(tools: &[(&str, &[(&str, &str)])]) -> Definitions {
        let folder = |files: &[(&str, &str)]| {
            let files = files.iter();
            files
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
                .collect()
        };
        let all = tools.iter();
        Definitions(
            all.map(|(name, files)| ((*name).to_owned(), folder(files)))
                .collect(),
        )
    }

    fn paths(needs: &Needs) -> Vec<String> {
        let all = needs.own.iter().flat_map(|own| &own.files);
        all.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn each_kind_lies_where_its_installer_puts_it() -> Result<()> {
        let all = made_up(&[
            (
                "base",
                &[("tool", "# a\nkind=rootfs\ngroups=test cluster\n")],
            ),
            (
                "jars",
                &[
                    ("sha256sums", "00  a.jar\n11  b.jar\n"),
                    ("tool", "kind=maven\ngroups=run\n"),
                ],
            ),
            (
                "kube",
                &[("tool", "kind=go\ngroups=cluster\nprogram=a b\n")],
            ),
            (
                "made",
                &[("tool", "kind=gofiles\ngroups=cluster\nfiles=x/y.yaml\n")],
            ),
            ("other", &[("tool", "kind=go\ngroups=test\nprogram=c\n")]),
            (
                "sql",
                &[("tool", "kind=deb\ngroups=run\npackages=p q\nprogram=r\n")],
            ),
        ]);
        let needs = Needs::of(&["run", "cluster"], &all)?;
        assert_eq!(
            paths(&needs),
            [
                "rootfs/base.tar",
                "jars/lib/a.jar",
                "jars/lib/b.jar",
                "bin/a",
                "bin/b",
                "made/y.yaml"
            ]
        );
        assert_eq!(needs.packages(), ["p", "q"]);
        assert_eq!(paths(&Needs::of(&["cluster"], &all)?).len(), 4);
        let odd = made_up(&[("odd", &[("tool", "kind=need\ngroups=run\n")])]);
        assert!(Needs::of(&["run"], &odd).is_err());
        Ok(())
    }

    #[test]
    fn every_tool_of_ours_can_be_put_into_a_bundle() -> Result<()> {
        let needs = Needs::of(&["run", "cluster"], &Definitions::read(None)?)?;
        let paths = paths(&needs);
        for file in ["bin/kubelet", "rootfs/image-base.tar", "bin/minio"] {
            assert!(paths.iter().any(|path| path == file), "{paths:?}");
        }
        assert!(paths.iter().any(|path| path.starts_with("elasticmq/lib/")));
        assert!(needs.packages().contains(&"containerd".to_owned()));
        Ok(())
    }

    #[test]
    fn a_tool_is_there_when_all_that_it_brings_is() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let glob = format!("{}/*/bin/x", dir.path().display());
        let tool = Packaged {
            packages: vec!["x".to_owned()],
            programs: vec!["/bin/sh".to_owned(), glob],
        };
        let needs = Needs {
            packaged: vec![tool],
            ..Needs::default()
        };
        let programs = Programs::default();
        assert_eq!(needs.packages_lacking(&programs), ["x"]);
        std::fs::create_dir_all(dir.path().join("15/bin"))?;
        std::fs::write(dir.path().join("15/bin/x"), "")?;
        assert_eq!(needs.packages_lacking(&programs), Vec::<String>::new());
        Ok(())
    }
}
