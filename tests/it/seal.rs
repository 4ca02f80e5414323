//! `seal`: what we seal is opened by the program that everybody seals with, and by nobody else.

use std::fs::File;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use comind_peers::tool::Tool;
use serde_json::Value;
use tokio::process::Command;

use crate::ops::{Done, Ops, finish};

const OPENSSL: Tool = Tool::debian("openssl", "openssl");
const KUBESEAL: Tool = Tool::built("kubeseal");

const SECRET: &str = "apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata: { name: login, namespace: shop, labels: { app: a } }\nstringData: { password: \"hunter2 & friends\" }\ndata: { binary: AP8B }\n";

/// A key and its certificate, as the controller makes them.
async fn pair(ops: &Ops) -> Result<()> {
    let mut command = Command::new(OPENSSL.find()?);
    command
        .args("req -x509 -newkey rsa:4096 -nodes -days 2 -subj /CN=sealing".split(' '))
        .args(["-keyout", "tls.key", "-out", "tls.crt"])
        .current_dir(ops.dir())
        .stdin(Stdio::null());
    let done = finish(command).await?;
    ensure!(done.code == 0, "{}", done.said());
    Ok(())
}

async fn seal(ops: &Ops, input: &str, args: &[&str]) -> Result<Done> {
    let file = ops.dir().join("secret.yaml");
    std::fs::write(&file, input)?;
    let mut command: Command = ops.command(&[&["seal"], args].concat()).into();
    command.stdin(File::open(&file)?);
    finish(command).await
}

/// What kubeseal makes of it, with the key.
async fn opened(ops: &Ops, sealed: &str) -> Result<Done> {
    let file = ops.dir().join("sealed.yaml");
    std::fs::write(&file, sealed)?;
    let mut command = Command::new(KUBESEAL.find()?);
    command
        .args(["--recovery-unseal", "--recovery-private-key", "tls.key"])
        .current_dir(ops.dir())
        .stdin(File::open(&file)?);
    finish(command).await
}

#[tokio::test]
async fn kubeseal_opens_what_we_have_sealed() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    pair(&ops).await?;
    let certificate = ops.dir().join("tls.crt").display().to_string();
    for scope in ["strict", "namespace-wide", "cluster-wide"] {
        let done = seal(&ops, SECRET, &["--cert", &certificate, "--scope", scope]).await?;
        ensure!(done.code == 0, "{}", done.said());
        ensure!(!done.out.contains("hunter2"), "{}", done.said());
        let plain = opened(&ops, &done.out).await?;
        ensure!(plain.code == 0, "{scope}: {}", plain.said());
        let plain: Value = serde_json::from_str(&plain.out).with_context(|| plain.said())?;
        ensure!(
            plain["data"]["password"] == "aHVudGVyMiAmIGZyaWVuZHM=",
            "{plain}"
        );
        ensure!(plain["data"]["binary"] == "AP8B", "{plain}");
        ensure!(plain["type"] == "Opaque", "{plain}");
        ensure!(plain["metadata"]["labels"]["app"] == "a", "{plain}");

        // Under another name it opens only if that was meant.
        let moved = done.out.replace("name: login", "name: other");
        let plain = opened(&ops, &moved).await?;
        ensure!(
            (plain.code == 0) == (scope != "strict"),
            "{scope}: {}",
            plain.said()
        );
        let moved = done.out.replace("namespace: shop", "namespace: elsewhere");
        let plain = opened(&ops, &moved).await?;
        ensure!(
            (plain.code == 0) == (scope == "cluster-wide"),
            "{scope}: {}",
            plain.said()
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_a_certificate_or_a_secret_it_says_what_to_do() -> Result<()> {
    let ops = Ops::new("host", &[])?;
    let done = seal(&ops, SECRET, &["--env", "qa"]).await?;
    ensure!(
        done.code == 1 && done.err.contains("sealing-qa") && done.err.contains("--cert"),
        "{}",
        done.said()
    );
    pair(&ops).await?;
    let certificate = ops.dir().join("tls.crt").display().to_string();
    let pod = SECRET.replace("kind: Secret", "kind: Pod");
    let done = seal(&ops, &pod, &["--cert", &certificate]).await?;
    ensure!(
        done.code == 1 && done.err.contains("no Secret"),
        "{}",
        done.said()
    );
    ensure!(!done.said().contains("hunter2"), "{}", done.said());
    Ok(())
}
