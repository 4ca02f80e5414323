//! The section `proxy.session_events`: sessions become Events of a cluster. Must not know how they are
//! written.

use std::path::PathBuf;

use comind_model::ingress::Cluster;
use comind_model::login::{Events, Object};
use schemars::JsonSchema;
use serde::Deserialize;

/// The beginnings and ends of sessions, and who was not let in, as Events (`events.k8s.io`) of the pod
/// that this runs in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SessionEvents {
    /// A kubeconfig; without one, and without a context, the service account of the pod.
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one where not given.
    context: Option<String>,
    /// What they are about, in place of the pod: KIND/NAMESPACE/NAME; KIND is `pod`, `deployment`,
    /// `statefulset` or `daemonset`.
    #[schemars(extend("examples" = ["deployment/ingress/comind-ingress"]))]
    about: Option<String>,
}

impl SessionEvents {
    pub(super) fn read(self) -> Result<Events, String> {
        let outside = self.kubeconfig.is_some() || self.context.is_some();
        if outside && self.about.is_none() {
            return Err(
                "outside of a cluster there is no pod: name what Events are about, as \
                 `about: deployment/NAMESPACE/NAME`"
                    .to_owned(),
            );
        }
        Ok(Events {
            cluster: outside.then_some(Cluster {
                kubeconfig: self.kubeconfig,
                context: self.context,
            }),
            about: self.about.as_deref().map(object).transpose()?,
        })
    }
}

fn object(text: &str) -> Result<Object, String> {
    let bad = || {
        format!(
            "`{text}` names no object; write deployment/NAMESPACE/NAME, or pod, statefulset, daemonset"
        )
    };
    let mut parts = text.split('/');
    let (Some(kind), Some(namespace), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    let (version, kind) = match kind.to_ascii_lowercase().as_str() {
        "pod" => ("v1", "Pod"),
        "deployment" => ("apps/v1", "Deployment"),
        "statefulset" => ("apps/v1", "StatefulSet"),
        "daemonset" => ("apps/v1", "DaemonSet"),
        _ => return Err(bad()),
    };
    let good = |name: &str| {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = |byte: u8| plain(&byte) || b"-.".contains(&byte);
        let ends = |byte: Option<&u8>| byte.is_some_and(plain);
        let bytes = name.as_bytes();
        ends(bytes.first()) && ends(bytes.last()) && name.len() <= 253 && name.bytes().all(fits)
    };
    if !good(namespace) || !good(name) {
        return Err(bad());
    }
    Ok(Object {
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_kind_namespace_and_name() {
        let read = object("Deployment/ingress/proxy").unwrap();
        assert_eq!(
            (read.version.as_str(), read.kind.as_str()),
            ("apps/v1", "Deployment")
        );
        for bad in [
            "",
            "proxy",
            "secret/a/b",
            "pod/a",
            "pod/a/b/c",
            "pod//b",
            "pod/../b",
            "pod/a/B",
        ] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }
}
