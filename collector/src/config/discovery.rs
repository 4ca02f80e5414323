//! The section `discovery`: whether targets come from a cluster, and from where in it.
//! Must not know how they are found.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::duration::Span;
use super::probe_policy::Pattern;
use crate::kube::client::Access;

/// Targets that are not in this file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// From a Kubernetes cluster.
    pub kubernetes: Option<Kubernetes>,
}

/// Targets that a cluster names: `Monitor` resources, and Services with the annotation
/// `comind.pro/kind`. Their names are NAME.NAMESPACE.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Only in these namespaces; in all of them by default.
    pub namespaces: Vec<String>,
    /// A kubeconfig. Without one, the service account of the pod that we run in.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one by default.
    pub context: Option<String>,
    /// Whether `Monitor` resources are heard.
    pub monitors: bool,
    /// Whether annotated Services are heard.
    pub services: bool,
    /// What they may name beyond hosts `*.NAMESPACE.svc` of their own namespace, as patterns
    /// `SCHEME://HOST:PORT`.
    pub allow: Vec<Pattern>,
    /// The most targets from the cluster; the oldest come first.
    #[schemars(range(min = 1, max = 10000))]
    pub max_targets: usize,
    /// Time between full lists, which find what a watch may have missed. Secrets are read again
    /// as often.
    pub relist: Span,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            kubeconfig: None,
            context: None,
            monitors: true,
            services: true,
            allow: Vec::new(),
            max_targets: 500,
            relist: Span(Duration::from_secs(60)),
        }
    }
}

impl Kubernetes {
    /// As whom the API server is asked.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or has no such context.
    pub fn access(&self) -> Result<Access, String> {
        Access::of(self.kubeconfig.clone(), self.context.clone())
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        const OFTEN: Span = Span(Duration::from_secs(1));
        const DAY: Span = Span(Duration::from_secs(24 * 3600));
        if let Err(problem) = self.relist.within(OFTEN, DAY) {
            return Some(format!("`relist`: {problem}"));
        }
        if !(1..=super::target::MAX_TARGETS).contains(&self.max_targets) {
            let most = super::target::MAX_TARGETS;
            return Some(format!("`max_targets` must lie between 1 and {most}"));
        }
        if !self.monitors && !self.services {
            return Some("`monitors` and `services` are both off, so nothing is found".to_owned());
        }
        let mut names = self.namespaces.clone();
        names.sort_unstable();
        names.dedup();
        if names.len() != self.namespaces.len() {
            return Some("`namespaces` names one twice".to_owned());
        }
        self.access().err()
    }
}
