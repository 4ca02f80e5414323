//! `diagnose`: one file with what is known, and no password in it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use comind_peers::tool::Tool;
use serde_json::Value;
use tokio::process::Command;

use crate::ops::{Ops, finish};

const TAR: Tool = Tool::debian("tar", "tar");

const DATABASE: &str = "Tr0ub4dor'&3/x\"yz";
const OBJECTS: &str = "corr3ct-h0rse+battery/9";

/// Where the bundle is unpacked to.
async fn unpacked(ops: &Ops, bundle: &Path) -> Result<PathBuf> {
    let dir = ops.dir().join("unpacked");
    std::fs::create_dir_all(&dir)?;
    let mut command = Command::new(TAR.find()?);
    command.arg("-xzf").arg(bundle).arg("-C").arg(&dir);
    let done = finish(command).await?;
    ensure!(done.code == 0, "{}", done.said());
    Ok(dir)
}

/// Every file below, with its name.
fn files(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => all.extend(files(&path)?),
            false => all.push((path.display().to_string(), std::fs::read_to_string(&path)?)),
        }
    }
    Ok(all)
}

#[tokio::test]
async fn everything_is_in_it_but_the_passwords() -> Result<()> {
    let mut ops = Ops::new("host", &[("ENV", "qa")])?;
    let settings = ops.dir().join("services.yaml");
    let wanted = serde_json::json!({ "services": {
        "postgresql": { "password": DATABASE }, "minio": { "secret_key": OBJECTS },
    } });
    std::fs::write(&settings, wanted.to_string())?;
    ops.set("COMIND_SETTINGS", &settings.display().to_string());
    ops.good(&["services", "start", "postgresql", "minio"])
        .await?;

    // As programs write them: bare, as a URL, as JSON, as a statement.
    let quoted = Value::from(DATABASE).to_string();
    let said = format!(
        "it was {DATABASE} and {OBJECTS}\npostgres://me:{DATABASE}@db/app\n{{\"message\":{quoted}}}\nALTER USER me PASSWORD '{}'\ntoken=zebra-4711 port=1\n",
        DATABASE.replace('\'', "''"),
    );
    std::fs::write(ops.home().join("logs/talker.log"), said)?;

    let bundle = ops.dir().join("bundle.tar.gz");
    let name = bundle.display().to_string();
    let done = ops.good(&["--json", "diagnose", "--output", &name]).await?;
    let answer: Value = serde_json::from_str(&done.out).with_context(|| done.said())?;
    ensure!(answer["bundle"]["file"] == name.as_str(), "{answer}");
    let mode = std::fs::metadata(&bundle)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");

    let dir = unpacked(&ops, &bundle).await?;
    let all = files(&dir)?;
    for secret in ["Tr0ub4dor", "h0rse+battery", "corr3ct", "zebra-4711"] {
        for (file, text) in &all {
            ensure!(!text.contains(secret), "{secret} is in {file}: {text}");
        }
    }
    let text =
        |name: &str| std::fs::read_to_string(dir.join(name)).with_context(|| format!("no {name}"));
    ensure!(text("logs/postgresql.log")?.contains("ready to accept connections"));
    ensure!(text("logs/talker.log")?.contains("port=1"));
    let doctor: Value = serde_json::from_str(&text("doctor.json")?)?;
    ensure!(
        doctor["findings"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
    let version: Value = serde_json::from_str(&text("version.json")?)?;
    ensure!(
        version["version"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    let unit: Value = serde_json::from_str(&text("units/minio.json")?)?;
    ensure!(unit["standing"]["phase"] == "running", "{unit}");
    ensure!(unit["unit"].get("env").is_none(), "{unit}");
    let missing = text("cluster/pods.missing.txt")?;
    ensure!(
        missing.contains("there is no cluster comind-ops-qa"),
        "{missing}"
    );
    ensure!(text("journals/bootstrap-qa.jsonl.missing.txt")?.contains("there is no"));
    Ok(())
}

#[tokio::test]
async fn on_a_bare_machine_it_says_what_is_not_there() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let bundle = ops.dir().join("bundle.tar.gz");
    let done = ops
        .good(&["diagnose", "--output", &bundle.display().to_string()])
        .await?;
    ensure!(
        done.out.contains("not in it: cluster/nodes"),
        "{}",
        done.said()
    );
    ensure!(!ops.home().exists(), "a look has made the home");
    ensure!(bundle.exists());
    Ok(())
}
