//! The Ingress controller on a real kube-apiserver. The test writes the endpoint slices that the
//! cluster's own controllers would write.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::tls::Certificate;
use comind_peers::wait::wait_for;
use http::Method;
use serde_json::{Value, json};

use super::curl::{Seen, curl};
use crate::serve::{LATER, Serve};

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const SERVICES: &str = "/api/v1/namespaces/shop/services";

pub(super) struct Cluster {
    pub(super) api: KubeApi,
    pub(super) port: Port,
    tls: Port,
}

impl Cluster {
    pub(super) async fn start() -> Result<Self> {
        let api = KubeApi::start().await?;
        api.make_namespace("shop").await?;
        let class = json!({ "metadata": { "name": "edge" }, "spec": { "controller": "comind.pro/ingress" } });
        let cluster = Self {
            api,
            port: Port::free()?,
            tls: Port::free()?,
        };
        cluster
            .post("/apis/networking.k8s.io/v1/ingressclasses", &class)
            .await?;
        Ok(cluster)
    }

    pub(super) fn config(&self, kubeconfig: &Path) -> String {
        format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  tls: {{ listen: {} }}\n  \
             kubernetes: {{ kubeconfig: {}, status: [192.0.2.10] }}\n",
            self.port.addr(),
            self.tls.addr(),
            kubeconfig.display()
        )
    }

    async fn serve(&self) -> Result<Serve> {
        Serve::start_with(&self.config(self.api.kubeconfig())).await
    }

    async fn post(&self, path: &str, object: &Value) -> Result<()> {
        self.api
            .request(Method::POST, path, &object.to_string())
            .await
            .map(drop)
    }

    async fn patch(&self, path: &str, object: &Value) -> Result<()> {
        self.api
            .request(Method::PATCH, path, &object.to_string())
            .await
            .map(drop)
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.api.request(Method::DELETE, path, "").await.map(drop)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.api.request(Method::GET, path, "").await?,
        )?)
    }

    /// A service whose only pod is at this address.
    pub(super) async fn service(&self, name: &str, pod: SocketAddr) -> Result<()> {
        let ports = json!([{ "name": "http", "port": 80, "targetPort": "web" }]);
        let service = json!({ "metadata": { "name": name }, "spec": { "ports": ports, "selector": { "app": name } } });
        self.post(SERVICES, &service).await?;
        let slice = json!({
            "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": pod.port() }],
            "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
        });
        // A real cluster refuses loopback here, and so the address is that of the machine.
        let mut slice = slice;
        slice["endpoints"][0]["addresses"][0] = json!(pod.ip().to_string());
        self.post(SLICES, &slice).await
    }

    pub(super) async fn ingress(
        &self,
        name: &str,
        class: &str,
        annotations: Value,
        rules: Value,
        more: Value,
    ) -> Result<()> {
        let mut spec = json!({ "ingressClassName": class, "rules": rules });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        let object =
            json!({ "metadata": { "name": name, "annotations": annotations }, "spec": spec });
        self.post(INGRESSES, &object).await
    }

    pub(super) async fn ask(&self, host: &str, path: &str) -> Result<Seen> {
        curl(
            self.port.addr(),
            &format!("http://{host}:{}{path}", self.port.number()),
            &[],
        )
        .await
    }

    /// Waits until this is answered so.
    pub(super) async fn until(
        &self,
        serve: &Serve,
        host: &str,
        path: &str,
        good: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        let what = format!("{host}{path}");
        let waited = wait_for(&what, LATER, async || {
            let seen = self.ask(host, path).await?;
            ensure!(good(&seen), "{seen:?}");
            Ok(seen)
        });
        waited.await.map_err(|error| serve.blame(error))
    }

    /// Waits until an Event of this reason stands by the Ingress.
    pub(super) async fn until_told(
        &self,
        serve: &Serve,
        ingress: &str,
        reason: &str,
    ) -> Result<String> {
        let what = format!("an Event {reason}");
        let waited = wait_for(&what, LATER, async || {
            let events = self
                .get("/apis/events.k8s.io/v1/namespaces/shop/events")
                .await?;
            let fits =
                |event: &&Value| event["regarding"]["name"] == ingress && event["reason"] == reason;
            let found = events["items"].as_array().into_iter().flatten().find(fits);
            let note = found.context("no such Event")?["note"]
                .as_str()
                .unwrap_or_default();
            Ok(note.to_owned())
        });
        waited.await.map_err(|error| serve.blame(error))
    }
}

pub(super) fn rule(host: &str, path: &str, kind: &str, service: &str) -> Value {
    json!({ "host": host, "http": { "paths": [{
        "path": path, "pathType": kind, "backend": { "service": { "name": service, "port": { "name": "http" } } },
    }] } })
}

/// An address of this machine that a cluster takes for a pod's.
fn own_address() -> Result<std::net::IpAddr> {
    // Nothing is sent: the kernel only says which address it would use.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip())
}

/// A pod: a relay from an address that a cluster takes to the server on loopback.
pub(super) async fn pod(server: SocketAddr) -> Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind((own_address()?, 0)).await?;
    let addr = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut server) = tokio::net::TcpStream::connect(server).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    Ok((addr, task))
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_become_routes_at_once() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("web", pod).await?;
    let rules = json!([
        rule("app.test", "/exact", "Exact", "web"),
        rule("app.test", "/pre", "Prefix", "web")
    ]);
    cluster
        .ingress("first", "comind", json!({}), rules, json!({}))
        .await?;
    let serve = cluster.serve().await?;
    for (path, wanted) in [
        ("/exact", 200),
        ("/exact/x", 404),
        ("/pre", 200),
        ("/pre/x", 200),
        ("/prefix", 404),
        ("/", 404),
    ] {
        cluster
            .until(&serve, "app.test", path, |seen| seen.status == wanted)
            .await?;
    }
    ensure!(cluster.ask("other.test", "/pre").await?.status == 404);

    // Changes count at once: another class that is ours by its controller, a wildcard, a default.
    cluster
        .ingress(
            "second",
            "edge",
            json!({}),
            json!([rule("*.wild.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    cluster
        .until(&serve, "a.wild.test", "/", |seen| seen.status == 200)
        .await?;
    let default =
        json!({ "defaultBackend": { "service": { "name": "web", "port": { "number": 80 } } } });
    cluster
        .ingress("third", "nginx", json!({}), json!([]), default)
        .await?;
    cluster
        .until(&serve, "whoever.test", "/", |seen| seen.status == 200)
        .await?;
    cluster
        .ingress(
            "foreign",
            "haproxy",
            json!({}),
            json!([rule("foreign.test", "/", "Prefix", "none")]),
            json!({}),
        )
        .await?;
    cluster.delete(&format!("{INGRESSES}/third")).await?;
    cluster
        .until(&serve, "whoever.test", "/", |seen| seen.status == 404)
        .await?;
    ensure!(cluster.ask("foreign.test", "/").await?.status == 404);

    // The address stands in the status of ours, and of ours alone.
    wait_for("the status", LATER, async || {
        let first = cluster.get(&format!("{INGRESSES}/first")).await?;
        ensure!(
            first["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.10",
            "{first}"
        );
        Ok(())
    })
    .await?;
    let foreign = cluster.get(&format!("{INGRESSES}/foreign")).await?;
    ensure!(foreign["status"]["loadBalancer"] == json!({}), "{foreign}");

    // A pod that is not ready gets nothing, and the answer says what is missing.
    let unready = json!({ "endpoints": [{ "addresses": [pod.ip().to_string()], "conditions": { "ready": false } }] });
    cluster.patch(&format!("{SLICES}/web-1"), &unready).await?;
    let seen = cluster
        .until(&serve, "app.test", "/pre", |seen| seen.status == 503)
        .await?;
    ensure!(
        seen.body.contains("service shop/web has no ready endpoint")
            && seen.head.contains("retry-after: 5"),
        "{seen:?}"
    );
    let ready = json!({ "endpoints": [{ "addresses": [pod.ip().to_string()], "conditions": { "ready": true } }] });
    cluster.patch(&format!("{SLICES}/web-1"), &ready).await?;
    cluster
        .until(&serve, "app.test", "/pre", |seen| seen.status == 200)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_made_for_ingress_nginx_work() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("web", pod).await?;
    let prefix = "nginx.ingress.kubernetes.io";
    let rewrite = json!({ format!("{prefix}/rewrite-target"): "/$2", format!("{prefix}/proxy-body-size"): "1k" });
    let paths = json!([rule(
        "app.test",
        "/api(/|$)(.*)",
        "ImplementationSpecific",
        "web"
    )]);
    cluster
        .ingress("rewrite", "nginx", rewrite, paths, json!({}))
        .await?;
    let closed = json!({ format!("{prefix}/whitelist-source-range"): "10.99.0.0/16" });
    cluster
        .ingress(
            "closed",
            "nginx",
            closed,
            json!([rule("closed.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    let nobody = json!({ format!("{prefix}/whitelist-source-range"): "everybody" });
    cluster
        .ingress(
            "nobody",
            "nginx",
            nobody,
            json!([rule("nobody.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    let moved = json!({ format!("{prefix}/permanent-redirect"): "https://elsewhere.test/" });
    cluster
        .ingress(
            "moved",
            "nginx",
            moved,
            json!([rule("moved.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    let snippet = json!({ format!("{prefix}/configuration-snippet"): "deny all;" });
    cluster
        .ingress(
            "snippet",
            "nginx",
            snippet,
            json!([rule("snippet.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    let serve = cluster.serve().await?;
    let seen = cluster
        .until(&serve, "app.test", "/api/v1/x?y=z", |seen| {
            seen.status == 200
        })
        .await?;
    ensure!(seen.body.contains("\"url\":\"/v1/x?y=z\""), "{seen:?}");
    let large = "x".repeat(2000);
    let url = format!("http://app.test:{}/api/up", cluster.port.number());
    let seen = curl(cluster.port.addr(), &url, &["--data", &large]).await?;
    ensure!(seen.status == 413, "{seen:?}");
    ensure!(cluster.ask("closed.test", "/").await?.status == 403);
    ensure!(cluster.ask("nobody.test", "/").await?.status == 404);
    let moved = cluster.ask("moved.test", "/").await?;
    ensure!(
        moved.status == 301 && moved.head.contains("location: https://elsewhere.test/"),
        "{moved:?}"
    );
    // Served without what is not obeyed, and that is said.
    ensure!(cluster.ask("snippet.test", "/").await?.status == 200);
    let note = cluster
        .until_told(&serve, "snippet", "UnknownAnnotation")
        .await?;
    ensure!(note.contains("configuration-snippet"), "{note}");
    cluster
        .until_told(&serve, "nobody", "NobodyAllowed")
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_from_secrets() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("web", pod).await?;
    let tls = json!({ "tls": [{ "hosts": ["safe.test"], "secretName": "safe" }] });
    cluster
        .ingress(
            "safe",
            "comind",
            json!({}),
            json!([rule("safe.test", "/", "Prefix", "web")]),
            tls,
        )
        .await?;
    let serve = cluster.serve().await?;
    let note = cluster.until_told(&serve, "safe", "SecretMissing").await?;
    ensure!(note.contains("`safe`"), "{note}");
    let dir = tempfile::tempdir()?;
    let authority = dir.path().join("ca.crt");
    let ask = async |authority: &Path| {
        let url = format!("https://safe.test:{}/who", cluster.tls.number());
        curl(
            cluster.tls.addr(),
            &url,
            &["--cacert", &authority.display().to_string()],
        )
        .await
    };
    let certificate = Certificate::for_names(&["safe.test"])?;
    std::fs::write(&authority, &certificate.authority_pem)?;
    let secret = |certificate: &Certificate| {
        json!({
            "metadata": { "name": "safe" }, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": certificate.certificate_pem, "tls.key": certificate.key_pem },
        })
    };
    cluster
        .post("/api/v1/namespaces/shop/secrets", &secret(&certificate))
        .await?;
    let until = async |authority: &Path| {
        let waited = wait_for("the certificate", LATER, async || {
            let seen = ask(authority).await?;
            ensure!(seen.status == 200, "{seen:?}");
            Ok(())
        });
        waited.await.map_err(|error| serve.blame(error))
    };
    until(&authority).await?;
    // A host with a certificate is for HTTPS alone, unless said otherwise.
    let seen = cluster.ask("safe.test", "/who").await?;
    ensure!(
        seen.status == 308
            && seen
                .head
                .contains(&format!("https://safe.test:{}/who", cluster.tls.number())),
        "{seen:?}"
    );
    // Renewed.
    let next = Certificate::for_names(&["safe.test"])?;
    cluster
        .patch("/api/v1/namespaces/shop/secrets/safe", &secret(&next))
        .await?;
    std::fs::write(&authority, &next.authority_pem)?;
    until(&authority).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_harms_no_good_one_and_a_lost_cluster_none() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("web", pod).await?;
    cluster
        .ingress(
            "good",
            "comind",
            json!({}),
            json!([rule("good.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    let external = json!({ "metadata": { "name": "outside" }, "spec": { "type": "ExternalName", "externalName": "metadata.internal" } });
    cluster.post(SERVICES, &external).await?;
    for (name, host, service) in [
        ("missing", "missing.test", "nobody"),
        ("outside", "outside.test", "outside"),
        ("twice", "good.test", "web"),
    ] {
        cluster
            .ingress(
                name,
                "comind",
                json!({}),
                json!([rule(host, "/", "Prefix", service)]),
                json!({}),
            )
            .await?;
    }
    let regex = json!({ "nginx.ingress.kubernetes.io/use-regex": "true" });
    cluster
        .ingress(
            "regex",
            "comind",
            regex,
            json!([rule("regex.test", "/(", "ImplementationSpecific", "web")]),
            json!({}),
        )
        .await?;

    // As somebody who may read what it needs, and loses that later.
    cluster.api.make_account("edge").await?;
    let rules = [
        ("networking.k8s.io", r#"["ingresses","ingressclasses"]"#),
        ("", r#"["services","secrets"]"#),
        ("discovery.k8s.io", r#"["endpointslices"]"#),
    ];
    for (number, (group, plurals)) in rules.iter().enumerate() {
        cluster
            .api
            .allow_as("edge", &format!("edge-{number}"), group, plurals)
            .await?;
    }
    let kubeconfig = cluster.api.kubeconfig_of("edge").await?;
    let serve = Serve::start_with(&cluster.config(&kubeconfig)).await?;
    cluster
        .until(&serve, "good.test", "/", |seen| seen.status == 200)
        .await?;
    cluster
        .until(&serve, "missing.test", "/", |seen| seen.status == 503)
        .await?;
    ensure!(cluster.ask("outside.test", "/").await?.status == 404);
    ensure!(cluster.ask("regex.test", "/").await?.status == 404);
    let words = [
        "there is no service `nobody`",
        "ExternalName",
        "an older Ingress has this host and path",
        "no regular expression",
    ];
    wait_for("what is said of the bad ones", LATER, async || {
        let log = serve.log()?;
        let missing = words.iter().find(|word| !log.contains(**word));
        ensure!(missing.is_none(), "{missing:?}: {log}");
        Ok(())
    })
    .await?;

    // Without rights, and without an API server, the last routes stay.
    for number in 0..rules.len() {
        cluster.api.forbid(&format!("edge-{number}")).await?;
    }
    ensure!(cluster.ask("good.test", "/").await?.status == 200);
    cluster.api.kill()?;
    ensure!(cluster.ask("good.test", "/").await?.status == 200);
    cluster.api.restart().await?;
    for (number, (group, plurals)) in rules.iter().enumerate() {
        cluster
            .api
            .allow_as("edge", &format!("again-{number}"), group, plurals)
            .await?;
    }
    cluster
        .ingress(
            "later",
            "comind",
            json!({}),
            json!([rule("later.test", "/", "Prefix", "web")]),
            json!({}),
        )
        .await?;
    cluster
        .until(&serve, "later.test", "/", |seen| seen.status == 200)
        .await?;
    ensure!(cluster.ask("good.test", "/").await?.status == 200);
    Ok(())
}
