//! The parts of Argo CD's objects that we read. What we do not name is not kept: an application
//! can be a megabyte long.
//!
//! Source of the fields: Argo CD's API types, `argoproj.io/v1alpha1`, release 3.2.

use k8s_openapi::jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an application should be.
#[derive(Clone, Debug, Default, Deserialize, Serialize, CustomResource, JsonSchema)]
#[kube(
    group = "argoproj.io",
    version = "v1alpha1",
    kind = "Application",
    plural = "applications",
    namespaced,
    status = "ApplicationStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationSpec {
    /// The project that it belongs to.
    pub project: String,
    /// Where it is deployed.
    pub destination: Destination,
    /// Where it comes from; absent when there are several sources.
    pub source: Option<Repository>,
    /// Where it comes from, when from several.
    pub sources: Vec<Repository>,
    /// How it is synced.
    pub sync_policy: Option<SyncPolicy>,
}

/// Where an application is deployed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Destination {
    /// URL of the cluster.
    pub server: String,
    /// Or its name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
}

/// A source of manifests.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Repository {
    /// URL of the repository.
    #[serde(rename = "repoURL")]
    pub repo_url: String,
}

/// How an application is synced.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct SyncPolicy {
    /// By itself, if present.
    pub automated: Option<Automated>,
}

/// Syncing by itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Automated {
    /// `false` switches it off.
    pub enabled: Option<bool>,
}

/// How an application is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationStatus {
    /// Compared with its source.
    pub sync: SyncStatus,
    /// Whether it works.
    pub health: HealthStatus,
    /// The operation that runs, or the last one.
    pub operation_state: Option<OperationState>,
    /// What Argo CD has to say besides.
    pub conditions: Vec<Condition>,
}

/// An application compared with its source.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct SyncStatus {
    /// `Synced`, `OutOfSync` or `Unknown`.
    pub status: String,
    /// The commit that it was compared with.
    pub revision: String,
    /// The commits, when there are several sources.
    pub revisions: Vec<String>,
}

/// Whether an application works.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct HealthStatus {
    /// `Healthy`, `Progressing`, `Degraded`, `Suspended`, `Missing` or `Unknown`.
    pub status: String,
    /// Why; older releases only.
    pub message: String,
}

/// An operation, such as a sync.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationState {
    /// `Running`, `Terminating`, `Failed`, `Error` or `Succeeded`.
    pub phase: String,
    /// What came of it.
    pub message: String,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schemars(with = "String")]
    pub finished_at: Option<Timestamp>,
}

/// Something that Argo CD has to say of an application or a set.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Condition {
    /// `ComparisonError`, `SyncError`, `ErrorOccurred`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`; conditions of applications have none.
    pub status: String,
    /// In words.
    pub message: String,
}

/// What an application set should be; nothing of it is read.
#[derive(Clone, Debug, Default, Deserialize, Serialize, CustomResource, JsonSchema)]
#[kube(
    group = "argoproj.io",
    version = "v1alpha1",
    kind = "ApplicationSet",
    plural = "applicationsets",
    namespaced,
    status = "ApplicationSetStatus",
    schema = "disabled"
)]
pub struct ApplicationSetSpec {}

/// How an application set is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ApplicationSetStatus {
    /// What its controller has to say.
    pub conditions: Vec<Condition>,
}

impl Application {
    /// The repository of its first source.
    pub fn repository(&self) -> &str {
        let first = self.spec.source.as_ref().or(self.spec.sources.first());
        first.map_or("", |source| &source.repo_url)
    }

    /// Whether Argo CD syncs it by itself.
    pub fn syncs_by_itself(&self) -> bool {
        let policy = self.spec.sync_policy.as_ref();
        policy
            .and_then(|policy| policy.automated.as_ref())
            .is_some_and(|automated| automated.enabled != Some(false))
    }
}
