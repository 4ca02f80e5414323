//! Tells the cluster what came of the Gateway API's objects, by their statuses. Only what differs is
//! written, and what cannot be written is tried with the next change: statuses follow the objects,
//! nothing is remembered.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::kinds;
use super::read::{CONTROLLER, Made, Of};
use crate::controller::world::{Key, World};

/// Writes to the cluster, one status after the other.
#[derive(Default)]
pub struct StatusTeller {
    task: Option<JoinHandle<()>>,
}

impl Drop for StatusTeller {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl StatusTeller {
    /// Until what is being told has been told; at once where nothing is.
    pub async fn done(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }

    /// Tells what differs, in the background. False when that has to wait until the one before is
    /// [`done`](Self::done).
    pub fn tell(&mut self, client: &Client, world: &World, made: &Made, now: Timestamp) -> bool {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return false;
        }
        let jobs: Vec<Job> = made
            .told
            .iter()
            .filter_map(|((of, key), told)| job(world, *of, key, told, now))
            .collect();
        if !jobs.is_empty() {
            let client = client.clone();
            self.task = Some(tokio::spawn(async move {
                for job in jobs {
                    job.run(&client).await;
                }
            }));
        }
        true
    }
}

/// One status to be written.
#[derive(Debug)]
struct Job {
    of: Of,
    key: Key,
    patch: Value,
}

fn job(world: &World, of: Of, key: &Key, told: &Value, now: Timestamp) -> Option<Job> {
    let gateway = &world.gateway;
    let (meta, known) = match of {
        Of::Class => gateway
            .classes
            .all
            .get(key)
            .map(|it| (&it.metadata, &it.status)),
        Of::Gateway => gateway
            .gateways
            .all
            .get(key)
            .map(|it| (&it.metadata, &it.status)),
        Of::Http => gateway
            .http
            .all
            .get(key)
            .map(|it| (&it.metadata, &it.status)),
        Of::Grpc => gateway
            .grpc
            .all
            .get(key)
            .map(|it| (&it.metadata, &it.status)),
    }?;
    let known = known.as_ref().unwrap_or(&Value::Null);
    let status = match of {
        Of::Class | Of::Gateway => dated(told, known, now),
        Of::Http | Of::Grpc => json!({ "parents": parents(told, &known["parents"], now) }),
    };
    // What is there besides is another's, or of another version.
    let same = status
        .as_object()
        .is_some_and(|all| all.iter().all(|(name, value)| known[name] == *value))
        || (known.is_null() && status == json!({ "parents": [] }));
    (!same).then(|| Job {
        of,
        key: key.clone(),
        patch: patch(meta, &status),
    })
}

/// With the version that it was made for: who wrote in between is not overwritten.
fn patch(meta: &ObjectMeta, status: &Value) -> Value {
    json!({ "metadata": { "resourceVersion": meta.resource_version }, "status": status })
}

/// Those of other controllers, then ours.
fn parents(ours: &Value, known: &Value, now: Timestamp) -> Value {
    let known: Vec<&Value> = known.as_array().into_iter().flatten().collect();
    let is_ours = |it: &Value| it["controllerName"] == CONTROLLER;
    let others = known
        .iter()
        .filter(|it| !is_ours(it))
        .map(|it| (*it).clone());
    let ours = ours.as_array().into_iter().flatten().map(|parent| {
        let same = |it: &&&Value| is_ours(it) && it["parentRef"] == parent["parentRef"];
        let before = known.iter().find(same).map_or(&Value::Null, |it| *it);
        dated(parent, before, now)
    });
    others.chain(ours).collect()
}

/// Gives each condition the time of its last change: that of the one before, where that said the same.
fn dated(told: &Value, known: &Value, now: Timestamp) -> Value {
    match told {
        Value::Object(all) => {
            let mut made: serde_json::Map<String, Value> = all
                .iter()
                .map(|(name, value)| (name.clone(), dated(value, &known[name], now)))
                .collect();
            if all.contains_key("observedGeneration") {
                let before = known["status"] == told["status"];
                let time = before.then(|| known["lastTransitionTime"].clone());
                let time = time.filter(Value::is_string);
                let now = || json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
                made.insert("lastTransitionTime".to_owned(), time.unwrap_or_else(now));
            }
            Value::Object(made)
        }
        Value::Array(all) => all
            .iter()
            .map(|value| dated(value, partner(value, known), now))
            .collect(),
        other => other.clone(),
    }
}

/// The one of a list that has the same name or type.
fn partner<'a>(value: &Value, known: &'a Value) -> &'a Value {
    let same = |it: &&Value| {
        let by = |name: &str| !value[name].is_null() && it[name] == value[name];
        by("name") || by("type")
    };
    let mut all = known.as_array().into_iter().flatten();
    all.find(same).unwrap_or(&Value::Null)
}

impl Job {
    async fn run(&self, client: &Client) {
        let (namespace, name) = &self.key;
        let resource = resource(self.of);
        let api: Api<DynamicObject> = match namespace.as_str() {
            "" => Api::all_with(client.clone(), &resource),
            namespace => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        let patch = Patch::Merge(&self.patch);
        let written = api
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        match written {
            Ok(_) => {}
            // Gone, or changed in between: its change is on its way to us.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => tracing::warn!(
                kind = resource.kind,
                namespace,
                name,
                "the status could not be written: {error}"
            ),
        }
    }
}

/// How the objects of a kind are asked for.
pub fn resource(of: Of) -> ApiResource {
    let (kind, plural) = match of {
        Of::Class => ("GatewayClass", "gatewayclasses"),
        Of::Gateway => ("Gateway", "gateways"),
        Of::Http => ("HTTPRoute", "httproutes"),
        Of::Grpc => ("GRPCRoute", "grpcroutes"),
    };
    kinds::resource(kind, "v1", plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_it_says_the_same() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let told = |status: &str| {
            json!({ "listeners": [{ "name": "a", "conditions": [
                { "type": "Accepted", "status": status, "reason": "x", "observedGeneration": 2 }] }] })
        };
        let mut known = told("True");
        known["listeners"][0]["conditions"][0]["lastTransitionTime"] =
            json!("2020-01-01T00:00:00Z");
        let time =
            |made: Value| made["listeners"][0]["conditions"][0]["lastTransitionTime"].clone();
        assert_eq!(
            time(dated(&told("True"), &known, now)),
            "2020-01-01T00:00:00Z"
        );
        assert_eq!(
            time(dated(&told("False"), &known, now)),
            "2026-01-02T03:04:05Z"
        );
        assert_eq!(dated(&told("True"), &known, now), known);
    }

    #[test]
    fn parents_of_others_stay() {
        let now = Timestamp::UNIX_EPOCH;
        let other =
            json!({ "controllerName": "other", "parentRef": { "name": "a" }, "conditions": [] });
        let ours =
            json!({ "controllerName": CONTROLLER, "parentRef": { "name": "a" }, "conditions": [] });
        let stale =
            json!({ "controllerName": CONTROLLER, "parentRef": { "name": "b" }, "conditions": [] });
        let made = parents(&json!([ours]), &json!([stale, other]), now);
        assert_eq!(made, json!([other, ours]));
    }
}
