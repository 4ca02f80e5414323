//! What a cluster that is there already says of itself, and what it lacks for the platform.

use anyhow::{Result, anyhow};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use crate::cluster::env::Env;
use crate::cluster::{nodes, objects, why};

/// The first version that has all that we apply: Pod Security admission is stable in it.
const OLDEST: u32 = 25;

/// What the platform does there: a verb, a group and a resource each.
const DEEDS: [(&str, &str, &str); 10] = [
    ("patch", "", "namespaces"),
    ("patch", "", "secrets"),
    ("patch", "", "resourcequotas"),
    ("patch", "apps", "deployments"),
    ("patch", "apps", "statefulsets"),
    ("patch", "networking.k8s.io", "networkpolicies"),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
    ("patch", "rbac.authorization.k8s.io", "clusterroles"),
    // Who gives rights that he has not himself needs this one.
    ("escalate", "rbac.authorization.k8s.io", "clusterroles"),
    ("bind", "rbac.authorization.k8s.io", "clusterroles"),
];

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    /// Kubernetes' version.
    pub version: String,
    /// The minor one, where it could be read.
    pub minor: Option<u32>,
    /// Deeds that are not allowed.
    pub denied: Vec<String>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Whether volumes are made for whoever wants one of no particular kind.
    pub volumes: bool,
    /// Objects in our places that are not ours, and whose they are.
    pub strangers: Vec<String>,
}

/// The version of the API's server.
///
/// # Errors
/// When it does not answer, in words.
pub async fn version(client: &Client) -> Result<(String, Option<u32>)> {
    let info = client.apiserver_version().await;
    let info =
        info.map_err(|error| anyhow!("the cluster does not answer: {}", why::error(&error)))?;
    let digits: String = info
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Ok((info.git_version, digits.parse().ok()))
}

/// Looks; changes nothing. `places` are objects that have to be ours where they are.
///
/// # Errors
/// When it does not answer.
pub async fn look(client: &Client, env: Env, places: &[Value]) -> Result<Looks> {
    let (version, minor) = version(client).await?;
    let denied = denied(client).await?;
    if !denied.is_empty() {
        // Who may do so little may not see the rest.
        return Ok(Looks {
            version,
            minor,
            denied,
            ..Looks::default()
        });
    }
    let seen = objects::look(client, places).await?;
    Ok(Looks {
        version,
        minor,
        denied,
        nodes: nodes::list(client).await.map_err(|why| anyhow!(why))?,
        volumes: volumes(client).await?,
        strangers: strangers(&seen, env),
    })
}

fn strangers(seen: &[objects::Seen], env: Env) -> Vec<String> {
    let whose = |one: &objects::Seen| {
        let title = one
            .stranger()
            .map(|title| format!("{title}, which is not ours"));
        let other = one
            .label("comind.pro/env")
            .filter(|other| *other != env.name());
        title.or_else(|| other.map(|other| format!("the platform of ENV={other}")))
    };
    let mut all: Vec<String> = seen.iter().filter_map(whose).collect();
    all.dedup();
    all
}

async fn may(client: &Client, (verb, group, resource): (&str, &str, &str)) -> Result<bool> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let asked = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await;
    let asked = asked.map_err(|error| anyhow!("cannot ask for rights: {}", why::error(&error)))?;
    Ok(asked.status.is_some_and(|status| status.allowed))
}

async fn denied(client: &Client) -> Result<Vec<String>> {
    if may(client, ("*", "*", "*")).await? {
        return Ok(Vec::new());
    }
    let mut denied = Vec::new();
    for deed in DEEDS {
        if !may(client, deed).await? {
            denied.push(format!("{} {}", deed.0, deed.2));
        }
    }
    Ok(denied)
}

async fn volumes(client: &Client) -> Result<bool> {
    let all = Api::<StorageClass>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let all =
        all.map_err(|error| anyhow!("cannot list storage classes: {}", why::error(&error)))?;
    Ok(all.items.iter().any(|class| {
        let notes = class.metadata.annotations.as_ref();
        let default =
            notes.and_then(|notes| notes.get("storageclass.kubernetes.io/is-default-class"));
        default.is_some_and(|default| default == "true")
    }))
}

impl Looks {
    /// What it lacks, in words that say what to do. Pure.
    pub fn lacks(&self, architecture: &str) -> Vec<String> {
        let mut all = Vec::new();
        if self.minor.is_some_and(|minor| minor < OLDEST) {
            let version = &self.version;
            all.push(format!("Kubernetes 1.{OLDEST} or newer: it is {version}"));
        }
        if !self.denied.is_empty() {
            let denied = self.denied.join(", ");
            all.push(format!(
                "rights: its user may not {denied}; cluster-admin has all of them"
            ));
            return all;
        }
        match nodes::usable(&self.nodes).next() {
            None => all.push("a node that is ready and takes pods".to_owned()),
            Some(_) => all.extend(self.of_another_kind(architecture)),
        }
        if !self.volumes {
            all.push("a default storage class: volumes would not be made".to_owned());
        }
        if !self.strangers.is_empty() {
            let strangers = self.strangers.join("; ");
            all.push(format!("room: there is {strangers}"));
        }
        all
    }

    fn of_another_kind(&self, architecture: &str) -> Option<String> {
        let of = |node: &Node| {
            Some(
                node.status
                    .as_ref()?
                    .node_info
                    .as_ref()?
                    .architecture
                    .clone(),
            )
        };
        let other = nodes::usable(&self.nodes)
            .filter_map(of)
            .find(|one| one != architecture)?;
        Some(format!(
            "nodes of this machine's kind: images are made for {architecture}, and a node is {other}"
        ))
    }
}

/// This machine's architecture, as nodes name theirs.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(architecture: &str) -> Node {
        let info = json!({ "architecture": architecture, "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "" });
        serde_json::from_value(json!({ "status": { "nodeInfo": info, "conditions": [{ "type": "Ready", "status": "True" }] } })).expect("a node")
    }

    #[test]
    fn what_lacks_is_said_with_what_to_do() {
        let good = Looks {
            version: "v1.34.2".into(),
            minor: Some(34),
            nodes: vec![node("amd64")],
            volumes: true,
            ..Looks::default()
        };
        assert!(good.lacks("amd64").is_empty());
        let weak = Looks {
            version: "v1.21.0".into(),
            minor: Some(21),
            denied: vec!["patch namespaces".into()],
            ..Looks::default()
        };
        insta::assert_snapshot!(weak.lacks("amd64").join("\n"), @r"
        Kubernetes 1.25 or newer: it is v1.21.0
        rights: its user may not patch namespaces; cluster-admin has all of them
        ");
        let poor = Looks {
            version: "v1.34.2".into(),
            minor: Some(34),
            denied: Vec::new(),
            nodes: vec![node("arm64")],
            volumes: false,
            strangers: vec!["Namespace monitoring, which is not ours".into()],
        };
        insta::assert_snapshot!(poor.lacks("amd64").join("\n"), @r"
        nodes of this machine's kind: images are made for amd64, and a node is arm64
        a default storage class: volumes would not be made
        room: there is Namespace monitoring, which is not ours
        ");
        let empty = Looks {
            nodes: Vec::new(),
            ..good
        };
        assert_eq!(
            empty.lacks("amd64"),
            ["a node that is ready and takes pods"]
        );
    }
}
