//! Kind `argocd` against a real kube-apiserver with Argo CD's definitions. The test writes the
//! status of applications as their controller does.

use std::path::Path;

use anyhow::{Result, ensure};
use comind_peers::kube::KubeApi;
use serde_json::Value;

use crate::serve::{LATER, SOON, Serve, value};

const BRISK: &str = "{ interval: 500ms, timeout: 2s }";

fn item(kubeconfig: &Path) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        "name: argocd, kind: argocd, kubeconfig: {kubeconfig}, require: [\"core-*\"], relist: 30s"
    )
}

async fn cluster() -> Result<KubeApi> {
    let api = KubeApi::start().await?;
    api.define_argocd().await?;
    api.make_namespace("argocd").await?;
    Ok(api)
}

async fn application(api: &KubeApi, name: &str) -> Result<()> {
    api.make_application(name, "{}").await?;
    api.set_application(name, "Synced", "Healthy").await
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_are_states_of_their_own() -> Result<()> {
    let api = cluster().await?;
    application(&api, "shop").await?;
    application(&api, "core-dns").await?;
    let serve = Serve::start(BRISK, &[item(api.kubeconfig())]).await?;
    serve.until_up("argocd").await?;
    let shop = serve.until_up("argocd/shop").await?;
    ensure!(
        shop["parent"] == "argocd" && shop["kind"] == "argocd_application",
        "{shop}"
    );
    ensure!(
        shop["required"] == false && shop["facts"]["revision"] == "abc123",
        "{shop}"
    );
    let core = serve.until_up("argocd/core-dns").await?;
    ensure!(core["required"] == true, "{core}");

    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    api.set_application("shop", "OutOfSync", "Healthy").await?;
    let event = events.transition("argocd/shop", "degraded", SOON).await?;
    ensure!(
        event.data["reason"] == "out_of_sync" && event.data["hint"] == "watch",
        "{event:?}"
    );
    let text = serve.get("/metrics").await?;
    let of = [
        ("target", "argocd/shop"),
        ("sync_status", "OutOfSync"),
        ("project", "default"),
    ];
    ensure!(
        value(&text, "comind_argocd_app_info", &of) == Some(1.0),
        "{text}"
    );
    let since = value(&text, "comind_argocd_app_out_of_sync_seconds", &of[..1]);
    ensure!(since > Some(0.0), "{since:?}");

    api.set_application("core-dns", "Synced", "Degraded")
        .await?;
    let event = events.transition("argocd/core-dns", "down", SOON).await?;
    ensure!(event.data["reason"] == "unhealthy", "{event:?}");
    serve.until_platform("down").await?;
    api.set_application("core-dns", "Synced", "Healthy").await?;
    events.transition("argocd/core-dns", "up", SOON).await?;

    api.make_application("late", r#"{"comind.pro/required":"true"}"#)
        .await?;
    let late = serve
        .until_is("argocd/late", "degraded", "progressing")
        .await?;
    ensure!(late["required"] == true, "{late}");
    let path = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/late";
    api.request(http::Method::DELETE, path, "").await?;
    until_gone(&serve, "argocd/late").await?;
    let text = serve.get("/metrics").await?;
    ensure!(!text.contains("argocd/late"), "its series stayed");
    Ok(())
}

async fn until_gone(serve: &Serve, name: &str) -> Result<()> {
    let what = format!("{name} to be gone");
    let gone = comind_peers::wait::wait_for(&what, LATER, async || {
        let state = serve.state().await?;
        let mut targets = state["targets"].as_array().into_iter().flatten();
        ensure!(
            targets.all(|target| target["name"] != name),
            "it is still there"
        );
        Ok(())
    });
    gone.await.map_err(|error| serve.blame(error))
}

/// While the API server is away nothing is known, and what changed meanwhile is known after.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_and_comes_back() -> Result<()> {
    let mut api = cluster().await?;
    application(&api, "shop").await?;
    application(&api, "blog").await?;
    let serve = Serve::start(BRISK, &[item(api.kubeconfig())]).await?;
    serve.until_up("argocd/shop").await?;
    serve.until_up("argocd/blog").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;

    api.kill()?;
    events.transition("argocd", "down", SOON).await?;
    serve.until_is("argocd", "down", "refused").await?;
    serve
        .until_is("argocd/shop", "unknown", "parent_out")
        .await?;
    api.restart().await?;
    api.set_application("shop", "Synced", "Degraded").await?;
    serve.until_is("argocd/shop", "down", "unhealthy").await?;
    serve.until_up("argocd").await?;
    serve.until_up("argocd/blog").await?;

    events.mark();
    api.stop_signal()?;
    events.transition("argocd", "down", LATER).await?;
    serve.until_is("argocd", "down", "timeout").await?;
    serve
        .until_is("argocd/blog", "unknown", "parent_out")
        .await?;
    api.continue_signal()?;
    serve.until_up("argocd").await?;
    serve.until_up("argocd/blog").await?;
    serve.until_is("argocd/shop", "down", "unhealthy").await?;

    // A version that the API server has forgotten: etcd was emptied of history meanwhile.
    api.kill()?;
    serve.until_is("argocd", "down", "refused").await?;
    api.restart().await?;
    for sync in ["OutOfSync", "Synced"] {
        api.set_application("blog", sync, "Healthy").await?;
    }
    api.etcd().forget_history().await?;
    serve.until_up("argocd").await?;
    api.set_application("blog", "OutOfSync", "Healthy").await?;
    serve
        .until_is("argocd/blog", "degraded", "out_of_sync")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_tokens_and_definitions() -> Result<()> {
    let api = KubeApi::start().await?;
    api.make_namespace("argocd").await?;
    api.make_account("watcher").await?;
    let kubeconfig = api.kubeconfig_of("watcher").await?;
    let serve = Serve::start(BRISK, &[item(&kubeconfig)]).await?;
    let denied = serve
        .until_is("argocd", "down", "permission_denied")
        .await?;
    let told = denied["message"].as_str().unwrap_or_default();
    ensure!(
        told.contains("watcher") && told.contains("applications"),
        "{told}"
    );

    let plurals = r#"["applications","applicationsets"]"#;
    api.allow("watcher", "argoproj.io", plurals).await?;
    serve
        .until_is("argocd", "down", "missing_definition")
        .await?;
    api.define_argocd().await?;
    application(&api, "shop").await?;
    serve.until_up("argocd").await?;
    serve.until_up("argocd/shop").await?;

    api.forbid("watcher").await?;
    serve
        .until_is("argocd", "down", "permission_denied")
        .await?;
    serve
        .until_is("argocd/shop", "unknown", "parent_out")
        .await?;
    api.remove_account("watcher").await?;
    serve.until_is("argocd", "down", "token_expired").await?;

    // A kubeconfig that is written anew counts at once.
    std::fs::copy(api.kubeconfig(), &kubeconfig)?;
    serve.until_up("argocd").await?;
    serve.until_up("argocd/shop").await?;

    api.undefine_argocd().await?;
    serve
        .until_is("argocd", "down", "missing_definition")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn application_sets_tell_of_their_errors() -> Result<()> {
    let api = cluster().await?;
    let path = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applicationsets";
    let set = r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"ApplicationSet","metadata":{"name":"all"},
        "spec":{"generators":[{"list":{"elements":[]}}],"template":{"metadata":{"name":"x"},
        "spec":{"project":"default","destination":{}}}}}"#;
    api.request(http::Method::POST, path, set).await?;
    let serve = Serve::start(BRISK, &[item(api.kubeconfig())]).await?;
    serve.until_up("argocd/set:all").await?;
    let failed = r#"{"status":{"conditions":[{"type":"ErrorOccurred","status":"True","reason":"x","message":"no such cluster"}]}}"#;
    let path = format!("{path}/all/status");
    api.request(http::Method::PATCH, &path, failed).await?;
    let set = serve
        .until_is("argocd/set:all", "down", "sync_failed")
        .await?;
    let told: &Value = &set["message"];
    ensure!(
        told.as_str()
            .is_some_and(|text| text.contains("no such cluster")),
        "{told}"
    );
    Ok(())
}
