//! The parts of a bundle that the cluster knows: nodes, pods, warnings, applications, and the last
//! words of pods that are not ready. Secrets are not asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams, LogParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;

use crate::cluster::host::place::Place;
use crate::cluster::{objects, why};
use crate::diagnose::{File, Part};

/// So many objects of a kind are asked for.
const MOST: u32 = 500;
/// The last lines of a container.
const LINES: i64 = 200;
/// A container with longer lines is cut off.
const BYTES: i64 = 1 << 20;
/// So many containers are asked, so many of them at once, each for so long.
const CONTAINERS: usize = 60;
const AT_ONCE: usize = 8;
const LIMIT: Duration = Duration::from_secs(4);

/// A kind of object: its part, its group, version and kind, and which of them.
struct Kind {
    part: &'static str,
    gvk: [&'static str; 3],
    fields: Option<&'static str>,
}

const KINDS: &[Kind] = &[
    Kind {
        part: "cluster/nodes",
        gvk: ["", "v1", "Node"],
        fields: None,
    },
    Kind {
        part: "cluster/pods",
        gvk: ["", "v1", "Pod"],
        fields: None,
    },
    Kind {
        part: "cluster/warnings",
        gvk: ["", "v1", "Event"],
        fields: Some("type=Warning"),
    },
    Kind {
        part: "cluster/applications",
        gvk: ["argoproj.io", "v1alpha1", "Application"],
        fields: None,
    },
];

/// The parts.
pub(super) fn parts(place: &Place) -> Vec<Part<'_>> {
    let kinds = KINDS
        .iter()
        .map(|kind| (kind.part, listed(place, kind).boxed()));
    kinds
        .chain([("cluster/logs", unready(place).boxed())])
        .collect()
}

async fn client(place: &Place) -> Result<Client> {
    if !place.kubeconfig().exists() {
        bail!("there is no cluster {}", place.name());
    }
    objects::client(&place.kubeconfig()).await
}

async fn listed(place: &Place, kind: &Kind) -> Result<Vec<File>> {
    let [group, version, name] = kind.gvk;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, name));
    let api: Api<DynamicObject> = Api::all_with(client(place).await?, &resource);
    let mut which = ListParams::default().limit(MOST);
    if let Some(fields) = kind.fields {
        which = which.fields(fields);
    }
    let found = api
        .list(&which)
        .await
        .map_err(|error| anyhow::anyhow!("the cluster does not tell: {}", why::error(&error)))?;
    let all = found.items.into_iter().map(plain);
    let all: Result<Vec<Value>> = all.collect();
    Ok(vec![File::json(format!("{}.json", kind.part), all?)?])
}

/// An object without what is only noise, or a copy of itself in one string.
fn plain(mut object: DynamicObject) -> Result<Value> {
    object.metadata.managed_fields = None;
    if let Some(notes) = &mut object.metadata.annotations {
        notes.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    Ok(serde_json::to_value(object)?)
}

/// A container's last words, those of the one before it too where it was started again.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Words {
    namespace: String,
    pod: String,
    container: String,
    previous: bool,
}

impl Words {
    fn file(&self) -> String {
        let before = if self.previous { ".before" } else { "" };
        let Self {
            namespace,
            pod,
            container,
            ..
        } = self;
        format!("cluster/logs/{namespace}/{pod}/{container}{before}.log")
    }

    async fn heard(self, client: &Client) -> File {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let which = LogParams {
            container: Some(self.container.clone()),
            previous: self.previous,
            tail_lines: Some(LINES),
            limit_bytes: Some(BYTES),
            timestamps: true,
            ..LogParams::default()
        };
        let asked = tokio::time::timeout(LIMIT, pods.logs(&self.pod, &which)).await;
        let why = match asked {
            Ok(Ok(text)) => return File::text(self.file(), text),
            Ok(Err(error)) => why::error(&error),
            Err(_) => format!("no answer within {LIMIT:?}"),
        };
        File::text(format!("{}.missing.txt", self.file()), format!("{why}\n"))
    }
}

async fn unready(place: &Place) -> Result<Vec<File>> {
    let client = client(place).await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let found = pods.list(&ListParams::default().limit(MOST)).await;
    let found = found.context("the cluster does not name its pods")?;
    let why: BTreeMap<String, String> = found.items.iter().filter_map(reason).collect();
    let mut files = vec![File::json("cluster/not-ready.json", why)?];
    let wanted = found.items.iter().flat_map(words).take(CONTAINERS);
    let wanted = futures_util::stream::iter(wanted.collect::<Vec<_>>());
    let heard = wanted.map(|words| words.heard(&client));
    files.extend(heard.buffered(AT_ONCE).collect::<Vec<_>>().await);
    Ok(files)
}

/// Why a pod is not ready, by its name. One that has done its work is as it should be.
fn reason(pod: &Pod) -> Option<(String, String)> {
    let phase = pod.status.as_ref()?.phase.as_deref();
    if phase == Some("Succeeded") {
        return None;
    }
    let (meta, why) = (&pod.metadata, why::pod(pod)?);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    Some((format!("{namespace}/{name}"), why))
}

/// Whose words are wanted of a pod: none if it is ready.
fn words(pod: &Pod) -> Vec<Words> {
    if reason(pod).is_none() {
        return Vec::new();
    }
    let status = pod.status.iter();
    let containers = status.flat_map(|status| {
        let first = status.init_container_statuses.iter().flatten();
        first.chain(status.container_statuses.iter().flatten())
    });
    let of = |container: &str, previous| Words {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        container: container.to_owned(),
        previous,
    };
    containers
        .flat_map(|one| {
            let before = (one.restart_count > 0).then(|| of(&one.name, true));
            [of(&one.name, false)].into_iter().chain(before)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_that_are_not_ready_are_asked_and_those_before_too() -> Result<()> {
        let container = |name: &str, restarts: i32| json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": restarts });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "p" },
            "status": {
                "phase": "Running",
                "initContainerStatuses": [container("init", 0)],
                "containerStatuses": [container("main", 2)],
            },
        }))?;
        let files: Vec<String> = words(&pod).iter().map(Words::file).collect();
        assert_eq!(
            files,
            [
                "cluster/logs/n/p/init.log",
                "cluster/logs/n/p/main.log",
                "cluster/logs/n/p/main.before.log"
            ]
        );
        assert_eq!(reason(&pod).map(|(name, _)| name).as_deref(), Some("n/p"));
        let done: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "status": { "phase": "Succeeded", "containerStatuses": [container("main", 0)] },
        }))?;
        assert!(words(&done).is_empty());
        Ok(())
    }

    #[test]
    fn copies_and_noise_are_left_out() -> Result<()> {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {
                "name": "a",
                "managedFields": [{ "manager": "m" }],
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "b": "c" },
            },
            "spec": { "d": 1 },
        }))?;
        let left = plain(object)?;
        assert_eq!(
            left["metadata"],
            json!({ "name": "a", "annotations": { "b": "c" } })
        );
        assert_eq!(left["spec"]["d"], 1);
        assert!(KINDS.iter().all(|kind| kind.gvk[2] != "Secret"));
        Ok(())
    }
}
