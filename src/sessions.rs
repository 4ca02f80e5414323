//! `comind-ops sessions`: who is logged in at the proxy, and whether the audit log is whole.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comind_proxy::audit::verify;
use comind_proxy::session::admin::SOCKET;
use comind_proxy::session::client::{self, Which};
use serde_json::{Value, json};

use crate::output::Output;

/// Where the proxy keeps what it knows of logins, below `data_dir`.
const FOLDER: &str = "proxy";

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    #[command(subcommand)]
    what: What,
    /// `data_dir` of the configuration
    #[arg(long, value_name = "DIR", default_value = "./data", global = true)]
    data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show who is logged in
    List,
    /// End sessions, and with them their WebSockets and streams; exit 1 where there is none such
    Revoke {
        /// The session's id, as `list` shows it
        #[arg(required_unless_present = "user")]
        id: Option<String>,
        /// All sessions of this user
        #[arg(long, value_name = "NAME", conflicts_with = "id")]
        user: Option<String>,
    },
    /// Go along the audit log; exit 1 and name the first line that does not fit
    Verify {
        /// One file of it; all of them where not given
        file: Option<PathBuf>,
    },
}

impl Sessions {
    /// Does what is asked; false where the log does not fit.
    pub(crate) async fn run(self, out: &Output) -> Result<bool> {
        let folder = self.data_dir.join(FOLDER);
        match self.what {
            What::List => list(&folder, out).await,
            What::Revoke { id, user } => revoke(&folder, id.as_deref(), user.as_deref(), out).await,
            What::Verify { file } => verify(&folder, file.as_deref(), out),
        }
    }
}

fn unasked(folder: &Path) -> String {
    format!(
        "failed to ask the proxy by {}",
        folder.join(SOCKET).display()
    )
}

async fn list(folder: &Path, out: &Output) -> Result<bool> {
    let all = client::list(folder)
        .await
        .with_context(|| unasked(folder))?;
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header([
        "ID", "USER", "LOGIN", "HOST", "FROM", "SINCE", "UNTIL", "REQUESTS", "IN", "OUT",
    ]);
    for session in &all {
        let shown = |name: &str| match &session[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Whole seconds are what people compare.
        let time = |name: &str| shown(name).split('.').next().unwrap_or_default().to_owned();
        table.add_row([
            shown("id"),
            shown("user"),
            shown("login"),
            shown("host"),
            shown("client"),
            time("since"),
            time("until"),
            shown("requests"),
            shown("received"),
            shown("sent"),
        ]);
    }
    let text = match all.is_empty() {
        true => "Nobody is logged in.\n".to_owned(),
        false => format!("{table}\n"),
    };
    out.answer(&text, &json!({ "sessions": all }))?;
    Ok(true)
}

async fn revoke(folder: &Path, id: Option<&str>, user: Option<&str>, out: &Output) -> Result<bool> {
    let which = match (id, user) {
        (_, Some(user)) => Which::User(user),
        (id, None) => Which::Id(id.unwrap_or_default()),
    };
    let ended = client::revoke(folder, which)
        .await
        .with_context(|| unasked(folder))?;
    let text = match ended {
        0 => "There is no such session.\n".to_owned(),
        1 => "1 session has ended.\n".to_owned(),
        more => format!("{more} sessions have ended.\n"),
    };
    out.answer(&text, &json!({ "ended": ended }))?;
    Ok(ended > 0)
}

fn verify(folder: &Path, file: Option<&Path>, out: &Output) -> Result<bool> {
    let (found, place) = match file {
        Some(file) => (verify::file(file), file),
        None => (verify::folder(folder), folder),
    };
    let found = found.with_context(|| {
        format!(
            "failed to read the audit log {}; `--data-dir` says where it is",
            place.display()
        )
    })?;
    let (first, last) = (found.first, found.last);
    let mut value = json!({
        "first": first,
        "last": last.number,
        "hash": last.hash.to_string(),
        "fits": found.misfit.is_none(),
    });
    let text = match &found.misfit {
        Some(spot) => {
            value["file"] = spot.file.display().to_string().into();
            value["line"] = spot.line.into();
            value["why"] = spot.why.to_string().into();
            format!(
                "{}, line {}: {}\nLines up to number {} fit.\n",
                spot.file.display(),
                spot.line,
                spot.why,
                last.number
            )
        }
        None if last.number == 0 => "The audit log is empty.\n".to_owned(),
        None => {
            let gone = match first {
                1 => String::new(),
                _ => {
                    format!("Lines before {first} are not there (old files go, or were removed).\n")
                }
            };
            format!(
                "Lines {first} to {} fit.\n{gone}The last one's SHA-256 is {}\n",
                last.number, last.hash
            )
        }
    };
    out.answer(&text, &value)?;
    Ok(found.misfit.is_none())
}
