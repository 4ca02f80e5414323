//! What a cluster's API says of its nodes: how they stand, where they are, which images they have.
//! Pure but for `list`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cluster::kind::Row;
use crate::cluster::why;

/// A kubelet names no more images than this.
const NAMED: usize = 50;

/// All nodes.
///
/// # Errors
/// When the cluster does not answer, in words.
pub async fn list(client: &Client) -> Result<Vec<Node>, String> {
    let all = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await;
    all.map(|all| all.items).map_err(|error| why::error(&error))
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or("?")
}

/// Those that take pods: ready, and not closed.
pub fn usable(nodes: &[Node]) -> impl Iterator<Item = &Node> {
    nodes.iter().filter(|node| {
        let closed = node.spec.as_ref().and_then(|spec| spec.unschedulable);
        why::node(node).is_none() && closed != Some(true)
    })
}

/// A line for each.
pub fn rows(nodes: &[Node]) -> Vec<Row> {
    let row = |node: &Node| {
        let reason = why::node(node);
        let state = match reason {
            None => "running",
            Some(_) => "stopped",
        };
        Row::new(name(node), state, reason)
    };
    nodes.iter().map(row).collect()
}

/// Where the ports of nodes are reached: the address of the first that takes pods.
pub fn address(nodes: &[Node]) -> Option<IpAddr> {
    let first = usable(nodes).next()?;
    let all = first.status.as_ref()?.addresses.as_ref()?;
    let mut inside = all.iter().filter(|one| one.type_ == "InternalIP");
    inside.find_map(|one| one.address.parse().ok())
}

/// Those of these images that a node that takes pods lacks. A node that names as many as it may is
/// taken to have them: its pods will say so if not.
pub fn lacking(nodes: &[Node], wanted: &[String]) -> Vec<String> {
    let has = |node: &Node, image: &String| {
        let all = node
            .status
            .as_ref()
            .and_then(|status| status.images.as_ref());
        let all = all.map(Vec::as_slice).unwrap_or_default();
        let mut names = all.iter().flat_map(|one| one.names.iter().flatten());
        all.len() >= NAMED || names.any(|name| name == image)
    };
    wanted
        .iter()
        .filter(|image| !usable(nodes).all(|node| has(node, image)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: bool, images: &[&str]) -> Node {
        let images: Vec<_> = images
            .iter()
            .map(|name| json!({ "names": [name] }))
            .collect();
        let status = if ready { "True" } else { "False" };
        serde_json::from_value(json!({ "metadata": { "name": "n" }, "status": {
            "conditions": [{ "type": "Ready", "status": status }],
            "addresses": [{ "type": "Hostname", "address": "n" }, { "type": "InternalIP", "address": "10.0.0.7" }],
            "images": images,
        } }))
        .expect("a node")
    }

    #[test]
    fn an_image_counts_when_every_node_that_takes_pods_has_it() {
        let wanted = ["a:1".to_owned(), "b:1".to_owned()];
        let all = [
            node(true, &["a:1", "b:1"]),
            node(true, &["a:1"]),
            node(false, &[]),
        ];
        assert_eq!(lacking(&all, &wanted), ["b:1"]);
        let many: Vec<String> = (0..NAMED).map(|number| format!("c:{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(lacking(&[node(true, &many)], &wanted).is_empty());
    }

    #[test]
    fn its_address_is_that_of_one_that_takes_pods() {
        assert_eq!(address(&[node(false, &[])]), None);
        let found = address(&[node(false, &[]), node(true, &[])]);
        assert_eq!(found, Some(IpAddr::from([10, 0, 0, 7])));
        assert_eq!(rows(&[node(false, &[])])[0].state, "stopped");
    }
}
