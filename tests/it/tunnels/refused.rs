//! Without the right to open tunnels that is what is said.

use anyhow::{Context as _, Result, ensure};
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use serde_json::{Value, json};

use super::ask;
use super::cluster::Cluster;
use crate::serve::{LATER, Serve};

/// Who may see services, and no more.
fn objects() -> Value {
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looks" });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "looks" } },
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "looks" },
          "rules": [
            { "apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
          ] },
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "looks" },
          "roleRef": role, "subjects": [{ "kind": "ServiceAccount", "name": "looks", "namespace": "default" }] },
    ] })
}

pub(super) async fn without_rights(cluster: &Cluster) -> Result<()> {
    cluster.apply(&objects()).await?;
    let token = cluster.ask(&["create", "token", "looks"]).await?;
    let text = std::fs::read_to_string(cluster.admin())?;
    let mut config: Value = serde_json::from_str(&text).context("the kubeconfig is no JSON")?;
    config["users"][0]["user"] = json!({ "token": token.trim() });
    let file = cluster.ops.dir().join("looks.kubeconfig");
    std::fs::write(&file, config.to_string())?;
    let port = Port::free()?;
    let told = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  tunnels: {{ kubeconfig: {} }}\n  \
         routes: [{{ host: \"*\", upstream: \"service://default/web:80\" }}]\n",
        port.addr(),
        file.display(),
    );
    let _serve = Serve::start_with(&told).await?;
    wait_for("the refusal in words", LATER, async || {
        let answer = ask(&port, "/").await?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        ensure!(
            text.contains("no right to open a tunnel to default/web-"),
            "{text}"
        );
        ensure!(
            text.contains("`get` and `create` on `pods/portforward` in namespace default"),
            "{text}"
        );
        ensure!(
            answer.status() == 502 && !text.contains(token.trim()),
            "{}",
            answer.status()
        );
        Ok(())
    })
    .await
}
