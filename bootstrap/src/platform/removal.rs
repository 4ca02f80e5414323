//! Takes the platform out of a cluster that is not ours: what Argo CD has made, the namespaces, and
//! what of the whole cluster carries our label. Nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams,
    PropagationPolicy,
};
use kube::core::GroupVersionKind;
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::cluster::env::Env;
use crate::cluster::known::Known;
use crate::cluster::objects::{self, LABEL};
use crate::cluster::why;
use crate::event::{Level, Report, say};
use crate::platform::{argocd, rooms, sealed_secrets};
use crate::wait::{Gave, Look, until};

/// How long Argo CD may take to remove what it has made.
const APPLICATIONS: Duration = Duration::from_secs(120);
/// How long namespaces may take to end with all that is in them.
const NAMESPACES: Duration = Duration::from_secs(180);
/// How long one of its objects of the whole cluster may take to end.
const ENDING: Duration = Duration::from_secs(60);
/// While an application carries this, Argo CD removes what it has made before it lets it go.
const CASCADE: &str = "resources-finalizer.argocd.argoproj.io";

/// The objects of the whole cluster that have to be ours where they are: namespaces, and Argo CD's
/// definitions. Pure.
pub fn places(env: Env) -> Vec<Value> {
    let rooms = rooms::objects(env).into_iter();
    let mut all: Vec<Value> = rooms.filter(|one| one["kind"] == "Namespace").collect();
    for kind in ["applications", "applicationsets", "appprojects"] {
        all.push(definition(&format!("{kind}.argoproj.io")));
    }
    all
}

fn definition(name: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": name, "labels": { LABEL.0: LABEL.1 } },
    })
}

/// Those of the platform's namespaces that there are, and are ours.
async fn namespaces(client: &Client, env: Env) -> Result<Vec<String>> {
    let ours = format!("{}={},comind.pro/env={}", LABEL.0, LABEL.1, env.name());
    let all = Api::<Namespace>::all(client.clone())
        .list(&ListParams::default().labels(&ours))
        .await
        .map_err(|error| anyhow!("cannot list namespaces: {}", why::error(&error)))?;
    let names = all.items.into_iter();
    Ok(names.filter_map(|one| one.metadata.name).collect())
}

/// What `remove` would remove.
///
/// # Errors
/// When the cluster does not answer.
pub async fn belongings(known: &Known) -> Result<Vec<String>> {
    if !known.place.kubeconfig().exists() {
        // It never came so far as to use the cluster.
        return Ok(Vec::new());
    }
    let client = objects::client(&known.place.kubeconfig()).await?;
    let all = namespaces(&client, known.place.env).await?;
    let of = &known.ways.context;
    let one =
        |name: String| format!("namespace {name} of the cluster of context {of}, with volumes");
    Ok(all.into_iter().map(one).collect())
}

/// Removes it.
///
/// # Errors
/// When the cluster does not answer, or something does not end.
pub async fn remove(known: &Known, report: &dyn Report) -> Result<()> {
    if !known.place.kubeconfig().exists() {
        return Ok(());
    }
    let client = objects::client(&known.place.kubeconfig()).await?;
    let rooms = namespaces(&client, known.place.env).await?;
    if rooms.iter().any(|name| name == argocd::NAMESPACE) {
        end_applications(&client, report).await?;
    }
    end_namespaces(&client, &rooms, report).await?;
    let mut wanted = rooms::objects(known.place.env);
    wanted.extend(argocd::manifest(known)?);
    wanted.extend(sealed_secrets::manifest(&known.ways)?);
    wanted.push(definition("monitors.comind.pro"));
    wanted.retain(|one| one["metadata"]["namespace"].is_null() && one["kind"] != "Namespace");
    let mut ours = objects::look(&client, &wanted).await?;
    ours.retain(|one| one.stranger().is_none());
    for one in &ours {
        objects::remove(&client, one).await?;
    }
    all_gone(&client, &ours, report).await
}

/// A definition ends a moment after it was told to, when nothing of its kind is left.
async fn all_gone(client: &Client, ours: &[objects::Seen], report: &dyn Report) -> Result<()> {
    for one in ours.iter().filter(|one| one.is_there()) {
        let ended = until(
            ENDING,
            |why| say(report, Level::Waiting, format!("waiting: {why}")),
            || async {
                match objects::again(client, one).await {
                    Ok(now) if now.is_there() => Look::NotYet(format!("{} ends", now.title())),
                    Ok(_) => Look::Done(()),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                }
            },
        );
        match ended.await {
            Ok(()) => say(report, Level::Changed, format!("removed {}", one.title())),
            Err(Gave::TimedOut(why) | Gave::Hopeless(why)) => bail!("not gone yet: {why}"),
        }
    }
    Ok(())
}

fn of_argocd(client: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", kind);
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(client.clone(), argocd::NAMESPACE, &resource)
}

async fn names(api: &Api<DynamicObject>) -> Result<Vec<String>> {
    match api.list(&ListParams::default()).await {
        Ok(all) => Ok(all
            .items
            .into_iter()
            .filter_map(|one| one.metadata.name)
            .collect()),
        // Its definition is gone, and all of its kind with it.
        Err(Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => bail!("cannot list what Argo CD keeps: {}", why::error(&error)),
    }
}

/// First what would make applications anew, then they themselves with all that they have made.
async fn end_applications(client: &Client, report: &dyn Report) -> Result<()> {
    let (sets, all) = (
        of_argocd(client, "ApplicationSet"),
        of_argocd(client, "Application"),
    );
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    gone(
        all.delete("platform", &DeleteParams::default())
            .await
            .map(drop),
    )?;
    for name in names(&sets).await? {
        gone(sets.delete(&name, &orphan).await.map(drop))?;
    }
    for name in names(&all).await? {
        finalizers(&all, &name, &[CASCADE]).await?;
        gone(all.delete(&name, &DeleteParams::default()).await.map(drop))?;
    }
    let ended = until(
        APPLICATIONS,
        |why| say(report, Level::Waiting, format!("waiting: {why}")),
        || none_left(&all, "Argo CD removes"),
    )
    .await;
    if let Err(Gave::TimedOut(why) | Gave::Hopeless(why)) = ended {
        let text =
            format!("{why}, and has not done so: what it made outside of our namespaces may stay");
        say(report, Level::Warning, text);
        for name in names(&all).await? {
            finalizers(&all, &name, &[]).await?;
        }
    }
    Ok(())
}

async fn none_left(all: &Api<DynamicObject>, what: &str) -> Look<(), String> {
    match names(all).await {
        Ok(left) if left.is_empty() => Look::Done(()),
        Ok(left) => Look::NotYet(format!("{what} {}", left.join(", "))),
        Err(error) => Look::NotYet(format!("{error:#}")),
    }
}

async fn finalizers(all: &Api<DynamicObject>, name: &str, wanted: &[&str]) -> Result<()> {
    let patch = json!({ "metadata": { "finalizers": wanted } });
    let patched = all
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    gone(patched.map(drop))
}

/// What is gone already is as wanted.
fn gone(done: Result<(), Error>) -> Result<()> {
    match done {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => bail!(
            "cannot take Argo CD's applications down: {}",
            why::error(&error)
        ),
        Ok(()) => Ok(()),
    }
}

async fn end_namespaces(client: &Client, rooms: &[String], report: &dyn Report) -> Result<()> {
    let api = Api::<Namespace>::all(client.clone());
    for name in rooms {
        gone(api.delete(name, &DeleteParams::default()).await.map(drop))
            .with_context(|| format!("namespace {name}"))?;
    }
    let ended = until(
        NAMESPACES,
        |why| say(report, Level::Waiting, format!("waiting: {why}")),
        || all_ended(&api, rooms),
    );
    match ended.await {
        Ok(()) => {
            for name in rooms {
                say(report, Level::Changed, format!("removed namespace {name}"));
            }
            Ok(())
        }
        Err(Gave::TimedOut(why) | Gave::Hopeless(why)) => bail!("not gone yet: {why}"),
    }
}

async fn all_ended(api: &Api<Namespace>, rooms: &[String]) -> Look<(), String> {
    for name in rooms {
        match api.get_opt(name).await {
            Ok(None) => {}
            Ok(Some(namespace)) => return Look::NotYet(ending(name, &namespace)),
            Err(error) => return Look::NotYet(why::error(&error)),
        }
    }
    Look::Done(())
}

/// Why a namespace has not ended, as it says itself.
fn ending(name: &str, namespace: &Namespace) -> String {
    let status = namespace.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let holds = conditions
        .into_iter()
        .flatten()
        .find(|one| one.status == "True");
    match holds.and_then(|one| one.message.as_deref()) {
        Some(why) => format!("namespace {name}: {why}"),
        None => format!("namespace {name} ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::places;
    use crate::cluster::env::Env;
    use crate::cluster::objects::title;

    #[test]
    fn namespaces_and_definitions_have_to_be_ours() {
        let all: Vec<String> = places(Env::Qa).iter().map(title).collect();
        assert!(all.contains(&"Namespace platform-qa".to_owned()), "{all:?}");
        assert!(all.contains(&"CustomResourceDefinition applications.argoproj.io".to_owned()));
        assert_eq!(all.len(), 10);
    }
}
