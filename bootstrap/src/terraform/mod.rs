//! The layer of infrastructure below a platform: Terraform's program with the module of the local
//! profile, a folder with its state for each environment below the home.
//!
//! What the module does, it does by our own program (`cluster create`, `cluster delete`), whose
//! events come through Terraform's and are shown as if nothing were in between.

mod program;
mod says;

pub mod outputs;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use include_dir::{Dir, include_dir};
use serde::Serialize;
use serde_json::Value;

use crate::cluster::host::place::Place;
use crate::event::{Level, Report, say};
use crate::home::Home;
use crate::platform::hosts;
use crate::programs::Programs;
use crate::store;
use crate::terraform::outputs::Outputs;
use crate::terraform::program::{Ended, Terraform};
pub use crate::terraform::says::Counts;

static MODULE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/terraform/local");

/// What the module makes.
const CLUSTER: &str = "terraform_data.cluster";
/// Where a missing program comes from: Debian has none.
const INSTALL: &str = "Debian has none; get it from https://developer.hashicorp.com/terraform/install \
     and put it into /usr/local/bin";

/// What the module is told of one environment.
#[derive(Debug, Serialize)]
struct Variables {
    environment: &'static str,
    home: PathBuf,
    cluster_name: String,
    cluster_endpoint: String,
    kubeconfig_path: PathBuf,
    node_addresses: Vec<String>,
    ingress_url: String,
}

impl Variables {
    /// Pure.
    fn of(place: &Place) -> Self {
        let [host, _] = hosts::hosts("comind");
        Self {
            environment: place.env.name(),
            home: place.home.path().to_owned(),
            cluster_name: place.name(),
            cluster_endpoint: place.server(),
            kubeconfig_path: place.kubeconfig(),
            node_addresses: vec![place.node().to_string()],
            ingress_url: format!("http://{host}:{}/", hosts::port(place.env)),
        }
    }
}

/// One environment's layer.
pub struct Layer {
    place: Place,
    terraform: Terraform,
}

/// Where an environment's layer is.
fn folder(home: &Home, env: &str) -> PathBuf {
    home.path().join("terraform").join(env)
}

impl Layer {
    /// For a place; `own` is the program that the module calls.
    ///
    /// # Errors
    /// When Terraform is missing.
    pub fn new(place: Place, programs: &Programs, own: PathBuf) -> Result<Self> {
        let terraform = Terraform {
            program: programs.find("terraform", INSTALL)?,
            dir: folder(&place.home, place.env.name()),
            own,
        };
        Ok(Self { place, terraform })
    }

    /// What would be done.
    ///
    /// # Errors
    /// With Terraform's own words.
    pub async fn plan(&self, report: &dyn Report) -> Result<Counts> {
        self.prepare(report).await?;
        let mut args = vec!["plan", "-detailed-exitcode"];
        let replace = self.replaced(report)?;
        args.extend(replace.as_deref());
        let ended = self.terraform.run(&args, report).await?;
        Ok(ended.counts)
    }

    /// Does it.
    ///
    /// # Errors
    /// With what failed.
    pub async fn apply(&self, report: &dyn Report) -> Result<Counts> {
        self.prepare(report).await?;
        let mut args = vec!["apply", "-auto-approve"];
        let replace = self.replaced(report)?;
        args.extend(replace.as_deref());
        let ended: Ended = self.terraform.run(&args, report).await?;
        Ok(ended.counts)
    }

    /// Removes what it has made.
    ///
    /// # Errors
    /// With what failed.
    pub async fn destroy(&self, report: &dyn Report) -> Result<Counts> {
        self.prepare(report).await?;
        let ended = self
            .terraform
            .run(&["destroy", "-auto-approve"], report)
            .await?;
        Ok(ended.counts)
    }

    /// What others may build upon.
    ///
    /// # Errors
    /// When nothing was applied yet.
    pub async fn outputs(&self) -> Result<Outputs> {
        ensure!(
            self.has_made()?,
            "there is nothing of {} yet; `comind-ops tf apply` makes it",
            self.place.name()
        );
        outputs::read(&self.terraform.answer(&["output", "-json"]).await?)
    }

    /// Whether anything was made and not removed again.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn has_made(&self) -> Result<bool> {
        let state: Option<Value> = store::read_json(&self.terraform.dir.join("terraform.tfstate"))?;
        Ok(state.is_some_and(|state| names(&state, CLUSTER)))
    }

    /// A cluster that was removed behind Terraform's back is made again.
    fn replaced(&self, report: &dyn Report) -> Result<Option<String>> {
        if self.place.dir().exists() || !self.has_made()? {
            return Ok(None);
        }
        let text = format!("the cluster {} is not there any more", self.place.name());
        say(report, Level::Note, text);
        Ok(Some(format!("-replace={CLUSTER}")))
    }

    /// The folder with the module as this program has it, and its variables.
    async fn prepare(&self, report: &dyn Report) -> Result<()> {
        let dir = &self.terraform.dir;
        self.place.home.create()?;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for file in MODULE.files() {
            let name = file.path().file_name().context("a file has a name")?;
            write_if_other(&dir.join(name), file.contents())?;
        }
        let variables = serde_json::to_vec_pretty(&Variables::of(&self.place))?;
        write_if_other(&dir.join("terraform.tfvars.json"), &variables)?;
        self.terraform.run(&["init"], report).await?;
        Ok(())
    }
}

fn write_if_other(path: &Path, wanted: &[u8]) -> Result<()> {
    match std::fs::read(path) {
        Ok(found) if found == wanted => Ok(()),
        _ => store::write(path, wanted),
    }
}

/// Whether a state has this resource, with something in it.
fn names(state: &Value, address: &str) -> bool {
    let resources = state["resources"].as_array().into_iter().flatten();
    resources.into_iter().any(|one| {
        let part = |key: &str| one[key].as_str().unwrap_or_default();
        let some = one["instances"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        some && format!("{}.{}", part("type"), part("name")) == address
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::env::Env;
    use crate::home::Surroundings;
    use serde_json::json;

    fn place(env: Env) -> Result<Place> {
        let home = Home::choose(&Surroundings {
            asked: Some("/h".into()),
            ..Surroundings::default()
        })?;
        Ok(Place { env, home })
    }

    #[test]
    fn each_environment_is_told_what_is_its_own() -> Result<()> {
        let variables = serde_json::to_value(Variables::of(&place(Env::Qa)?))?;
        let wanted = json!({
            "environment": "qa",
            "home": "/h",
            "cluster_name": "comind-ops-qa",
            "cluster_endpoint": "https://10.231.2.2:6443",
            "kubeconfig_path": "/h/data/cluster-qa/config/admin.kubeconfig",
            "node_addresses": ["10.231.2.2"],
            "ingress_url": "http://comind.localhost:8083/",
        });
        assert_eq!(variables, wanted);
        Ok(())
    }

    #[test]
    fn the_module_declares_what_it_is_told_and_says_what_every_profile_says() -> Result<()> {
        let text = |name: &str| {
            let file = MODULE.get_file(name).and_then(|file| file.contents_utf8());
            file.with_context(|| format!("no {name}"))
        };
        let variables = text("variables.tf")?;
        let told = serde_json::to_value(Variables::of(&place(Env::Dev)?))?;
        let told = told.as_object().context("an object")?;
        for name in told.keys() {
            assert!(
                variables.contains(&format!("variable \"{name}\"")),
                "{name}"
            );
        }
        assert_eq!(variables.matches("variable \"").count(), told.len());
        let outputs = text("outputs.tf")?;
        for name in outputs::NAMES {
            assert!(outputs.contains(&format!("output \"{name}\"")), "{name}");
        }
        Ok(())
    }

    #[test]
    fn only_a_state_with_a_cluster_in_it_has_made_one() {
        let with = |instances: Value| json!({ "resources": [{ "type": "terraform_data", "name": "cluster", "instances": instances }] });
        assert!(names(&with(json!([{}])), CLUSTER));
        assert!(!names(&with(json!([])), CLUSTER));
        assert!(!names(&json!({ "resources": [] }), CLUSTER));
        assert!(!names(&json!([1]), CLUSTER));
    }
}
