//! `comind-ops diagnose`: all that is known of what does not work, without secrets, as one file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::diagnose::{self, Bundle, Subject};
use comind_bootstrap::event::{Level, now, say};
use comind_bootstrap::services::session::Request;
use serde_json::json;

use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs, ServiceArgs};

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Diagnose {
    /// Where the bundle is to be [default: comind-ops-diagnosis-ENV-TIME.tar.gz in this folder]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    env: EnvArgs,
    #[command(flatten)]
    services: ServiceArgs,
}

impl Diagnose {
    /// Writes the bundle, and says what is in it and what is not.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        let subject = subject(self.services.request(home)?, self.env);
        let usual = || PathBuf::from(diagnose::usual_name(self.env.env, now()));
        let file = std::path::absolute(self.output.unwrap_or_else(usual))?;
        let bundle = diagnose::write(&subject, &file).await?;
        out.answer(
            &format!("{}\n", told(&bundle)),
            &json!({ "bundle": bundle }),
        )
    }
}

/// After a failure, in our home; what goes wrong here must not hide what went wrong there.
pub(crate) async fn after_failure(request: Request, env: EnvArgs, out: &Output) {
    // One for each environment: that of the failure before has done its work.
    let name = format!("diagnosis-{}.tar.gz", env.env.name());
    let file = request.home.path().join(name);
    let bundle = diagnose::write(&subject(request, env), &file).await;
    match bundle {
        Ok(bundle) => say(out, Level::Note, told(&bundle)),
        Err(error) => say(out, Level::Warning, format!("no diagnosis: {error:#}")),
    }
}

fn subject(request: Request, env: EnvArgs) -> Subject {
    let place = Place {
        env: env.env,
        home: request.home.clone(),
    };
    Subject {
        version: crate::VERSION.to_owned(),
        request,
        place,
    }
}

fn told(bundle: &Bundle) -> String {
    let Bundle {
        file,
        files,
        missing,
        bytes,
    } = bundle;
    let mut text = format!(
        "the diagnosis is in {}: {} files, {} KiB, without secrets as far as they are known; look into it before you give it away",
        file.display(),
        files.len(),
        bytes.div_ceil(1024),
    );
    if !missing.is_empty() {
        text += &format!("; not in it: {}", missing.join(", "));
    }
    text
}
