//! `comind-ops hash-password`: from a password to what the config may hold.

use std::io::{IsTerminal as _, Read as _};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use comind_collector::access::password;
use serde_json::json;

use crate::output::Output;

/// No password is longer.
const MAX_BYTES: u64 = 4096;

/// The arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The password is asked for, or read from standard input:\n  \
                        printf %s \"$PASSWORD\" | comind-ops hash-password"
)]
pub(crate) struct HashPassword {
    /// By argon2id; bcrypt, the default, is what Prometheus takes too
    #[arg(long)]
    argon2: bool,
}

impl HashPassword {
    /// Prints the hash.
    pub(crate) fn run(&self, out: &Output) -> Result<()> {
        let password = read()?;
        let hash = match self.argon2 {
            true => password::argon2_hash(&password),
            false => password::bcrypt_hash(&password),
        };
        let hash = hash.map_err(|problem| anyhow!("{problem}"))?;
        out.answer(&format!("{hash}\n"), &json!({ "hash": hash }))
    }
}

fn read() -> Result<String> {
    if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        let ask = |prompt: &str| -> Result<String> {
            terminal.write_str(prompt)?;
            Ok(terminal.read_secure_line()?)
        };
        let first = ask("Password: ")?;
        ensure!(first == ask("Once more: ")?, "the two are not the same");
        return Ok(first);
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .context("failed to read the password from standard input")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
