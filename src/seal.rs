//! `comind-ops seal`: Secrets from standard input, sealed on standard output; no cluster is asked.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use comind_bootstrap::event::now;
use comind_bootstrap::platform::sealing::{self, Certificate, Scope};
use comind_bootstrap::platform::sealing_key;
use comind_bootstrap::store;
use serde_json::{Value, json};

use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};

/// More than a cluster takes.
const MOST: u64 = 4 << 20;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Seal {
    /// The controller's certificate [default: the one of the environment]
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Where it may be opened [default: as its annotations say, else strict]
    #[arg(long, value_enum)]
    scope: Option<Where>,
    #[command(flatten)]
    env: EnvArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Where {
    /// Only in its namespace, under its name
    Strict,
    /// Under any name in its namespace
    NamespaceWide,
    /// Anywhere in the cluster
    ClusterWide,
}

impl Seal {
    /// Seals what comes in.
    pub(crate) fn run(self, home: &HomeArgs, out: &Output) -> Result<()> {
        let certificate = self.certificate(home)?;
        let scope = self.scope.map(|scope| match scope {
            Where::Strict => Scope::Strict,
            Where::NamespaceWide => Scope::Namespace,
            Where::ClusterWide => Scope::Cluster,
        });
        let mut text = String::new();
        let read = std::io::stdin().take(MOST + 1).read_to_string(&mut text);
        read.context("cannot read standard input")?;
        ensure!(
            text.len() as u64 <= MOST,
            "this is more than a cluster takes"
        );
        let all = sealing::read(&text)?;
        ensure!(!all.is_empty(), "there is no Secret on standard input");
        let sealed = all
            .iter()
            .map(|secret| sealing::sealed(secret, &certificate, scope));
        let sealed: Vec<Value> = sealed.collect::<Result<_>>()?;
        out.answer(&sealing::yaml(&sealed)?, &json!({ "sealed": sealed }))
    }

    fn certificate(&self, home: &HomeArgs) -> Result<Certificate> {
        let file = match &self.cert {
            Some(file) => file.clone(),
            None => sealing_key::certificate(&home.home()?, self.env.env),
        };
        let pem = store::read(&file)?.with_context(|| {
            let file = file.display();
            format!("there is no {file}; `comind-ops bootstrap` makes it, or name one with --cert")
        })?;
        Certificate::from_pem(&pem, now())
            .with_context(|| format!("{} is of no use", file.display()))
    }
}
