//! Argo CD: its own manifests, made smaller and closer, on images that are made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::applied::Applied;
use crate::cluster::host::image::{Base, Recipe};
use crate::cluster::host::images::Images;
use crate::cluster::host::steps::{BUILT, Known};
use crate::cluster::objects;
use crate::cluster::ready::Workload;
use crate::plan::step::Planned;
use crate::platform::logins;
use crate::programs::Programs;
use crate::secret::Secret;

/// Where it lives.
pub const NAMESPACE: &str = "argocd";
/// What is left out: a second way to log in, and messages, which our collector sends.
const WITHOUT: [&str; 2] = ["argocd-dex-server", "argocd-notifications"];
/// The links that choose a role of the one program.
const ROLES: [&str; 6] = [
    "argocd-application-controller",
    "argocd-applicationset-controller",
    "argocd-cmp-server",
    "argocd-k8s-auth",
    "argocd-repo-server",
    "argocd-server",
];
/// Its user, as its manifests have it.
const USER: u64 = 999;

/// The image of Redis that is made for Argo CD, and serves the platform too.
pub struct RedisImage(pub String);

/// The steps: the images, then all that runs on them; and which Redis that is.
///
/// # Errors
/// When a program or a manifest is missing.
pub fn steps(known: &Arc<Known>, base: &Base) -> Result<(Vec<Box<dyn Planned>>, RedisImage)> {
    let (argocd, redis) = recipes(&known.programs, base)?;
    let (image, redis_image) = (argocd.reference()?, redis.reference()?);
    let manifest = known
        .programs
        .file("argocd-manifests/install.yaml", BUILT)?;
    let text = std::fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let wanted = adapted(objects::parse(&text)?, &image, &redis_image);
    let steps: Vec<Box<dyn Planned>> = vec![
        Box::new(Images {
            known: known.clone(),
            id: "argocd-images",
            recipes: vec![(image, argocd), (redis_image.clone(), redis)],
        }),
        Box::new(Applied {
            id: "argocd",
            needs: &["base", "argocd-images", "dns", "kubelet"],
            limit: Duration::from_secs(300),
            kubeconfig: known.place.kubeconfig(),
            wanted,
            works: WORKLOADS.to_vec(),
        }),
    ];
    Ok((steps, RedisImage(redis_image)))
}

fn recipes(programs: &Programs, base: &Base) -> Result<(Recipe, Recipe)> {
    let mut files = Vec::new();
    for (to, name) in [
        ("usr/local/bin/argocd", "argocd"),
        ("usr/local/bin/helm", "helm"),
        ("usr/local/bin/kustomize", "kustomize"),
    ] {
        files.push((to, programs.find(name, BUILT)?));
    }
    let argocd = Recipe {
        name: "argocd",
        base: Some(base.clone()),
        folders: [
            "home/argocd",
            "app",
            "app/config",
            "app/config/ssh",
            "app/config/tls",
            "app/config/gpg",
            "app/config/gpg/source",
            "app/config/gpg/keys",
        ]
        .map(|folder| (folder, USER))
        .to_vec(),
        // git and ssh want to know whom they run as.
        texts: vec![(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nargocd:x:999:999::/home/argocd:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n".to_owned(),
        )],
        files,
        links: ROLES
            .iter()
            .map(|role| (format!("usr/local/bin/{role}"), "argocd"))
            .collect(),
        entrypoint: vec!["/usr/bin/tini", "--"],
        user: "999:999",
    };
    let redis = Recipe {
        name: "redis",
        base: Some(base.clone()),
        entrypoint: vec!["/usr/bin/redis-server"],
        user: "999:999",
        ..Recipe::default()
    };
    Ok((argocd, redis))
}

/// Argo CD's objects as we want them. Pure.
fn adapted(all: Vec<Value>, image: &str, redis: &str) -> Vec<Value> {
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
                adapt_pods(&mut object["spec"]["template"]["spec"], image, redis);
            }
            "ConfigMap" => settings(object),
            _ => {}
        }
    }
    // Definitions first: what is defined by them comes later.
    kept.sort_by_key(|object| object["kind"] != "CustomResourceDefinition");
    kept
}

fn adapt_pods(pod: &mut Value, image: &str, redis: &str) {
    for list in ["initContainers", "containers"] {
        for container in pod[list].as_array_mut().into_iter().flatten() {
            let of_redis = container["image"]
                .as_str()
                .is_some_and(|image| image.contains("redis"));
            container["image"] = if of_redis { redis } else { image }.into();
            container["imagePullPolicy"] = "Never".into();
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

const WORKLOADS: [Workload; 5] = [
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
            "ours/argocd:1",
            "ours/redis:1",
        );
        insta::assert_json_snapshot!(all);
    }
}
