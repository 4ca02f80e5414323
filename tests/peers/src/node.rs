//! A web server on Node.js, with WebSockets by its usual library: what a proxy has to carry.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::http::get;
use crate::peer::{Peer, Plan, is_peer, own_file};
use crate::process::Launch;
use crate::tool::Tool;

const NODE: Tool = Tool::debian("node", "nodejs");
const SERVER: &str = include_str!("node/server.js");

/// Where Debian puts libraries, also for a Node that is not Debian's.
const LIBRARIES: &str = "/usr/share/nodejs";

/// The objects of a service `web` (`http`, and `closed`, where nobody listens) before so many pods with
/// this server. They run this machine's own Node.js in whichever `image` their node has: nothing is
/// pulled.
pub fn service(image: &str, replicas: u32) -> Value {
    let host = |name: &str, path: &str| json!({ "name": name, "hostPath": { "path": path } });
    let at = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
    let pod = json!({
        "terminationGracePeriodSeconds": 2,
        "containers": [{
            "name": "web", "image": image, "imagePullPolicy": "Never",
            "command": ["/usr/bin/node", "/web/server.js", "8080"],
            "env": [{ "name": "NODE_PATH", "value": LIBRARIES }],
            "readinessProbe": { "httpGet": { "path": "/aborted", "port": 8080 }, "periodSeconds": 1 },
            "volumeMounts": [at("script", "/web"), at("usr", "/usr"), at("lib", "/lib"), at("lib64", "/lib64")],
        }],
        "volumes": [
            { "name": "script", "configMap": { "name": "web" } },
            host("usr", "/usr"), host("lib", "/usr/lib"), host("lib64", "/usr/lib64"),
        ],
    });
    let script = SERVER.replace("'127.0.0.1'", "'0.0.0.0'");
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "web" },
          "data": { "server.js": script } },
        { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
          "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod } } },
        { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
          "spec": { "selector": { "app": "web" }, "ports": [
            { "name": "http", "port": 80, "targetPort": 8080 },
            { "name": "closed", "port": 81, "targetPort": 9 },
          ] } },
    ] })
}

/// A running one.
#[derive(Debug)]
pub struct Node {
    peer: Peer,
}

is_peer!(Node);

impl Node {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        ensure!(
            Path::new(LIBRARIES).join("ws").exists(),
            "Node.js lacks its library ws; install it: apt-get install node-ws (make setup-test)"
        );
        let make = async |dir: &Path, port: u16| {
            let script = own_file(dir, "server.js", None, SERVER)?;
            let launch = Launch::new(NODE.find()?, dir)
                .arg(script)
                .arg(port.to_string())
                .env("NODE_PATH", LIBRARIES);
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Ok(Plan::new(launch, move || async move {
                get(addr, "/aborted").await.map(drop)
            }))
        };
        let peer = Peer::start("node", None, make).await?;
        Ok(Self { peer })
    }
}
