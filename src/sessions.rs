//! `comind-ops sessions`: who is logged in at the proxy, and whether the audit log is whole.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use comind_proxy::audit::verify;
use serde_json::json;

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
            What::Verify { file } => verify(&folder, file.as_deref(), out),
        }
    }
}

fn verify(folder: &std::path::Path, file: Option<&std::path::Path>, out: &Output) -> Result<bool> {
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
