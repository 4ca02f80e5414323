//! Argo CD's applications, as far as we show them and wait for them.

use anyhow::{Context as _, Result};
use comfy_table::{Cell, Color};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::ready::{self, Workload};
use crate::platform::argocd;
use crate::services::table::{Look as Style, coloured, first_line, plain, trimmed};
use crate::wait::Look;

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Whether it is as the repository says.
    pub sync: String,
    /// Whether it works.
    pub health: String,
    /// What it was made from last.
    pub revision: Option<String>,
    /// Where in the repository it is described.
    pub path: Option<String>,
    /// What Argo CD says of it.
    pub message: Option<String>,
    /// What it was made from before, the newest last.
    pub history: Vec<String>,
    /// Something of it is of a kind that the cluster does not know.
    #[serde(skip)]
    lacks_definition: bool,
    /// What of it runs pods.
    #[serde(skip)]
    runs: Vec<Runs>,
}

/// Something that runs pods: its kind, namespace and name.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Runs {
    kind: String,
    namespace: String,
    name: String,
}

fn api(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(client.clone(), argocd::NAMESPACE, &resource)
}

/// Has Argo CD look at these again, at the repository too, and not only in a minute.
///
/// # Errors
/// When the cluster does not answer.
pub async fn refresh(client: &Client, all: &[Application]) -> Result<()> {
    let note = json!({ "metadata": { "annotations": { "argocd.argoproj.io/refresh": "hard" } } });
    for one in all {
        api(client)
            .patch(&one.name, &PatchParams::default(), &Patch::Merge(&note))
            .await
            .with_context(|| format!("cannot have Argo CD look at {} again", one.name))?;
    }
    Ok(())
}

/// All of them.
///
/// # Errors
/// When the cluster does not answer, or has no Argo CD.
pub async fn list(client: &Client) -> Result<Vec<Application>> {
    let all = api(client)
        .list(&ListParams::default())
        .await
        .context("cannot list Argo CD's applications")?;
    all.items
        .into_iter()
        .map(|one| Ok(read(&serde_json::to_value(one)?)))
        .collect()
}

fn read(object: &Value) -> Application {
    let status = &object["status"];
    let text = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let history = status["history"].as_array().into_iter().flatten();
    let refused = refused(status);
    Application {
        name: text(&object["metadata"]["name"]).unwrap_or_default(),
        sync: text(&status["sync"]["status"]).unwrap_or_else(|| "Unknown".to_owned()),
        health: text(&status["health"]["status"]).unwrap_or_else(|| "Unknown".to_owned()),
        revision: text(&status["sync"]["revision"]),
        path: text(&object["spec"]["source"]["path"]),
        message: refused
            .map(str::to_owned)
            .or_else(|| text(&status["conditions"][0]["message"]))
            .or_else(|| text(&status["operationState"]["message"]))
            .or_else(|| text(&status["health"]["message"])),
        history: history.filter_map(|one| text(&one["revision"])).collect(),
        lacks_definition: refused.is_some_and(|why| why.contains("CRD is installed")),
        runs: runs(status),
    }
}

/// Why the cluster took something of the newest commit not. Argo CD itself only says that it did not.
fn refused(status: &Value) -> Option<&str> {
    let result = &status["operationState"]["syncResult"];
    if result["revision"] != status["sync"]["revision"] {
        return None;
    }
    let mut all = result["resources"].as_array()?.iter();
    let failed = all.find(|one| one["status"] == "SyncFailed")?;
    failed["message"].as_str()
}

fn runs(status: &Value) -> Vec<Runs> {
    let all = status["resources"].as_array().into_iter().flatten();
    let runs = all.filter(|one| one["group"] == "apps").map(|one| {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        Runs {
            kind: text("kind"),
            namespace: text("namespace"),
            name: text("name"),
        }
    });
    runs.collect()
}

impl Application {
    /// Whether all is well.
    pub fn is_well(&self) -> bool {
        self.sync == "Synced" && self.health == "Healthy"
    }

    /// Why it is not as it should be; nothing when it is.
    pub fn complaint(&self) -> Option<String> {
        let why = self.message.as_deref().unwrap_or("no reason given yet");
        let Self {
            name, sync, health, ..
        } = self;
        (!self.is_well()).then(|| format!("application {name} is {sync} and {health}: {why}"))
    }

    /// Whether all is well, and if not, why: where Argo CD only says that it is not ready, by its pods.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn look(&self, client: &Client) -> Result<Look<(), String>> {
        let Some(complaint) = self.complaint() else {
            return Ok(Look::Done(()));
        };
        if self.sync != "Synced" {
            // What no definition is there for does not come by itself.
            return Ok(match self.lacks_definition {
                true => Look::Hopeless(complaint),
                false => Look::NotYet(complaint),
            });
        }
        let runs: Vec<Workload<'_>> = self.runs.iter().filter_map(Runs::workload).collect();
        let name = &self.name;
        Ok(match ready::each(client, &runs).await? {
            Look::Done(()) => Look::NotYet(complaint),
            Look::NotYet(why) => Look::NotYet(format!("application {name}: {why}")),
            Look::Hopeless(why) => Look::Hopeless(format!("application {name}: {why}")),
        })
    }
}

impl Runs {
    fn workload(&self) -> Option<Workload<'_>> {
        match self.kind.as_str() {
            "Deployment" => Some(Workload::Deployment(&self.namespace, &self.name)),
            "StatefulSet" => Some(Workload::StatefulSet(&self.namespace, &self.name)),
            _ => None,
        }
    }
}

/// For people.
pub fn table(all: &[Application], look: Style) -> String {
    let mut table = plain(look);
    table.set_header([
        "APPLICATION",
        "SYNC",
        "HEALTH",
        "REVISION",
        "PATH",
        "MESSAGE",
    ]);
    for one in all {
        let sync = match one.sync.as_str() {
            "Synced" => Color::Green,
            _ => Color::Yellow,
        };
        let health = match one.health.as_str() {
            "Healthy" => Color::Green,
            "Progressing" | "Suspended" => Color::Yellow,
            _ => Color::Red,
        };
        let short = one
            .revision
            .as_deref()
            .and_then(|revision| revision.get(..8));
        let message = one.message.as_deref().filter(|_| !one.is_well());
        table.add_row([
            Cell::new(&one.name),
            coloured(&one.sync, sync, look),
            coloured(&one.health, health, look),
            Cell::new(short.unwrap_or("-")),
            Cell::new(one.path.as_deref().unwrap_or("-")),
            Cell::new(first_line(message)),
        ]);
    }
    trimmed(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_says_what_it_lacks() {
        let of = |status: Value| {
            read(&json!({ "metadata": { "name": "redis" }, "status": status })).complaint()
        };
        let good = json!({ "sync": { "status": "Synced" }, "health": { "status": "Healthy" } });
        assert_eq!(of(good), None);
        let bad = json!({ "sync": { "status": "Unknown" }, "health": { "status": "Healthy" }, "conditions": [{ "message": "authentication required" }] });
        let said = "application redis is Unknown and Healthy: authentication required";
        assert_eq!(of(bad).as_deref(), Some(said));
        assert!(of(json!({})).is_some());
        let refused = |revision: &str| {
            of(json!({
                "sync": { "status": "OutOfSync", "revision": "b" },
                "operationState": {
                    "message": "tasks are not valid",
                    "syncResult": { "revision": revision, "resources": [
                        { "status": "Synced", "message": "fine" },
                        { "status": "SyncFailed", "message": "no such kind" },
                    ] },
                },
            }))
        };
        assert!(refused("b").is_some_and(|said| said.ends_with("no such kind")));
        // What was tried before the newest commit says nothing of it.
        assert!(refused("a").is_some_and(|said| said.ends_with("not valid")));
    }
}
