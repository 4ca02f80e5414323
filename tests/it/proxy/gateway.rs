//! The Gateway API on a real kube-apiserver, with its own definitions. The test writes the endpoint
//! slices that the cluster's own controllers would write.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::tls::Certificate;
use comind_peers::wait::wait_for;
use http::Method;
use serde_json::{Value, json};

use super::curl::{Seen, curl};
use super::ingress::pod;
use crate::serve::{LATER, Serve};

const API: &str = "/apis/gateway.networking.k8s.io/v1";

pub(super) struct Cluster {
    pub(super) api: KubeApi,
    pub(super) port: Port,
    tls: Port,
}

impl Cluster {
    pub(super) async fn start() -> Result<Self> {
        let api = KubeApi::start().await?;
        api.define_gateways().await?;
        for name in ["shop", "data", "other"] {
            api.make_namespace(name).await?;
        }
        let cluster = Self {
            api,
            port: Port::free()?,
            tls: Port::free()?,
        };
        for (name, controller) in [
            ("comind", "comind.pro/gateway"),
            ("foreign", "example.org/x"),
        ] {
            let class = json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
                "metadata": { "name": name }, "spec": { "controllerName": controller } });
            cluster
                .send(Method::POST, &format!("{API}/gatewayclasses"), &class)
                .await?;
        }
        Ok(cluster)
    }

    pub(super) fn config(&self) -> String {
        format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  tls: {{ listen: {} }}\n  \
             kubernetes:\n    kubeconfig: {}\n    gateway: {{ addresses: [192.0.2.10], ports: {{ 80: {}, 443: {} }} }}\n",
            self.port.addr(),
            self.tls.addr(),
            self.api.kubeconfig().display(),
            self.port.number(),
            self.tls.number(),
        )
    }

    /// Of a cluster, whatever it knows.
    async fn serve(&self) -> Result<Serve> {
        Serve::start_with(&self.config()).await
    }

    pub(super) async fn send(&self, method: Method, path: &str, object: &Value) -> Result<Value> {
        let text = if object.is_null() {
            String::new()
        } else {
            object.to_string()
        };
        let answer = self.api.request(method, path, &text).await?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// An object of the Gateway API.
    pub(super) async fn make(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        spec: Value,
    ) -> Result<()> {
        let version = if kind == "ReferenceGrant" {
            "v1beta1"
        } else {
            "v1"
        };
        let path = format!("{}s", path_of(namespace, kind, version));
        let object = json!({ "apiVersion": format!("gateway.networking.k8s.io/{version}"),
            "kind": kind, "metadata": { "name": name }, "spec": spec });
        self.send(Method::POST, &path, &object).await.map(drop)
    }

    pub(super) async fn gateway(&self, name: &str, class: &str, listeners: Value) -> Result<()> {
        let spec = json!({ "gatewayClassName": class, "listeners": listeners });
        self.make("shop", "Gateway", name, spec).await
    }

    /// A route of `web` whose backends say in a header who they are.
    pub(super) async fn route(
        &self,
        namespace: &str,
        name: &str,
        host: &str,
        rules: Value,
    ) -> Result<()> {
        let spec = json!({ "parentRefs": [{ "name": "web", "namespace": "shop" }], "hostnames": [host], "rules": rules });
        self.make(namespace, "HTTPRoute", name, spec).await
    }

    pub(super) async fn service(&self, namespace: &str, name: &str, pod: SocketAddr) -> Result<()> {
        let service = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "name": "http", "port": 80 }] } });
        let path = format!("/api/v1/namespaces/{namespace}/services");
        self.send(Method::POST, &path, &service).await?;
        let slice = json!({
            "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": pod.port() }],
            "endpoints": [{ "addresses": [pod.ip().to_string()], "conditions": { "ready": true } }],
        });
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        self.send(Method::POST, &path, &slice).await.map(drop)
    }

    pub(super) async fn ask(&self, host: &str, path: &str, more: &[&str]) -> Result<Seen> {
        let url = format!("http://{host}:{}{path}", self.port.number());
        curl(self.port.addr(), &url, more).await
    }

    /// Waits until this is answered so.
    pub(super) async fn until(
        &self,
        serve: &Serve,
        host: &str,
        path: &str,
        status: u16,
    ) -> Result<Seen> {
        let what = format!("{status} for {host}{path}");
        let waited = wait_for(&what, LATER, async || {
            let seen = self.ask(host, path, &[]).await?;
            ensure!(seen.status == status, "{seen:?}");
            Ok(seen)
        });
        waited.await.map_err(|error| serve.blame(error))
    }

    /// Waits until a condition (found by `conditions` in the status) says this.
    pub(super) async fn until_told(
        &self,
        serve: &Serve,
        (kind, namespace, name): (&str, &str, &str),
        conditions: &str,
        (condition, status, reason): (&str, &str, &str),
    ) -> Result<Value> {
        let path = format!("{}s/{name}", path_of(namespace, kind, "v1"));
        let what = format!("{kind} {name}: {condition}={status} ({reason})");
        let waited = wait_for(&what, LATER, async || {
            let object = self.send(Method::GET, &path, &Value::Null).await?;
            let told = object.pointer(conditions).and_then(Value::as_array);
            let mut told = told.context("nothing is told yet")?.iter();
            let one = told
                .find(|it| it["type"] == condition)
                .context("no such condition")?;
            ensure!(one["status"] == status && one["reason"] == reason, "{one}");
            ensure!(
                one["observedGeneration"] == object["metadata"]["generation"],
                "{one}"
            );
            Ok(object["status"].clone())
        });
        waited.await.map_err(|error| serve.blame(error))
    }
}

pub(super) fn path_of(namespace: &str, kind: &str, version: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    format!("/apis/gateway.networking.k8s.io/{version}/namespaces/{namespace}/{kind}")
}

pub(super) fn listener(name: &str, host: Option<&str>, from: &str) -> Value {
    let mut made = json!({ "name": name, "port": 80, "protocol": "HTTP",
        "allowedRoutes": { "namespaces": { "from": from } } });
    if let Some(host) = host {
        made["hostname"] = json!(host);
    }
    made
}

/// To a service of this name, which is told who it is.
pub(super) fn backend(name: &str, weight: u32) -> Value {
    json!({ "name": name, "port": 80, "weight": weight, "filters": [{
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": { "set": [{ "name": "x-backend", "value": name }] },
    }] })
}

fn to(name: &str) -> Value {
    json!([{ "backendRefs": [backend(name, 1)] }])
}

pub(super) const PARENT: &str = "/status/parents/0/conditions";
const OWN: &str = "/status/conditions";

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_attached_where_they_may_be_and_told_so() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("shop", "web", pod).await?;
    let listeners = json!([
        listener("all", Some("*.shop.test"), "All"),
        listener("own", Some("own.test"), "Same")
    ]);
    cluster.gateway("web", "comind", listeners).await?;
    cluster
        .gateway("not-ours", "foreign", json!([listener("a", None, "All")]))
        .await?;
    cluster
        .route("shop", "good", "a.b.shop.test", to("web"))
        .await?;
    cluster
        .route("shop", "elsewhere", "elsewhere.test", to("web"))
        .await?;
    cluster
        .route("other", "stranger", "own.test", to("web"))
        .await?;
    let serve = cluster.serve().await?;

    let seen = cluster
        .until(&serve, "a.b.shop.test", "/count", 200)
        .await?;
    ensure!(seen.body.contains(r#""x-backend":"web""#), "{seen:?}");
    ensure!(cluster.ask("own.test", "/count", &[]).await?.status == 404);
    let gateway = ("Gateway", "shop", "web");
    cluster
        .until_told(&serve, gateway, OWN, ("Accepted", "True", "Accepted"))
        .await?;
    let status = cluster
        .until_told(&serve, gateway, OWN, ("Programmed", "True", "Programmed"))
        .await?;
    ensure!(status["addresses"][0]["value"] == "192.0.2.10", "{status}");
    let counts: Vec<_> = status["listeners"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| it["attachedRoutes"].clone())
        .collect();
    ensure!(counts == [json!(1), json!(0)], "{status}");
    for (namespace, name, status, reason) in [
        ("shop", "good", "True", "Accepted"),
        ("shop", "elsewhere", "False", "NoMatchingListenerHostname"),
        // The listener that lets it in is for other hosts.
        ("other", "stranger", "False", "NoMatchingListenerHostname"),
    ] {
        let route = ("HTTPRoute", namespace, name);
        cluster
            .until_told(&serve, route, PARENT, ("Accepted", status, reason))
            .await?;
    }
    // What is another's is not touched.
    let foreign = cluster
        .send(
            Method::GET,
            &format!("{}s/not-ours", path_of("shop", "Gateway", "v1")),
            &Value::Null,
        )
        .await?;
    ensure!(
        foreign["status"]["conditions"][0]["reason"] == "Pending",
        "{foreign}"
    );

    // A listener that is gone takes its routes with it.
    let patch = json!({ "spec": { "listeners": [listener("own", Some("own.test"), "Same")] } });
    cluster
        .send(
            Method::PATCH,
            &format!("{}s/web", path_of("shop", "Gateway", "v1")),
            &patch,
        )
        .await?;
    cluster
        .until(&serve, "a.b.shop.test", "/count", 404)
        .await?;
    let good = ("HTTPRoute", "shop", "good");
    cluster
        .until_told(
            &serve,
            good,
            PARENT,
            ("Accepted", "False", "NoMatchingListenerHostname"),
        )
        .await?;
    let stranger = ("HTTPRoute", "other", "stranger");
    cluster
        .until_told(
            &serve,
            stranger,
            PARENT,
            ("Accepted", "False", "NotAllowedByListeners"),
        )
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn references_to_other_namespaces_need_a_grant() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("data", "db", pod).await?;
    cluster
        .gateway("web", "comind", json!([listener("http", None, "All")]))
        .await?;
    let rules = json!([{ "backendRefs": [{ "name": "db", "namespace": "data", "port": 80 }] }]);
    cluster.route("shop", "far", "far.test", rules).await?;
    let serve = cluster.serve().await?;
    let far = ("HTTPRoute", "shop", "far");
    cluster.until(&serve, "far.test", "/count", 500).await?;
    cluster
        .until_told(
            &serve,
            far,
            PARENT,
            ("ResolvedRefs", "False", "RefNotPermitted"),
        )
        .await?;
    // One for another namespace, then the right one.
    for (name, namespace) in [("wrong", "other"), ("right", "shop")] {
        let from = json!([{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace }]);
        let to = json!([{ "group": "", "kind": "Service", "name": "db" }]);
        cluster
            .make(
                "data",
                "ReferenceGrant",
                name,
                json!({ "from": from, "to": to }),
            )
            .await?;
    }
    cluster.until(&serve, "far.test", "/count", 200).await?;
    cluster
        .until_told(
            &serve,
            far,
            PARENT,
            ("ResolvedRefs", "True", "ResolvedRefs"),
        )
        .await?;
    let right = format!("{}s/right", path_of("data", "ReferenceGrant", "v1beta1"));
    cluster.send(Method::DELETE, &right, &Value::Null).await?;
    cluster
        .until(&serve, "far.test", "/count", 500)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_harms_no_good_one_and_a_lost_cluster_none() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("shop", "web", pod).await?;
    let broken = json!({ "name": "tls", "port": 443, "protocol": "HTTPS", "tls": { "certificateRefs": [{ "name": "none" }] } });
    let odd = json!({ "name": "odd", "port": 9, "protocol": "ODD" });
    cluster
        .gateway(
            "web",
            "comind",
            json!([listener("http", None, "All"), broken, odd]),
        )
        .await?;
    // It wants what the one before has.
    cluster
        .gateway("web-late", "comind", json!([listener("http", None, "All")]))
        .await?;
    cluster
        .route("shop", "good", "good.test", to("web"))
        .await?;
    cluster
        .route("shop", "missing", "missing.test", to("nobody"))
        .await?;
    let mirror = json!([
        { "matches": [{ "path": { "value": "/mirror" } }], "filters": [{ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "web", "port": 80 } } }], "backendRefs": [backend("web", 1)] },
        { "backendRefs": [backend("web", 1)] },
    ]);
    cluster
        .route("shop", "mirror", "mirror.test", mirror)
        .await?;
    let serve = cluster.serve().await?;
    cluster.until(&serve, "good.test", "/count", 200).await?;
    cluster.until(&serve, "missing.test", "/count", 500).await?;
    // What has a filter that we lack is not served without it; its neighbour is.
    cluster.until(&serve, "mirror.test", "/mirror", 500).await?;
    cluster.until(&serve, "mirror.test", "/count", 200).await?;
    for (name, told) in [
        ("missing", ("ResolvedRefs", "False", "BackendNotFound")),
        ("mirror", ("PartiallyInvalid", "True", "UnsupportedValue")),
    ] {
        cluster
            .until_told(&serve, ("HTTPRoute", "shop", name), PARENT, told)
            .await?;
    }
    let web = ("Gateway", "shop", "web");
    cluster
        .until_told(&serve, web, OWN, ("Accepted", "True", "ListenersNotValid"))
        .await?;
    cluster
        .until_told(
            &serve,
            web,
            "/status/listeners/1/conditions",
            ("ResolvedRefs", "False", "InvalidCertificateRef"),
        )
        .await?;
    cluster
        .until_told(
            &serve,
            web,
            "/status/listeners/2/conditions",
            ("Accepted", "False", "UnsupportedProtocol"),
        )
        .await?;
    let late = ("Gateway", "shop", "web-late");
    cluster
        .until_told(
            &serve,
            late,
            OWN,
            ("Programmed", "False", "AddressNotAssigned"),
        )
        .await?;

    // Without an API server the last routes stay; what comes later counts.
    cluster.api.kill()?;
    ensure!(cluster.ask("good.test", "/count", &[]).await?.status == 200);
    cluster.api.restart().await?;
    cluster
        .route("shop", "later", "later.test", to("web"))
        .await?;
    cluster.until(&serve, "later.test", "/count", 200).await?;
    ensure!(cluster.ask("good.test", "/count", &[]).await?.status == 200);
    let later = ("HTTPRoute", "shop", "later");
    cluster
        .until_told(&serve, later, PARENT, ("Accepted", "True", "Accepted"))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_precedence_and_redirects() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    for name in ["one", "two", "none"] {
        cluster.service("shop", name, pod).await?;
    }
    cluster
        .gateway("web", "comind", json!([listener("http", None, "All")]))
        .await?;
    let rules = json!([
        { "backendRefs": [backend("one", 3), backend("two", 1), backend("none", 0)] },
        { "matches": [{ "path": { "value": "/count" }, "headers": [{ "name": "x-to", "value": "two" }] }], "backendRefs": [backend("two", 1)] },
        { "matches": [{ "path": { "value": "/count" }, "method": "POST" }], "backendRefs": [backend("one", 1)] },
        { "matches": [{ "path": { "value": "/old" } }], "filters": [{ "type": "RequestRedirect", "requestRedirect": {
            "scheme": "https", "hostname": "new.test", "statusCode": 301, "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/new" } } }] },
        { "matches": [{ "path": { "value": "/nobody" } }] },
    ]);
    cluster
        .route("shop", "shares", "shares.test", rules)
        .await?;
    let serve = cluster.serve().await?;
    cluster.until(&serve, "shares.test", "/count", 200).await?;
    let mut counts = [0_u32; 2];
    for _ in 0..60 {
        let seen = cluster.ask("shares.test", "/count", &[]).await?;
        match seen.body.as_str() {
            body if body.contains(r#""x-backend":"one""#) => counts[0] += 1,
            body if body.contains(r#""x-backend":"two""#) => counts[1] += 1,
            _ => ensure!(false, "{seen:?}"),
        }
    }
    // Three to one; that 60 draws give fewer than 3 or more than 34 of the second is less likely
    // than one in 10 million.
    ensure!((3..=34).contains(&counts[1]), "{counts:?}");
    let seen = cluster
        .ask("shares.test", "/count", &["-H", "x-to: two"])
        .await?;
    ensure!(seen.body.contains(r#""x-backend":"two""#), "{seen:?}");
    // A method goes before a header.
    let seen = cluster
        .ask("shares.test", "/count", &["-H", "x-to: two", "-d", "x"])
        .await?;
    ensure!(seen.body.contains(r#""x-backend":"one""#), "{seen:?}");
    let seen = cluster.ask("shares.test", "/old/x?q=1", &[]).await?;
    ensure!(
        seen.status == 301
            && seen
                .head
                .contains("location: https://new.test/new/x?q=1\r\n"),
        "{seen:?}"
    );
    ensure!(cluster.ask("shares.test", "/nobody", &[]).await?.status == 500);
    // Nobody is ready: that is another answer than nobody being there.
    let slice = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/two-1";
    let unready = json!({ "endpoints": [{ "addresses": [pod.ip().to_string()], "conditions": { "ready": false } }] });
    cluster.send(Method::PATCH, slice, &unready).await?;
    let waited = wait_for("503", LATER, async || {
        let seen = cluster
            .ask("shares.test", "/count", &["-H", "x-to: two"])
            .await?;
        ensure!(seen.status == 503, "{seen:?}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_show_their_own_certificates() -> Result<()> {
    let cluster = Cluster::start().await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("shop", "web", pod).await?;
    let dir = tempfile::tempdir()?;
    let mut listeners = Vec::new();
    for name in ["a", "b"] {
        let host = format!("{name}.safe.test");
        let certificate = Certificate::for_names(&[&host])?;
        std::fs::write(dir.path().join(name), &certificate.authority_pem)?;
        let secret = json!({
            "metadata": { "name": name }, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": certificate.certificate_pem, "tls.key": certificate.key_pem },
        });
        cluster
            .send(Method::POST, "/api/v1/namespaces/shop/secrets", &secret)
            .await?;
        listeners.push(json!({ "name": name, "port": 443, "protocol": "HTTPS", "hostname": host, "tls": { "certificateRefs": [{ "name": name }] } }));
    }
    cluster
        .gateway("web", "comind", Value::Array(listeners))
        .await?;
    cluster
        .route("shop", "safe", "*.safe.test", to("web"))
        .await?;
    let serve = cluster.serve().await?;
    for name in ["a", "b"] {
        let url = format!("https://{name}.safe.test:{}/count", cluster.tls.number());
        let authority = dir.path().join(name).display().to_string();
        let waited = wait_for(&url, LATER, async || {
            let seen = curl(cluster.tls.addr(), &url, &["--cacert", &authority]).await?;
            ensure!(seen.status == 200, "{seen:?}");
            Ok(())
        });
        waited.await.map_err(|error| serve.blame(error))?;
    }
    // The listeners are for HTTPS alone.
    ensure!(cluster.ask("a.safe.test", "/count", &[]).await?.status == 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_definitions_ingress_objects_are_served() -> Result<()> {
    let cluster = Cluster {
        api: KubeApi::start().await?,
        port: Port::free()?,
        tls: Port::free()?,
    };
    cluster.api.make_namespace("shop").await?;
    let node = Node::start().await?;
    let (pod, _task) = pod(node.addr()).await?;
    cluster.service("shop", "web", pod).await?;
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    let rules = json!([{ "host": "old.test", "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }]);
    let ingress = json!({ "metadata": { "name": "old" }, "spec": { "ingressClassName": "comind", "rules": rules } });
    let path = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses";
    cluster.send(Method::POST, path, &ingress).await?;
    let serve = cluster.serve().await?;
    cluster.until(&serve, "old.test", "/count", 200).await?;
    wait_for("the words for it", LATER, async || {
        let log = serve.log()?;
        ensure!(
            log.contains("the cluster cannot be watched") && log.contains("httproutes"),
            "{log}"
        );
        Ok(())
    })
    .await
}
