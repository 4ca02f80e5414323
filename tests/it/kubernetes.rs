//! Kind `kubernetes` against a real kube-apiserver. The test writes the statuses that kubelet and
//! controllers would write.

use anyhow::{Result, ensure};
use comind_peers::kube::KubeApi;
use http::Method;

use crate::serve::{SOON, Serve, config};

const BRISK: &str = "{ interval: 500ms, timeout: 2s }";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

async fn cluster() -> Result<KubeApi> {
    let api = KubeApi::start().await?;
    api.make_namespace("shop").await?;
    let node = r#"{"metadata":{"name":"n1"}}"#;
    api.request(Method::POST, "/api/v1/nodes", node).await?;
    let pod = r#"{"metadata":{"name":"web","labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    api.request(Method::POST, PODS, pod).await?;
    let deployment = r#"{"metadata":{"name":"web","labels":{"comind.pro/required":"true"}},"spec":{"replicas":2,
        "selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
        "spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    api.request(Method::POST, DEPLOYMENTS, deployment).await?;
    Ok(api)
}

async fn status(api: &KubeApi, path: &str, status: &str) -> Result<()> {
    let patch = format!(r#"{{"status":{status}}}"#);
    api.request(Method::PATCH, &format!("{path}/status"), &patch)
        .await
        .map(drop)
}

fn condition(kind: &str, status: &str) -> String {
    format!(r#"{{"conditions":[{{"type":"{kind}","status":"{status}"}}]}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_workloads_and_pods_are_states_of_their_own() -> Result<()> {
    let mut api = cluster().await?;
    let kubeconfig = api.kubeconfig().display().to_string();
    let item = format!(
        "name: k8s, kind: kubernetes, kubeconfig: {kubeconfig}, namespaces: [shop], watch: [nodes, deployments, pods]"
    );
    let serve = Serve::start(BRISK, &[item]).await?;
    serve.until_up("k8s").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;

    status(&api, "/api/v1/nodes/n1", &condition("Ready", "True")).await?;
    serve.until_up("k8s/node/n1").await?;
    status(&api, "/api/v1/nodes/n1", &condition("Ready", "Unknown")).await?;
    let event = events.transition("k8s/node/n1", "down", SOON).await?;
    ensure!(event.data["reason"] == "not_ready", "{event:?}");

    let pod = format!("{PODS}/web");
    status(&api, &pod, &condition("Ready", "True")).await?;
    serve.until_up("k8s/shop/pod/web").await?;
    let looping = r#"{"phase":"Running","containerStatuses":[{"name":"c","image":"i","imageID":"","ready":false,
        "restartCount":4,"state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 40s"}}}]}"#;
    status(&api, &pod, looping).await?;
    let looped = serve
        .until_is("k8s/shop/pod/web", "down", "crash_loop")
        .await?;
    ensure!(looped["facts"]["restarts"] == 4.0, "{looped}");

    let deployment = format!("{DEPLOYMENTS}/web");
    let required = serve
        .until_is("k8s/shop/deployment/web", "down", "replicas_missing")
        .await?;
    ensure!(required["required"] == true, "{required}");
    serve.until_platform("down").await?;
    status(
        &api,
        &deployment,
        r#"{"availableReplicas":1,"readyReplicas":1,"replicas":2}"#,
    )
    .await?;
    serve
        .until_is("k8s/shop/deployment/web", "degraded", "replicas_missing")
        .await?;
    status(
        &api,
        &deployment,
        r#"{"availableReplicas":2,"readyReplicas":2,"replicas":2}"#,
    )
    .await?;
    serve.until_up("k8s/shop/deployment/web").await?;

    api.kill()?;
    serve.until_is("k8s", "down", "refused").await?;
    serve
        .until_is("k8s/node/n1", "unknown", "parent_out")
        .await?;
    api.restart().await?;
    serve.until_up("k8s").await?;
    serve.until_is("k8s/node/n1", "down", "not_ready").await?;
    serve.until_up("k8s/shop/deployment/web").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_may_not_see_is_named() -> Result<()> {
    let api = cluster().await?;
    api.make_account("looker").await?;
    api.allow("looker", "", r#"["nodes"]"#).await?;
    let kubeconfig = api.kubeconfig_of("looker").await?;
    let item = |name: &str, watch: &str| {
        let kubeconfig = kubeconfig.display();
        format!("name: {name}, kind: kubernetes, kubeconfig: {kubeconfig}, watch: [{watch}]")
    };
    let items = [item("nodes", "nodes"), item("more", "nodes, pods")];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("nodes").await?;
    let denied = serve.until_is("more", "down", "permission_denied").await?;
    let told = denied["message"].as_str().unwrap_or_default();
    ensure!(told.contains("pods"), "{told}");
    Ok(())
}

/// As in a pod: no kubeconfig, but the files and the variables that a kubelet gives.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_pod_its_service_account_is_used() -> Result<()> {
    let api = cluster().await?;
    api.make_account("looker").await?;
    api.allow("looker", "", r#"["nodes"]"#).await?;
    let given = tempfile::tempdir()?;
    let files = [
        ("token", api.token_of("looker").await?),
        ("ca.crt", api.authority_pem().to_owned()),
        ("namespace", "default".to_owned()),
    ];
    for (name, text) in files {
        std::fs::write(given.path().join(name), text)?;
    }
    let item =
        |name: &str, watch: &str| format!("name: {name}, kind: kubernetes, watch: [{watch}]");
    let items = [item("nodes", "nodes"), item("more", "nodes, pods")];
    let serve = Serve::start_in_pod(&config(BRISK, &items), given.path(), api.addr()).await?;
    serve.until_up("nodes").await?;
    serve.until_is("more", "down", "permission_denied").await?;
    status(&api, "/api/v1/nodes/n1", &condition("Ready", "True")).await?;
    serve.until_up("nodes/node/n1").await.map(drop)
}
