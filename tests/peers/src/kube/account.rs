//! Users who may do little: service accounts with a role, their tokens and kubeconfigs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use http::Method;

use super::{KubeApi, kubeconfig};
use crate::peer::own_file;

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";

impl KubeApi {
    /// Makes service account `name` in namespace `default`. It may do nothing yet.
    pub async fn make_account(&self, name: &str) -> Result<()> {
        let object = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        let path = "/api/v1/namespaces/default/serviceaccounts";
        self.request(Method::POST, path, &object).await.map(drop)
    }

    /// Removes a service account: its tokens are worth nothing from now on.
    pub async fn remove_account(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{name}");
        self.request(Method::DELETE, &path, "").await.map(drop)
    }

    /// Lets the account list and watch these objects (`GROUP`, JSON list of plurals) everywhere.
    pub async fn allow(&self, account: &str, group: &str, plurals: &str) -> Result<()> {
        self.allow_as(account, account, group, plurals).await
    }

    /// The same, by a role of this name, so that there can be several.
    pub async fn allow_as(
        &self,
        account: &str,
        role_name: &str,
        group: &str,
        plurals: &str,
    ) -> Result<()> {
        let rules = format!(
            r#"[{{"apiGroups":["{group}"],"resources":{plurals},"verbs":["get","list","watch"]}}]"#
        );
        self.allow_by(account, role_name, &rules).await
    }

    /// Gives the account these rules (JSON) everywhere, by a role of this name.
    pub async fn allow_by(&self, account: &str, role_name: &str, rules: &str) -> Result<()> {
        let role = format!(r#"{{"metadata":{{"name":"{role_name}"}},"rules":{rules}}}"#);
        let path = format!("{ROLES}/clusterroles");
        self.request(Method::POST, &path, &role).await?;
        let binding = format!(
            r#"{{"metadata":{{"name":"{role_name}"}},
            "roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"{role_name}"}},
            "subjects":[{{"kind":"ServiceAccount","name":"{account}","namespace":"default"}}]}}"#
        );
        let path = format!("{ROLES}/clusterrolebindings");
        self.request(Method::POST, &path, &binding).await.map(drop)
    }

    /// Takes what [`allow`](Self::allow) gave to the account, or a role of this name.
    pub async fn forbid(&self, account: &str) -> Result<()> {
        let path = format!("{ROLES}/clusterrolebindings/{account}");
        self.request(Method::DELETE, &path, "").await.map(drop)
    }

    /// Gives the account these rules (JSON) in namespace `default` alone, by a role of this name.
    pub async fn allow_here(&self, account: &str, role_name: &str, rules: &str) -> Result<()> {
        let of = |plural: &str| format!("{ROLES}/namespaces/default/{plural}");
        let role = format!(r#"{{"metadata":{{"name":"{role_name}"}},"rules":{rules}}}"#);
        self.request(Method::POST, &of("roles"), &role).await?;
        self.bind_here(account, role_name).await
    }

    /// Gives the account a role of namespace `default` again.
    pub async fn bind_here(&self, account: &str, role_name: &str) -> Result<()> {
        let binding = format!(
            r#"{{"metadata":{{"name":"{role_name}"}},
            "roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"{role_name}"}},
            "subjects":[{{"kind":"ServiceAccount","name":"{account}","namespace":"default"}}]}}"#
        );
        let path = format!("{ROLES}/namespaces/default/rolebindings");
        self.request(Method::POST, &path, &binding).await.map(drop)
    }

    /// Takes that role from the account.
    pub async fn forbid_here(&self, role_name: &str) -> Result<()> {
        let path = format!("{ROLES}/namespaces/default/rolebindings/{role_name}");
        self.request(Method::DELETE, &path, "").await.map(drop)
    }

    /// A fresh token of the account, as a kubelet writes it into a pod.
    pub async fn token_of(&self, account: &str) -> Result<String> {
        self.token_for(account, "[]").await
    }

    /// The same for others than the API server (audiences, JSON list).
    pub async fn token_for(&self, account: &str, audiences: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let asked = format!(r#"{{"spec":{{"expirationSeconds":3600,"audiences":{audiences}}}}}"#);
        let answer = self.request(Method::POST, &path, &asked).await?;
        let token = answer
            .split_once(r#""token":""#)
            .and_then(|(_, rest)| rest.split_once('"'))
            .context("the answer holds no token")?
            .0;
        Ok(token.to_owned())
    }

    /// A kubeconfig with a fresh token of the account, context `test`.
    pub async fn kubeconfig_of(&self, account: &str) -> Result<PathBuf> {
        let token = self.token_of(account).await?;
        let dir = self.peer.dir();
        let text = kubeconfig(self.peer.addr(), dir, &token);
        own_file(dir, &format!("kubeconfig-{account}"), None, &text)
    }
}
