//! Custom resource definitions that the project's setup has fetched.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;

use super::KubeApi;
use crate::tool::tools_dir;
use crate::wait::wait_for;

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SERVED: Duration = Duration::from_secs(60);

impl KubeApi {
    /// Makes Argo CD's definitions known, and waits until its objects can be made.
    pub async fn define_argocd(&self) -> Result<()> {
        for name in ["application", "applicationset", "appproject"] {
            let text = installed(&format!("argocd-crds/{name}-crd.yaml"))?;
            self.define(&text).await?;
        }
        for plural in ["applications", "applicationsets"] {
            self.served("argoproj.io/v1alpha1", plural).await?;
        }
        Ok(())
    }

    async fn define(&self, text: &str) -> Result<()> {
        self.send(Method::POST, PATH, "application/yaml", text)
            .await
            .map(drop)
    }

    /// Waits until objects of this kind can be asked for.
    async fn served(&self, version: &str, plural: &str) -> Result<()> {
        let path = format!("/apis/{version}/{plural}");
        wait_for(&format!("{plural} to be served"), SERVED, async || {
            self.request(Method::GET, &path, "").await.map(drop)
        })
        .await
    }

    /// Makes the Gateway API's definitions known, and waits until their objects can be made.
    pub async fn define_gateways(&self) -> Result<()> {
        let plurals = ["gatewayclasses", "gateways", "httproutes", "grpcroutes"];
        let all = plurals.into_iter().chain(["referencegrants"]);
        for plural in all.clone() {
            let name = format!("gateway-crds/gateway.networking.k8s.io_{plural}.yaml");
            self.define(&installed(&name)?).await?;
        }
        for plural in all {
            let version = if plural == "referencegrants" {
                "v1beta1"
            } else {
                "v1"
            };
            let version = format!("gateway.networking.k8s.io/{version}");
            self.served(&version, plural).await?;
        }
        Ok(())
    }

    /// Makes our own definition known, as the chart has it.
    pub async fn define_monitor(&self) -> Result<()> {
        let text = include_str!("../../../../helm/comind-ops/crds/monitors.yaml");
        self.define(text).await?;
        self.served("comind.pro/v1alpha1", "monitors").await
    }

    /// Makes the load balancer's definitions known, as bootstrap has them.
    pub async fn define_metallb(&self) -> Result<()> {
        let text = include_str!("../../../../bootstrap/manifests/metallb.yaml");
        let is_definition = |one: &&str| one.contains("kind: CustomResourceDefinition");
        for one in text.split("\n---\n").filter(is_definition) {
            self.define(one).await?;
        }
        for plural in ["ipaddresspools", "l2advertisements"] {
            self.served("metallb.io/v1beta1", plural).await?;
        }
        Ok(())
    }

    /// Makes Argo CD's definitions unknown again.
    pub async fn undefine_argocd(&self) -> Result<()> {
        for plural in ["applications", "applicationsets", "appprojects"] {
            let path = format!("{PATH}/{plural}.argoproj.io");
            self.request(Method::DELETE, &path, "").await?;
        }
        let path = "/apis/argoproj.io/v1alpha1/applications";
        wait_for("the definitions to be gone", SERVED, async || {
            let left = self.request(Method::GET, path, "").await;
            ensure!(left.is_err(), "they are still served");
            Ok(())
        })
        .await
    }

    /// Makes an application of Argo CD in namespace `argocd`, with labels (JSON).
    pub async fn make_application(&self, name: &str, labels: &str) -> Result<()> {
        let object = format!(
            r#"{{"apiVersion":"argoproj.io/v1alpha1","kind":"Application",
            "metadata":{{"name":"{name}","labels":{labels}}},
            "spec":{{"project":"default","source":{{"repoURL":"https://git.example/{name}.git","path":"."}},
            "destination":{{"server":"https://kubernetes.default.svc","namespace":"{name}"}}}}}}"#
        );
        let path = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications";
        self.request(Method::POST, path, &object).await.map(drop)
    }

    /// Writes the status of an application, as its controller does.
    pub async fn set_application(&self, name: &str, sync: &str, health: &str) -> Result<()> {
        let patch = format!(
            r#"{{"status":{{"sync":{{"status":"{sync}","revision":"abc123"}},"health":{{"status":"{health}"}}}}}}"#
        );
        let path = format!("/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/{name}");
        self.request(Method::PATCH, &path, &patch).await.map(drop)
    }

    /// Makes a namespace.
    pub async fn make_namespace(&self, name: &str) -> Result<()> {
        let object = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        let path = "/api/v1/namespaces";
        self.request(Method::POST, path, &object).await.map(drop)
    }
}

/// A file that the toolchain has brought.
fn installed(name: &str) -> Result<String> {
    let file = tools_dir()?.join(name);
    std::fs::read_to_string(&file).with_context(|| {
        let file = file.display();
        format!("{file} is not on this machine: run `make setup-test`")
    })
}
