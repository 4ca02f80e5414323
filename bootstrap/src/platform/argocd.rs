//! Argo CD: its own manifests, made smaller and closer, on images that are made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::applied::Applied;
use crate::cluster::host::steps::{BUILT, Known};
use crate::cluster::objects::{self, LABEL};
use crate::cluster::ready::Workload;
use crate::plan::step::Planned;
use crate::platform::hosts::hosts;
use crate::platform::images::Images;
use crate::platform::logins;
use crate::secret::Secret;

/// Where it lives.
pub const NAMESPACE: &str = "argocd";
/// What is left out: a second way to log in, and messages, which our collector sends.
const WITHOUT: [&str; 2] = ["argocd-dex-server", "argocd-notifications"];
/// The step that runs it on these images.
///
/// # Errors
/// When its manifest is missing.
pub fn step(known: &Arc<Known>, images: &Images) -> Result<Box<dyn Planned>> {
    let mut wanted = adapted(manifest(known)?, images, known.ways.pull_policy());
    wanted.push(page());
    Ok(Box::new(Applied {
        id: "argocd",
        needs: &["base", "first-images", "dns", "kubelet"],
        limit: Duration::from_secs(300),
        kubeconfig: known.place.kubeconfig(),
        wanted,
        works: WORKLOADS.to_vec(),
    }))
}

/// Its own manifest.
///
/// # Errors
/// When it is missing.
pub fn manifest(known: &Known) -> Result<Vec<Value>> {
    let file = known
        .programs
        .file("argocd-manifests/install.yaml", BUILT)?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    objects::parse(&text)
}

/// Its page behind the ingress.
fn page() -> Value {
    let rules = hosts("argocd").map(|host| {
        json!({ "host": host, "http": { "paths": [{
            "path": "/", "pathType": "Prefix",
            "backend": { "service": { "name": "argocd-server", "port": { "name": "http" } } },
        }] } })
    });
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": "argocd-server", "namespace": NAMESPACE, "labels": { LABEL.0: LABEL.1 },
        },
        "spec": { "ingressClassName": "comind", "rules": rules },
    })
}

/// Argo CD's objects as we want them. Pure.
fn adapted(all: Vec<Value>, images: &Images, pull: &str) -> Vec<Value> {
    let mut kept: Vec<Value> = all
        .into_iter()
        .filter(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            !WITHOUT.iter().any(|left_out| name.starts_with(left_out))
        })
        .collect();
    for object in &mut kept {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if ![
            "CustomResourceDefinition",
            "ClusterRole",
            "ClusterRoleBinding",
        ]
        .contains(&kind.as_str())
        {
            object["metadata"]["namespace"] = NAMESPACE.into();
        }
        match kind.as_str() {
            "Deployment" | "StatefulSet" => {
                adapt_pods(&mut object["spec"]["template"]["spec"], images, pull);
            }
            "ConfigMap" => settings(object),
            _ => {}
        }
    }
    // Definitions first: what is defined by them comes later.
    kept.sort_by_key(|object| object["kind"] != "CustomResourceDefinition");
    kept
}

fn adapt_pods(pod: &mut Value, images: &Images, pull: &str) {
    for list in ["initContainers", "containers"] {
        for container in pod[list].as_array_mut().into_iter().flatten() {
            let of_redis = container["image"]
                .as_str()
                .is_some_and(|image| image.contains("redis"));
            let image = if of_redis {
                &images.redis
            } else {
                &images.argocd
            };
            container["image"] = image.as_str().into();
            container["imagePullPolicy"] = pull.into();
            if container["resources"].is_null() {
                container["resources"] = json!({
                    "requests": { "cpu": "20m", "memory": "64Mi" },
                    "limits": { "memory": "1Gi" },
                });
            }
            // Nobody signs commits here, and the wrapper scripts for that are not in the image.
            if let Some(env) = container["env"].as_array_mut() {
                env.push(json!({ "name": "ARGOCD_GPG_ENABLED", "value": "false" }));
            }
        }
    }
}

fn settings(object: &mut Value) {
    match object["metadata"]["name"].as_str() {
        // TLS ends at the ingress.
        Some("argocd-cmd-params-cm") => object["data"]["server.insecure"] = "true".into(),
        Some("argocd-cm") => {
            object["data"]["timeout.reconciliation"] = "60s".into();
            object["data"]["timeout.reconciliation.jitter"] = "10s".into();
            // A label would be lost with a resource that Helm renames.
            object["data"]["application.resourceTrackingMethod"] = "annotation".into();
        }
        _ => {}
    }
}

const WORKLOADS: [Workload<'static>; 5] = [
    Workload::Deployment(NAMESPACE, "argocd-redis"),
    Workload::Deployment(NAMESPACE, "argocd-repo-server"),
    Workload::Deployment(NAMESPACE, "argocd-server"),
    Workload::Deployment(NAMESPACE, "argocd-applicationset-controller"),
    Workload::StatefulSet(NAMESPACE, "argocd-application-controller"),
];

/// The administrator's first password, which Argo CD has made.
///
/// # Errors
/// When it is not there: Argo CD has not started yet, or it was changed and removed.
pub async fn first_password(kubeconfig: &Path) -> Result<Secret> {
    let client = objects::client(kubeconfig).await?;
    let found = logins::look(
        &client,
        NAMESPACE,
        "argocd-initial-admin-secret",
        "password",
    )
    .await?;
    found.context(
        "Argo CD's first password is not there; it was changed, or Argo CD has not started yet",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_pulled_and_everything_is_in_its_namespace() {
        let text = "kind: Deployment\nmetadata: { name: argocd-server }\nspec: { template: { spec: { containers: [{ name: a, image: 'quay.io/argoproj/argocd:v3', env: [] }] } } }\n---\nkind: Deployment\nmetadata: { name: argocd-redis }\nspec: { template: { spec: { containers: [{ name: redis, image: 'x/redis:8' }] } } }\n---\nkind: Service\nmetadata: { name: argocd-dex-server }\n---\nkind: ConfigMap\nmetadata: { name: argocd-cm }\n---\nkind: CustomResourceDefinition\nmetadata: { name: applications.argoproj.io }\n";
        let all = adapted(
            objects::parse(text).expect("documents"),
            &Images::named(|name| Ok(format!("ours/{name}:1"))).expect("names"),
            "Never",
        );
        insta::assert_json_snapshot!(all);
    }
}
