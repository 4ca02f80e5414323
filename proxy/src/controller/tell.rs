//! Tells the cluster what came of its Ingress objects: an Event where something is not served, and
//! the address in the status. Each is told once, and again when it changes. A failure to tell
//! harms nobody: it is logged and tried with the next change.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use tokio::task::JoinHandle;

use super::read::{Made, Told};
use super::world::{Key, World};

const NAME: &str = "comind-ops";

/// Writes to the cluster, one thing after the other.
pub struct Teller {
    client: Client,
    recorder: Recorder,
    addresses: Vec<String>,
    known: BTreeMap<Key, Vec<Told>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Teller {
    /// With these addresses for the status.
    pub fn new(client: Client, addresses: Vec<String>) -> Self {
        let reporter = Reporter {
            controller: NAME.to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            recorder,
            addresses,
            known: BTreeMap::new(),
            task: None,
        }
    }

    /// Until what is being told has been told; at once where nothing is.
    pub async fn done(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }

    /// Tells what is new, in the background. False when that has to wait until the one before is
    /// [`done`](Self::done).
    pub fn tell(&mut self, world: &World, made: &Made) -> bool {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return false;
        }
        let mut jobs = Vec::new();
        self.known.retain(|key, _| made.told.contains_key(key));
        for (key, told) in &made.told {
            let Some(ingress) = world.ingresses.all.get(key) else {
                continue;
            };
            let news = match self.known.get(key) {
                Some(known) => told
                    .iter()
                    .filter(|one| !known.contains(one))
                    .cloned()
                    .collect(),
                None => told.clone(),
            };
            self.known.insert(key.clone(), told.clone());
            let status = (!self.addresses.is_empty() && !bears(ingress, &self.addresses))
                .then(|| self.status());
            if !news.is_empty() || status.is_some() {
                jobs.push((ingress.clone(), news, status));
            }
        }
        if !jobs.is_empty() {
            let (client, recorder) = (self.client.clone(), self.recorder.clone());
            self.task = Some(tokio::spawn(async move {
                for (ingress, news, status) in jobs {
                    tell_one(&client, &recorder, &ingress, news, status).await;
                }
            }));
        }
        true
    }

    fn status(&self) -> serde_json::Value {
        let entry = |address: &String| match address.parse::<std::net::IpAddr>() {
            Ok(_) => json!({ "ip": address }),
            Err(_) => json!({ "hostname": address }),
        };
        let entries: Vec<_> = self.addresses.iter().map(entry).collect();
        json!({ "status": { "loadBalancer": { "ingress": entries } } })
    }
}

fn bears(ingress: &Ingress, addresses: &[String]) -> bool {
    let entries = ingress
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let told: Vec<&String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ip.as_ref().or(entry.hostname.as_ref()))
        .collect();
    told == addresses.iter().collect::<Vec<_>>()
}

async fn tell_one(
    client: &Client,
    recorder: &Recorder,
    ingress: &Arc<Ingress>,
    news: Vec<Told>,
    status: Option<serde_json::Value>,
) {
    let name = ingress.metadata.name.as_deref().unwrap_or_default();
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    for told in news {
        let event = Event {
            type_: EventType::Warning,
            reason: told.reason.to_owned(),
            note: Some(told.text.chars().take(1000).collect()),
            action: "Read".to_owned(),
            secondary: None,
        };
        tracing::warn!(
            namespace,
            ingress = name,
            reason = told.reason,
            "{}",
            told.text
        );
        if let Err(error) = recorder.publish(&event, &ingress.object_ref(&())).await {
            tracing::warn!(
                namespace,
                ingress = name,
                "an Event could not be written: {error}"
            );
        }
    }
    if let Some(status) = status {
        let api: Api<Ingress> = Api::namespaced(client.clone(), namespace);
        let patched = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await;
        if let Err(error) = patched {
            tracing::warn!(
                namespace,
                ingress = name,
                "the status could not be written: {error}"
            );
        }
    }
}
