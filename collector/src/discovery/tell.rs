//! Writes back to each asker what came of it: a condition, and of Monitors the health. By the
//! leader only. What is written follows the newest state; what changed in between is left out.
//! Must not decide anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::judge::Verdict;
use super::meter::DiscoveryMeter;
use super::monitor::Monitor;
use super::wish::{Asker, Origin};
use crate::clock::Clock;
use crate::kube::client::Access;
use crate::kube::failure;
use crate::leader::Leads;
use crate::store::Readers;

/// States are written no more often.
const TURN: Duration = Duration::from_secs(1);
/// How long one write may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a failure the next try waits so long.
const RETRY: Duration = Duration::from_secs(10);
/// So many are written in one turn.
const MOST: usize = 50;

/// What came of all.
pub type Verdicts = BTreeMap<Asker, Verdict>;

/// What an asker is told, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    verdict: Verdict,
    health: Option<(&'static str, &'static str, String)>,
}

struct Written {
    words: Words,
    /// Since when the condition is as it is.
    since: String,
}

/// The task.
pub struct Teller {
    /// As whom.
    pub access: Access,
    /// What there is to tell.
    pub verdicts: watch::Receiver<Arc<Verdicts>>,
    /// The states.
    pub readers: Readers,
    /// The time.
    pub clock: Clock,
    /// Whether it is we who write.
    pub leads: Leads,
    /// Counts failures.
    pub meter: DiscoveryMeter,
}

impl Teller {
    /// Tells until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut written = HashMap::new();
        let mut retry: Option<Instant> = None;
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = turn.tick() => {}
                changed = self.verdicts.changed() => if changed.is_err() { return },
            }
            if !*self.leads.borrow() {
                written.clear();
                continue;
            }
            if retry.is_some_and(|at| Instant::now() < at) {
                continue;
            }
            let told = tokio::select! {
                () = stop.cancelled() => return,
                told = self.tell(&mut written) => told,
            };
            retry = None;
            if let Err(problem) = told {
                self.meter.not_told();
                retry = Some(Instant::now() + RETRY);
                tracing::warn!("{problem}; trying again in {} s", RETRY.as_secs());
            }
        }
    }

    async fn tell(&mut self, written: &mut HashMap<Asker, Written>) -> Result<(), String> {
        let verdicts = self.verdicts.borrow_and_update().clone();
        written.retain(|asker, _| verdicts.contains_key(asker));
        let news: Vec<(Asker, Words)> = verdicts
            .iter()
            .map(|(asker, verdict)| (asker.clone(), self.words(asker, verdict)))
            .filter(|(asker, words)| written.get(asker).is_none_or(|last| last.words != *words))
            .take(MOST)
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let client = self.access.client().await.map_err(|f| f.to_string())?;
        let mut problem = Ok(());
        for (asker, words) in news {
            let last = written.get(&asker);
            let tried = format!("write the status of {asker}");
            let wrote = timeout(DEADLINE, self.write(&client, &asker, &words, last)).await;
            match wrote {
                Ok(Ok(since)) => drop(written.insert(asker, Written { words, since })),
                // It is gone, and discovery will hear of that.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                Ok(Err(error)) => problem = Err(failure::of(&tried, &error).to_string()),
                Err(_) => return Err(format!("failed to {tried}: no answer within {DEADLINE:?}")),
            }
        }
        problem
    }

    fn words(&self, asker: &Asker, verdict: &Verdict) -> Words {
        let snapshot = self.readers.snapshot();
        let state = snapshot.target(&asker.target());
        let health = state.filter(|_| verdict.is_watched()).map(|state| {
            let standing = state.standing();
            let since = standing.since.to_string();
            (standing.health.as_str(), standing.reason.as_str(), since)
        });
        Words {
            verdict: verdict.clone(),
            health: health.filter(|_| asker.origin == Origin::Monitor),
        }
    }

    /// Since when the condition is as it is now.
    async fn write(
        &self,
        client: &Client,
        asker: &Asker,
        words: &Words,
        last: Option<&Written>,
    ) -> Result<String, kube::Error> {
        match asker.origin {
            Origin::Monitor => {
                let api: Api<Monitor> = Api::namespaced(client.clone(), &asker.namespace);
                let since = self.since(&api, asker, words, last, "Accepted").await?;
                let (health, reason, at) = match &words.health {
                    Some((health, reason, since)) => (Some(health), Some(reason), Some(since)),
                    None => (None, None, None),
                };
                let status = json!({ "status": {
                    "conditions": [condition("Accepted", words, &since)],
                    "health": health, "reason": reason, "since": at,
                }});
                let params = PatchParams::default();
                api.patch_status(&asker.name, &params, &Patch::Merge(status))
                    .await?;
                Ok(since)
            }
            Origin::Service => {
                let api: Api<Service> = Api::namespaced(client.clone(), &asker.namespace);
                let kind = "comind.pro/Accepted";
                let since = self.since(&api, asker, words, last, kind).await?;
                let status =
                    json!({ "status": { "conditions": [condition(kind, words, &since)] } });
                let params = PatchParams::default();
                api.patch_status(&asker.name, &params, &Patch::Strategic(status))
                    .await?;
                Ok(since)
            }
        }
    }

    /// Since when the condition is what it is to be: what stands in the object counts, also
    /// when an earlier process wrote it.
    async fn since<K>(
        &self,
        api: &Api<K>,
        asker: &Asker,
        words: &Words,
        last: Option<&Written>,
        kind: &str,
    ) -> Result<String, kube::Error>
    where
        K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug + Resource,
    {
        if let Some(last) = last
            && last.words.verdict.is_watched() == words.verdict.is_watched()
        {
            return Ok(last.since.clone());
        }
        let object = api.get_status(&asker.name).await?;
        let object = serde_json::to_value(object).unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned();
        let before = conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition["type"] == kind && condition["status"] == status(words));
        let since =
            before.and_then(|before| before["lastTransitionTime"].as_str().map(str::to_owned));
        Ok(since.unwrap_or_else(|| seconds(&self.clock.now().to_string())))
    }
}

/// Kubernetes' times have whole seconds.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

fn status(words: &Words) -> &'static str {
    match words.verdict.is_watched() {
        true => "True",
        false => "False",
    }
}

fn condition(kind: &str, words: &Words, since: &str) -> Value {
    // The API server takes 32 KiB of a message.
    let message: String = words.verdict.message.chars().take(1024).collect();
    let mut condition = json!({
        "type": kind,
        "status": status(words),
        "reason": words.verdict.reason,
        "message": message,
        "lastTransitionTime": since,
    });
    if let Some(generation) = words.verdict.generation {
        condition["observedGeneration"] = generation.into();
    }
    condition
}
