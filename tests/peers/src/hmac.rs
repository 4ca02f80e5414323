//! HMAC as `openssl` computes it, to check signatures by another program than our own.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::tool::Tool;

const OPENSSL: Tool = Tool::debian("openssl", "openssl");

/// HMAC-SHA256 in hexadecimal digits. For tests only: the key stands on a command line.
pub fn sha256_hex(key: &str, text: &str) -> Result<String> {
    let mut child = std::process::Command::new(OPENSSL.find()?)
        .args(["dgst", "-sha256", "-hmac", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no stdin")?;
    std::io::Write::write_all(&mut input, text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "openssl: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let digits = text
        .trim()
        .rsplit(' ')
        .next()
        .context("openssl said nothing")?;
    Ok(digits.to_owned())
}
