//! `bundle`: what is packed here is there, and what is damaged or foreign changes nothing. With
//! tools of our own making; the real ones and Debian's packages are docs/bundle.md's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use comind_peers::tool::Tool;
use serde_json::Value;
use tokio::process::Command;

use crate::ops::{Ops, finish};

const SHA256SUM: Tool = Tool::debian("sha256sum", "coreutils");

/// A home, a folder with made-up tools, and a bundle of them.
struct Made {
    ops: Ops,
    bundle: PathBuf,
}

impl Made {
    async fn new() -> Result<Self> {
        let mut ops = Ops::new("host", &[])?;
        let (defs, tools) = (ops.dir().join("defs"), ops.dir().join("tools"));
        for (name, tool, files) in [
            (
                "programs",
                "kind=go\ngroups=run\nprogram=one two\n",
                &["bin/one", "bin/two"][..],
            ),
            (
                "texts",
                "kind=gofiles\ngroups=cluster\nfiles=x/list.yaml\n",
                &["texts/list.yaml"][..],
            ),
            ("other", "kind=go\ngroups=test\nprogram=three\n", &[][..]),
        ] {
            write(&defs.join(name).join("tool"), tool)?;
            for file in files {
                write(&tools.join(file), &format!("{file}\n").repeat(5000))?;
            }
            let pin = tools.join(".setup/pin").join(name);
            write(&pin, &sum(&defs.join(name).join("tool")).await?)?;
        }
        for program in ["one", "two"] {
            let program = tools.join("bin").join(program);
            std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))?;
        }
        ops.set("COMIND_TOOLCHAIN_DEFS", &defs.display().to_string());
        ops.set("COMIND_TOOLS", &tools.display().to_string());
        let bundle = ops.dir().join("bundle.tar");
        Ok(Self { ops, bundle })
    }

    async fn created() -> Result<Self> {
        let made = Self::new().await?;
        let name = made.bundle.display().to_string();
        made.ops.good(&["bundle", "create", "-o", &name]).await?;
        Ok(made)
    }

    /// From here on our tools are in another folder, where there are none yet.
    fn elsewhere(&mut self) -> PathBuf {
        let tools = self.ops.dir().join("elsewhere");
        self.ops.set("COMIND_TOOLS", &tools.display().to_string());
        tools
    }

    /// Changes the bundle where this text is in it, so many bytes further on.
    fn changed(&self, text: &str, further: usize, to: &[u8]) -> Result<()> {
        let mut bytes = std::fs::read(&self.bundle)?;
        let found = bytes
            .windows(text.len())
            .position(|part| part == text.as_bytes());
        let at = found.with_context(|| format!("no {text} in it"))? + further;
        bytes[at..at + to.len()].copy_from_slice(to);
        std::fs::write(&self.bundle, bytes)?;
        Ok(())
    }

    /// The bundle is refused by everything that reads it, and nothing is touched.
    async fn refused(&self, tools: &Path, says: &[&str]) -> Result<()> {
        let name = self.bundle.display().to_string();
        for command in [
            &["bundle", "check", &name][..],
            &["bundle", "install", &name],
            &["bootstrap", "--offline", &name],
            &["bootstrap", "--plan", "--offline", &name],
            &["up", "--offline", &name],
        ] {
            let done = self.ops.run(command).await?;
            ensure!(done.code == 1, "{command:?}: {}", done.said());
            for words in says.iter().chain(&["nothing was changed"]) {
                ensure!(done.err.contains(words), "{command:?}: {}", done.said());
            }
        }
        ensure!(!self.ops.home().exists(), "something has made the home");
        for made in ["bin", "texts", ".setup/pin"] {
            ensure!(!tools.join(made).exists(), "there is {made}");
        }
        let mut left = std::fs::read_dir(tools.join(".setup"))
            .into_iter()
            .flatten();
        ensure!(
            left.all(|left| left.is_ok_and(|left| left.file_name() == "lock")),
            "something is left behind"
        );
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    Ok(std::fs::write(path, text)?)
}

async fn sum(file: &Path) -> Result<String> {
    let mut command = Command::new(SHA256SUM.find()?);
    command.arg(file);
    let done = finish(command).await?;
    let sum = done.out.split_whitespace().next().context("no sum")?;
    Ok(format!("{sum}\n"))
}

#[tokio::test]
async fn what_is_packed_here_is_there_and_a_second_time_nothing_is_done() -> Result<()> {
    let mut made = Made::created().await?;
    let first = made.ops.dir().join("tools");
    let tools = made.elsewhere();
    let name = made.bundle.display().to_string();
    let install = ["--json", "bundle", "install", &name];
    let installed = async |made: &Made| -> Result<Value> {
        let done = made.ops.good(&install).await?;
        let last = done.out.lines().last().context("no answer")?;
        Ok(serde_json::from_str::<Value>(last)?["installed"]["files"].clone())
    };
    let all = [
        "bin/one",
        "bin/two",
        "texts/list.yaml",
        ".setup/pin/programs",
        ".setup/pin/texts",
    ];
    ensure!(installed(&made).await? == all.len() + 1, "with the program");
    for file in all {
        let (here, there) = (first.join(file), tools.join(file));
        ensure!(std::fs::read(&here)? == std::fs::read(&there)?, "{file}");
        let mode = |path| anyhow::Ok(std::fs::metadata(path)?.permissions().mode());
        ensure!(mode(here)? == mode(there)?, "{file}");
    }
    ensure!(tools.join("bin/comind-ops").is_file());
    ensure!(!tools.join("bin/three").exists(), "tests' tools are in it");
    ensure!(installed(&made).await? == 0, "again");

    write(&tools.join("bin/two"), "damaged")?;
    ensure!(installed(&made).await? == 1, "one was damaged");
    let mended = std::fs::read(tools.join("bin/two"))?;
    ensure!(mended == std::fs::read(first.join("bin/two"))?);
    Ok(())
}

#[tokio::test]
async fn a_damaged_or_foreign_bundle_changes_nothing_and_says_what_differs() -> Result<()> {
    let mut made = Made::created().await?;
    let tools = made.elsewhere();
    let whole = std::fs::read(&made.bundle)?;
    // Behind the head of a file in the archive is what is in the file.
    made.changed("tools/bin/two.zst\0", 512 + 12, b"??")?;
    made.refused(&tools, &["tools/bin/two in it is"]).await?;

    let length = whole.len() - 3000;
    std::fs::write(&made.bundle, &whole[..length])?;
    made.refused(&tools, &["again"]).await?;

    std::fs::write(&made.bundle, &whole)?;
    let own = format!("\"architecture\": \"{}\"", std::env::consts::ARCH);
    let at = own.len() - 2;
    made.changed(&own, at, b"?")?;
    made.refused(&tools, &["it is for", "make one on a machine like this"])
        .await?;

    std::fs::write(&made.bundle, "no archive at all")?;
    made.refused(&tools, &["it is no bundle"]).await
}

#[tokio::test]
async fn what_is_missing_is_named_before_anything_is_packed() -> Result<()> {
    let made = Made::new().await?;
    let name = made.bundle.display().to_string();
    // Made from another state of the toolchain.
    write(&made.ops.dir().join("tools/.setup/pin/texts"), "old\n")?;
    let done = made.ops.run(&["bundle", "create", "-o", &name]).await?;
    ensure!(done.code == 1, "{}", done.said());
    for words in ["texts", "make setup"] {
        ensure!(done.err.contains(words), "{}", done.said());
    }
    ensure!(!done.err.contains("programs"), "{}", done.said());
    ensure!(!made.bundle.exists());
    Ok(())
}
