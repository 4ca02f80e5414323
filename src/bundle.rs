//! `comind-ops bundle`, and `--offline`: what a machine without a network needs, as one file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use comind_bootstrap::bundle::manifest::Machine;
use comind_bootstrap::bundle::needs::Definitions;
use comind_bootstrap::bundle::{self, Here, Summary};
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::programs::Programs;
use serde_json::json;

use crate::VERSION;
use crate::output::Output;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Bundle {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make one for machines like this, of what `make setup setup-cluster` has brought here
    Create {
        /// Where it is to be [default: comind-ops-bundle-RELEASE-ARCHITECTURE.tar in this folder]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare everything in one with its manifest, and the manifest with this machine
    Check {
        /// The bundle
        bundle: PathBuf,
    },
    /// Bring out of one what this machine lacks, and nothing more; `bootstrap --offline` does this first
    Install {
        /// The bundle
        bundle: PathBuf,
    },
}

impl Bundle {
    /// Does what was asked for.
    pub(crate) async fn run(self, out: &Output) -> Result<()> {
        match self.what {
            What::Create { output } => {
                let usual = || anyhow::Ok(PathBuf::from(bundle::usual_name(&Machine::this()?)));
                let file = output.map_or_else(usual, Ok)?;
                let file = std::path::absolute(file)?;
                told(&bundle::create(&here()?, &file, out).await?, out)
            }
            What::Check { bundle } => told(&bundle::check(&bundle).await?, out),
            What::Install { bundle } => {
                let done = bundle::install(&here()?, &bundle, bundle::GROUPS, out).await?;
                out.answer("", &json!({ "installed": done }))
            }
        }
    }
}

/// What `--offline` does before anything else: with a plan, it only checks.
pub(crate) async fn offline(
    bundle: Option<&Path>,
    groups: &[&str],
    plan: bool,
    out: &Output,
) -> Result<()> {
    let Some(bundle) = bundle else {
        return Ok(());
    };
    if plan {
        bundle::check(bundle).await?;
        say(out, Level::Note, "the bundle is whole and for this machine");
        return Ok(());
    }
    bundle::install(&here()?, bundle, groups, out).await?;
    Ok(())
}

fn here() -> Result<Here> {
    let definitions = std::env::var_os("COMIND_TOOLCHAIN_DEFS").filter(|dir| !dir.is_empty());
    Ok(Here {
        programs: Programs::from_env(),
        definitions: Definitions::read(definitions.as_deref().map(Path::new))?,
        version: VERSION.to_owned(),
    })
}

fn told(summary: &Summary, out: &Output) -> Result<()> {
    let Summary {
        file,
        bytes,
        unpacked,
        files,
        packages,
        program,
        made,
        machine,
    } = summary;
    let mib = |bytes: &u64| bytes.div_ceil(1 << 20);
    let text = format!(
        "{}: {} MiB, of {} on {}, made {made:.0} by comind-ops {program}\n\
         {files} files ({} MiB), among them {packages} packages of Debian\n",
        file.display(),
        mib(bytes),
        machine.codename,
        machine.architecture,
        mib(unpacked),
    );
    out.answer(&text, &json!({ "bundle": summary }))
}
