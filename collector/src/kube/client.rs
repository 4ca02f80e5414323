//! A client of the Kubernetes API, from a kubeconfig or from what a pod finds in its files.
//! Must not know what is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kube::failure;
use crate::probe::failure::Failure;
use comind_model::reason::Reason;

/// How long connecting may take; looks have a shorter deadline of their own.
const CONNECT: Duration = Duration::from_secs(5);

/// Which API server, and as whom.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// A kubeconfig. Without one, the service account of the pod that we run in.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one by default.
    pub context: Option<String>,
}

impl Access {
    /// From the two settings that kinds have for it.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or has no such context.
    pub fn of(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Self, String> {
        let access = Self {
            kubeconfig,
            context,
        };
        match (&access.kubeconfig, &access.context) {
            (Some(file), context) => check(file, context.as_deref())?,
            (None, Some(_)) => {
                return Err("`context` names one of a kubeconfig; add `kubeconfig`".to_owned());
            }
            (None, None) => {}
        }
        Ok(access)
    }

    /// Opens a client. Reads the kubeconfig anew each time, so that renewed credentials count.
    ///
    /// # Errors
    /// When there is no usable kubeconfig, or we run in no cluster.
    pub async fn client(&self) -> Result<Client, Failure> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        // Whoever asks has a schedule and says when to ask again.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| failure::of("prepare a client", &error))
    }

    async fn config(&self) -> Result<Config, Failure> {
        let Some(file) = &self.kubeconfig else {
            return Config::incluster().map_err(|error| {
                let message = format!(
                    "failed to find the service account of a pod: {error}; outside of a cluster name a `kubeconfig`"
                );
                Failure::new(Reason::ProberFault, message)
            });
        };
        let bad = |error: &dyn std::fmt::Display| {
            let message = format!("failed to use kubeconfig {}: {error}", file.display());
            Failure::new(Reason::ProberFault, message)
        };
        let read = Kubeconfig::read_from(file).map_err(|error| bad(&error))?;
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(read, &options)
            .await
            .map_err(|error| bad(&error))
    }
}

fn check(file: &Path, context: Option<&str>) -> Result<(), String> {
    let config = Kubeconfig::read_from(file).map_err(|error| format!("`kubeconfig`: {error}"))?;
    let wanted = context.or(config.current_context.as_deref());
    let Some(wanted) = wanted else {
        return Err("the `kubeconfig` has no current context; name a `context`".to_owned());
    };
    if config.contexts.iter().any(|known| known.name == wanted) {
        return Ok(());
    }
    let known: Vec<_> = config.contexts.iter().map(|c| c.name.as_str()).collect();
    let known = known.join(", ");
    Err(format!(
        "the `kubeconfig` has no context `{wanted}`; its contexts are: {known}"
    ))
}
