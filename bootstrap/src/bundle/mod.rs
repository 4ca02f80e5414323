//! Bundles for machines without a network: all that `bootstrap` needs besides the kernel, in one
//! file; made on a machine that has it, and brought to one that has not.
//!
//! What is in one: this program, what the toolchain has built or fetched, and Debian's packages with
//! all that they depend on. Images are not: they are made from these, here as there.

pub mod manifest;
pub mod needs;

mod pack;
mod packages;
mod policy;
mod room;
mod unpack;

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::bundle::manifest::{DEBIAN, Entry, Machine, Manifest, PROGRAM, TOOLS};
use crate::bundle::needs::{Definitions, Needs};
use crate::bundle::pack::Source;
use crate::bundle::packages::Install;
use crate::bundle::room::Room;
use crate::digest;
use crate::event::{About, Level, Report, now};
use crate::home::is_root;
use crate::programs::Programs;

/// What a bundle is for: the services and the cluster.
pub const GROUPS: &[&str] = &["run", "cluster"];
/// What events are about.
const SUBJECT: &str = "bundle";

/// Where things are on this machine.
#[derive(Clone, Debug)]
pub struct Here {
    /// Our tools, and the system's.
    pub programs: Programs,
    /// What the toolchain's tools are.
    pub definitions: Definitions,
    /// This program's version with its commit.
    pub version: String,
}

impl Here {
    fn tools(&self) -> Result<PathBuf> {
        let tools = self.programs.tools.as_deref();
        let tools = tools.context("our tools are nowhere; set COMIND_TOOLS to a folder")?;
        Ok(std::path::absolute(tools)?)
    }
}

/// What is said of a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Where it is.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The length of all that is in it.
    pub unpacked: u64,
    /// How many files are in it.
    pub files: usize,
    /// How many of them are Debian's packages.
    pub packages: usize,
    /// Who made it.
    pub program: String,
    /// When.
    pub made: jiff::Timestamp,
    /// For what.
    pub machine: Machine,
}

impl Summary {
    fn of(file: &Path, manifest: &Manifest) -> Result<Self> {
        let packages = manifest.files.iter().filter(|entry| of_debian(entry));
        Ok(Self {
            file: file.to_owned(),
            bytes: std::fs::metadata(file)?.len(),
            unpacked: manifest.size(),
            files: manifest.files.len(),
            packages: packages
                .filter(|entry| entry.path.ends_with(".deb"))
                .count(),
            program: manifest.program.clone(),
            made: manifest.made,
            machine: manifest.machine.clone(),
        })
    }
}

/// The usual name of one for this machine.
pub fn usual_name(machine: &Machine) -> String {
    let Machine {
        architecture,
        codename,
    } = machine;
    format!("comind-ops-bundle-{codename}-{architecture}.tar")
}

/// Makes a bundle for machines like this one.
///
/// # Errors
/// When something that goes into it is missing, or it cannot be written.
pub async fn create(here: &Here, to: &Path, report: &dyn Report) -> Result<Summary> {
    let about = About::new(SUBJECT, report);
    let machine = Machine::this()?;
    let tools = here.tools()?;
    let needs = Needs::of(GROUPS, &here.definitions)?;
    refuse_missing(&needs, &tools)?;
    let room = Room::enter(&tools, about).await?;
    let mut sources = vec![program()?];
    sources.extend(own_sources(&needs, &tools));
    sources.extend(fetched(&needs.packages(), &room, about).await?);
    about.say(Level::Doing, format!("packs {} files", sources.len()));
    let version = here.version.clone();
    let file = to.to_owned();
    let packed = tokio::task::spawn_blocking(move || {
        let files = sources.iter().map(Source::entry).collect::<Result<_>>()?;
        let manifest = Manifest::new(version, now(), machine, files);
        write(&manifest, &sources, &file)?;
        Summary::of(&file, &manifest)
    });
    packed.await.context("the packing broke off")?
}

/// What the toolchain would make anew has to be made before.
fn refuse_missing(needs: &Needs, tools: &Path) -> Result<()> {
    let ready = |tool: &needs::Own| {
        let pin = std::fs::read_to_string(tools.join(tool.pin_file())).unwrap_or_default();
        pin.trim() == tool.pin && tool.files.iter().all(|file| tools.join(file).is_file())
    };
    let missing: Vec<&str> = needs
        .own
        .iter()
        .filter(|tool| !ready(tool))
        .map(|tool| tool.name.as_str())
        .collect();
    ensure!(
        missing.is_empty(),
        "missing in {}, or not as this program wants it: {}; run `make setup setup-cluster`",
        tools.display(),
        missing.join(", ")
    );
    Ok(())
}

fn program() -> Result<Source> {
    Ok(Source {
        path: PROGRAM.to_owned(),
        file: std::env::current_exe()?,
        executable: true,
    })
}

/// The tools' files; their pins come last, which say that a tool is whole.
fn own_sources(needs: &Needs, tools: &Path) -> Vec<Source> {
    let files = needs.own.iter().flat_map(|tool| tool.files.clone());
    let pins = needs.own.iter().map(needs::Own::pin_file);
    let source = |path: PathBuf| {
        let file = tools.join(&path);
        let mode = std::fs::metadata(&file).map_or(0, |meta| meta.permissions().mode());
        Source {
            path: format!("{TOOLS}{}", path.display()),
            file,
            executable: mode & 0o111 != 0,
        }
    };
    files.chain(pins).map(source).collect()
}

async fn fetched(packages: &[String], room: &Room, about: About<'_>) -> Result<Vec<Source>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!("fetches {} with what they depend on", packages.join(", "));
    about.say(Level::Doing, text);
    let dir = room.path().join(DEBIAN);
    packages::fetch(packages, &dir, room.path()).await?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let source = |file: PathBuf| Source {
        path: format!(
            "{DEBIAN}{}",
            file.file_name().unwrap_or_default().to_string_lossy()
        ),
        file,
        executable: false,
    };
    Ok(files.into_iter().map(source).collect())
}

/// Whole or not at all.
fn write(manifest: &Manifest, sources: &[Source], to: &Path) -> Result<()> {
    let mut name = to.file_name().context("a bundle is a file")?.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let fresh = to.with_file_name(name);
    let written = pack::pack(manifest, sources, &fresh).and_then(|()| {
        std::fs::rename(&fresh, to).with_context(|| format!("cannot write {}", to.display()))
    });
    if written.is_err() {
        std::fs::remove_file(&fresh).ok();
    }
    written
}

/// Compares everything in a bundle with its manifest, and the manifest with this machine.
///
/// # Errors
/// With the first file that differs.
pub async fn check(bundle: &Path) -> Result<Summary> {
    let (file, here) = (bundle.to_owned(), Machine::this()?);
    let checked = tokio::task::spawn_blocking(move || {
        unpack::manifest(&file)?.fits(&here)?;
        let manifest = unpack::all(&file, |_| Ok(None))?;
        Summary::of(&file, &manifest)
    });
    let checked = checked.await.context("the check broke off")?;
    checked.with_context(|| unusable(bundle))
}

fn unusable(bundle: &Path) -> String {
    format!(
        "{} cannot be used, and nothing was changed",
        bundle.display()
    )
}

/// What an installation did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Installed {
    /// Files among our tools.
    pub files: usize,
    /// Debian's packages.
    pub packages: Vec<String>,
}

/// Brings what these groups need and this machine lacks out of a bundle.
///
/// Everything in the bundle is compared with its manifest first, aside; until that is done, and apt
/// has said that it can install what it should, nothing is touched.
///
/// # Errors
/// When the bundle is damaged or foreign, or something in it cannot be installed.
pub async fn install(
    here: &Here,
    bundle: &Path,
    groups: &[&str],
    report: &dyn Report,
) -> Result<Installed> {
    let about = About::new(SUBJECT, report);
    let manifest = unpack::manifest(bundle)
        .and_then(|manifest| manifest.fits(&Machine::this()?).map(|()| manifest))
        .with_context(|| unusable(bundle))?;
    if manifest.program != here.version {
        let text = format!(
            "it was made by {}, and this is {}: what this one needs besides may be missing",
            manifest.program, here.version
        );
        about.say(Level::Warning, text);
    }
    let tools = here.tools()?;
    let packages = Needs::of(groups, &here.definitions)?.packages_lacking(&here.programs);
    let lacking = Lacking {
        files: lacking(&manifest, &tools).await?,
        packages,
    };
    if lacking.files.is_empty() && lacking.packages.is_empty() {
        about.say(Level::Unchanged, "all that is in it is here");
        return Ok(Installed::default());
    }
    refuse_impossible(&lacking.packages)?;
    let room = Room::enter(&tools, about).await?;
    let done = from_room(bundle, &lacking, &room, &tools, about).await?;
    let text = match done.packages.len() {
        0 => format!("{} files are in {}", done.files, tools.display()),
        some => format!(
            "{} files are in {}, {some} packages are installed",
            done.files,
            tools.display()
        ),
    };
    about.say(Level::Changed, text);
    Ok(done)
}

/// What is to be brought.
struct Lacking {
    files: Vec<Entry>,
    packages: Vec<String>,
}

fn refuse_impossible(packages: &[String]) -> Result<()> {
    if packages.is_empty() || is_root() {
        return Ok(());
    }
    bail!(
        "these packages of Debian are missing, and only root installs them: {}",
        packages.join(", ")
    )
}

/// The files that are not here, or are others.
async fn lacking(manifest: &Manifest, tools: &Path) -> Result<Vec<Entry>> {
    let (files, tools) = (manifest.files.clone(), tools.to_owned());
    let looked = tokio::task::spawn_blocking(move || {
        let differs =
            |entry: &Entry| destination(entry, &tools).is_some_and(|place| !there(entry, &place));
        files.into_iter().filter(differs).collect()
    });
    looked.await.context("the look broke off")
}

fn there(entry: &Entry, place: &Path) -> bool {
    let same = || -> std::io::Result<bool> {
        let meta = std::fs::symlink_metadata(place)?;
        let executable = meta.permissions().mode() & 0o111 != 0;
        if !meta.is_file() || meta.len() != entry.size || executable != entry.executable {
            return Ok(false);
        }
        Ok(digest::of(File::open(place)?)?.1 == entry.sha256)
    };
    same().unwrap_or(false)
}

/// Where a file goes; packages go nowhere.
fn destination(entry: &Entry, tools: &Path) -> Option<PathBuf> {
    if entry.path == PROGRAM {
        return Some(tools.join("bin").join(PROGRAM));
    }
    Some(tools.join(entry.path.strip_prefix(TOOLS)?))
}

fn of_debian(entry: &Entry) -> bool {
    entry.path.starts_with(DEBIAN)
}

async fn from_room(
    bundle: &Path,
    lacking: &Lacking,
    room: &Room,
    tools: &Path,
    about: About<'_>,
) -> Result<Installed> {
    about.say(Level::Doing, "unpacks it and compares all checksums");
    unpacked(bundle, lacking, room.path())
        .await
        .with_context(|| unusable(bundle))?;
    let mut packages = Vec::new();
    if !lacking.packages.is_empty() {
        let dir = room.path().join(DEBIAN);
        let prepared = Install::prepare(&lacking.packages, &dir, room.path()).await;
        let (install, named) = prepared.with_context(|| unusable(bundle))?;
        about.say(Level::Doing, format!("installs {} packages", named.len()));
        install.carry_out().await?;
        packages = named;
    }
    place(&lacking.files, room.path(), tools)?;
    Ok(Installed {
        files: lacking.files.len(),
        packages,
    })
}

/// What is lacking is in the room then, and the whole bundle is as its manifest says.
async fn unpacked(bundle: &Path, lacking: &Lacking, room: &Path) -> Result<()> {
    let (bundle, room) = (bundle.to_owned(), room.to_owned());
    let (files, with_packages) = (lacking.files.clone(), !lacking.packages.is_empty());
    let unpacked = tokio::task::spawn_blocking(move || {
        unpack::all(&bundle, |entry| {
            let wanted = files.contains(entry) || (with_packages && of_debian(entry));
            wanted.then(|| fresh(entry, &room)).transpose()
        })
    });
    unpacked.await.context("the unpacking broke off")??;
    Ok(())
}

fn fresh(entry: &Entry, room: &Path) -> Result<File> {
    let path = room.join(&entry.path);
    let make = || -> std::io::Result<File> {
        std::fs::create_dir_all(path.parent().unwrap_or(room))?;
        let file = File::create_new(&path)?;
        let mode = if entry.executable { 0o755 } else { 0o644 };
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        Ok(file)
    };
    make().with_context(|| format!("cannot unpack {}", path.display()))
}

/// Renames each file into its place, in the manifest's order: a tool's pin comes after it.
fn place(files: &[Entry], room: &Path, tools: &Path) -> Result<()> {
    for entry in files {
        let Some(to) = destination(entry, tools) else {
            continue;
        };
        let rename = || -> std::io::Result<()> {
            std::fs::create_dir_all(to.parent().unwrap_or(tools))?;
            std::fs::rename(room.join(&entry.path), &to)
        };
        rename().with_context(|| format!("cannot put {} into its place", to.display()))?;
    }
    Ok(())
}
