//! Objects in a cluster: what is wanted, what of it lacks, and server-side apply under our name.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use serde_json::Value;

use crate::cause::{self, Passing};
use crate::cluster::why;
use crate::fingerprint;
use crate::plan::step::Change;

/// Who owns the fields that we set.
pub const MANAGER: &str = "comind-ops";
/// What we make carries this; only what carries it is ever removed.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "comind-ops");

/// A client for the cluster that a kubeconfig names.
///
/// # Errors
/// When the file cannot be read.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    client_of(read).await
}

/// A client by a kubeconfig that is no file.
///
/// # Errors
/// When it is none.
pub async fn client_by(kubeconfig: &Value) -> Result<Client> {
    let read = serde_json::from_value(kubeconfig.clone()).context("it is no kubeconfig")?;
    client_of(read).await
}

async fn client_of(read: Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(std::time::Duration::from_secs(2));
    config.read_timeout = Some(std::time::Duration::from_secs(20));
    Ok(Client::try_from(config)?)
}

/// The objects of a file with several documents; each gets our label.
///
/// # Errors
/// With what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let mut all: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| anyhow!("a manifest is wrong: {error}"))?;
    all.retain(Value::is_object);
    for object in &mut all {
        object["metadata"]["labels"][LABEL.0] = LABEL.1.into();
    }
    Ok(all)
}

/// A manifest with a mark of all that is in it at `@EDITION@`: where a pod carries that, another
/// configuration starts it anew.
pub fn with_edition(text: &str) -> String {
    text.replace("@EDITION@", &fingerprint::of_bytes(text.as_bytes()))
}

/// What an object is called, for people: `Deployment kube-system/coredns`.
pub fn title(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("?");
    let name = object["metadata"]["name"].as_str().unwrap_or("?");
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// One object, and how it is in the cluster. Not to be shown: it may be a secret.
#[derive(Clone)]
pub struct Seen {
    wanted: Value,
    live: Option<Value>,
}

impl Seen {
    /// Whether the object is there and does not carry our label: somebody else has made it.
    pub fn stranger(&self) -> Option<String> {
        let labels = &self.live.as_ref()?["metadata"]["labels"];
        (labels[LABEL.0] != LABEL.1).then(|| title(&self.wanted))
    }

    /// As it is in the cluster, if it is.
    pub fn live(&self) -> Option<&Value> {
        self.live.as_ref()
    }

    /// Whether it is in the cluster.
    pub fn is_there(&self) -> bool {
        self.live.is_some()
    }

    /// What it is called, for people.
    pub fn title(&self) -> String {
        title(&self.wanted)
    }

    /// A label that it has in the cluster.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.live.as_ref()?["metadata"]["labels"][key].as_str()
    }
}

/// Looks for these objects.
///
/// # Errors
/// When the cluster does not answer, or does not know their kind.
pub async fn look(client: &Client, wanted: &[Value]) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    for object in wanted {
        all.push(look_at(client, object).await?);
    }
    Ok(all)
}

/// Looks at one of them anew.
///
/// # Errors
/// When the cluster does not answer.
pub async fn again(client: &Client, seen: &Seen) -> Result<Seen> {
    look_at(client, &seen.wanted).await
}

async fn look_at(client: &Client, object: &Value) -> Result<Seen> {
    let found = api(client, object)?
        .get_opt(name(object)?)
        .await
        .with_context(|| format!("cannot look at {}", title(object)))?;
    Ok(Seen {
        wanted: object.clone(),
        live: found.map(serde_json::to_value).transpose()?,
    })
}

/// What differs, in words. Pure.
pub fn diff(seen: &[Seen]) -> Vec<Change> {
    seen.iter()
        .filter_map(|Seen { wanted, live }| match live {
            None => Some(Change::new(format!("make {}", title(wanted)))),
            Some(live) => lacks(wanted, live, String::new())
                .map(|field| Change::new(format!("set {field} of {}", title(wanted)))),
        })
        .collect()
}

/// The first field that is wanted and not so. What others have set besides is theirs.
pub fn lacks(wanted: &Value, live: &Value, at: String) -> Option<String> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().find_map(|(key, value)| {
            let at = format!("{at}.{key}");
            match live.get(key) {
                Some(found) => lacks(value, found, at),
                // The server leaves out what is empty.
                None if is_empty(value) => None,
                None => Some(at),
            }
        }),
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => wanted
            .iter()
            .zip(live)
            .enumerate()
            .find_map(|(index, (wanted, live))| lacks(wanted, live, format!("{at}[{index}]"))),
        (wanted, live) if wanted == live => None,
        _ => Some(at),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Applies those that differ.
///
/// # Errors
/// With the object that was refused, and why.
pub async fn apply(client: &Client, seen: &[Seen]) -> Result<()> {
    for one in seen {
        if diff(std::slice::from_ref(one)).is_empty() {
            continue;
        }
        let params = PatchParams::apply(MANAGER).force();
        api(client, &one.wanted)?
            .patch(name(&one.wanted)?, &params, &Patch::Apply(&one.wanted))
            .await
            .map_err(|error| refused(&title(&one.wanted), &error))?;
    }
    Ok(())
}

/// Removes an object, if it is there and carries our label.
///
/// # Errors
/// When the cluster refuses.
pub async fn remove(client: &Client, seen: &Seen) -> Result<()> {
    if seen.live.is_none() || seen.stranger().is_some() {
        return Ok(());
    }
    let deleted = api(client, &seen.wanted)?
        .delete(name(&seen.wanted)?, &DeleteParams::default())
        .await;
    deleted
        .map(drop)
        .map_err(|error| refused(&format!("to remove {}", seen.title()), &error))
}

fn refused(what: &str, error: &kube::Error) -> anyhow::Error {
    let words = format!("the cluster refused {what}: {}", why::error(error));
    match cause::of_api_passes(error) {
        true => Passing(words).into(),
        false => anyhow!(words),
    }
}

fn name(object: &Value) -> Result<&str> {
    object["metadata"]["name"]
        .as_str()
        .context("an object has no name")
}

fn api(client: &Client, object: &Value) -> Result<Api<DynamicObject>> {
    let text = |key: &str| object[key].as_str().context("an object has no kind");
    let version = text("apiVersion")?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, text("kind")?);
    let resource = ApiResource::from_gvk(&kind);
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_wanted_is_compared() {
        let wanted =
            json!({ "spec": { "replicas": 1, "list": [{ "a": 1 }], "none": {}, "text": "" } });
        let live = json!({ "spec": { "replicas": 1, "list": [{ "a": 1, "b": 2 }] }, "status": {} });
        assert_eq!(lacks(&wanted, &live, String::new()), None);
        let other = json!({ "spec": { "replicas": 1, "list": [{ "a": 2 }] } });
        assert_eq!(
            lacks(&wanted, &other, String::new()).as_deref(),
            Some(".spec.list[0].a")
        );
        let fewer = json!({ "spec": { "replicas": 1, "list": [] } });
        assert_eq!(
            lacks(&wanted, &fewer, String::new()).as_deref(),
            Some(".spec.list")
        );
        assert_eq!(
            lacks(&wanted, &json!({}), String::new()).as_deref(),
            Some(".spec")
        );
    }

    #[test]
    fn documents_are_told_apart_and_labelled() -> Result<()> {
        let all = parse(
            "apiVersion: v1\nkind: Namespace\nmetadata: { name: a }\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: b, namespace: a }\n",
        )?;
        let titles: Vec<_> = all.iter().map(title).collect();
        assert_eq!(titles, ["Namespace a", "ConfigMap a/b"]);
        assert!(
            all.iter()
                .all(|one| one["metadata"]["labels"][LABEL.0] == LABEL.1)
        );
        Ok(())
    }
}
