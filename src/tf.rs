//! `comind-ops tf …`: the layer of infrastructure below a platform, by Terraform.

use anyhow::Result;
use clap::{Args, Subcommand};
use comind_bootstrap::cluster::host::place::Place;
use comind_bootstrap::event::{Level, say};
use comind_bootstrap::programs::Programs;
use comind_bootstrap::terraform::{Counts, Layer, outputs};
use serde_json::json;

use crate::output::Output;
use crate::place::{EnvArgs, HomeArgs};
use crate::planned::Ended;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Tf {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    env: EnvArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what would be done; exit 2 if that is anything
    Plan,
    /// Do it: make the cluster, or what it lacks
    Apply,
    /// What others may build upon: the cluster's name, endpoint, kubeconfig, addresses
    Output,
    /// Remove what was made, after asking
    Destroy,
}

impl Tf {
    /// Does what is asked.
    pub(crate) async fn run(self, home: &HomeArgs, out: &Output) -> Result<Ended> {
        let place = Place {
            env: self.env.env,
            home: home.home()?,
        };
        let name = place.name();
        let layer = Layer::new(place, &Programs::from_env(), std::env::current_exe()?)?;
        match self.what {
            What::Plan => {
                let counts = layer.plan(out).await?;
                out.answer(
                    &format!("{}\n", counts.words()),
                    &json!({ "changes": counts }),
                )?;
                Ok(match counts.any() {
                    true => Ended::WouldChange,
                    false => Ended::Well,
                })
            }
            What::Apply => {
                let counts = layer.apply(out).await?;
                unless_any(counts, &name, out);
                output(&layer, out).await
            }
            What::Output => output(&layer, out).await,
            What::Destroy => {
                if !layer.has_made()? {
                    say(out, Level::Unchanged, format!("there is nothing of {name}"));
                    return Ok(Ended::Well);
                }
                out.confirm(&format!(
                    "This would remove the cluster {name} with all that it keeps. Remove it"
                ))?;
                let counts = layer.destroy(out).await?;
                unless_any(counts, &name, out);
                Ok(Ended::Well)
            }
        }
    }
}

fn unless_any(counts: Counts, name: &str, out: &Output) {
    if !counts.any() {
        let text = format!("{name} was as wanted: nothing was changed");
        say(out, Level::Unchanged, text);
    }
}

async fn output(layer: &Layer, out: &Output) -> Result<Ended> {
    let outputs = layer.outputs().await?;
    let text = format!("{}\n", outputs::table(&outputs, out.look()));
    out.answer(&text, &json!({ "outputs": outputs }))?;
    Ok(Ended::Well)
}
