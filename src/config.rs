//! `comind-ops config {check,schema}`: the collector's configuration.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use comind_collector::config;
use serde_json::json;

use crate::output::Output;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether a configuration can be used, and if not, where it is wrong and how to mend it
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Print the JSON Schema of the configuration
    Schema,
}

impl Config {
    /// Does what is asked.
    pub(crate) fn run(self, out: &Output) -> Result<()> {
        match self.what {
            What::Check { file } => {
                let config = config::load(&file)?;
                if let Some(told) = &config.proxy {
                    let problems = comind_proxy::run::check(told);
                    if !problems.is_empty() {
                        let problem = problems.join("; ");
                        return Err(config::ConfigError::about_file(&file, problem).into());
                    }
                }
                let targets = config.targets.len();
                let warnings = &config.warnings;
                let mut text = format!("{}: good, {targets} targets\n", file.display());
                for warning in warnings {
                    text.push_str(&format!("! {warning}\n"));
                }
                out.answer(
                    &text,
                    &json!({ "file": file, "good": true, "targets": targets, "warnings": warnings }),
                )
            }
            What::Schema => {
                let schema = config::schema::schema();
                out.print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))
            }
        }
    }
}
