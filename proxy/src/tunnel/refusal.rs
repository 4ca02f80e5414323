//! Why there is no tunnel, in words, and what may be done about it. Pure.

use std::fmt;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no usable kubeconfig.
    NoCluster(String),
    /// The API server does not believe who we are.
    Unknown(String),
    /// We may not.
    Denied(String),
    /// There is no such pod any more.
    Gone(String),
    /// The pod is there, and nothing takes the connection.
    NotListening(String),
    /// The API server cannot be reached, or cannot reach the node.
    Away(String),
}

impl Refusal {
    /// Asking again in a moment cannot help: somebody has to do something, or another pod is there.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NoCluster(_) | Self::Away(_) => false,
            Self::Unknown(_) | Self::Denied(_) | Self::Gone(_) | Self::NotListening(_) => true,
        }
    }

    /// It speaks against the pod, not against the way to it.
    pub fn blames_pod(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::NotListening(_))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoCluster(text)
        | Self::Unknown(text)
        | Self::Denied(text)
        | Self::Gone(text)
        | Self::NotListening(text)
        | Self::Away(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}

/// What an error of the API means for the tunnel to `place`.
pub fn of_api(namespace: &str, place: &str, error: &kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) => of_status(namespace, place, status.code, &status.message),
        kube::Error::Auth(error) => Refusal::Unknown(format!(
            "the credentials of the kubeconfig cannot be used: {error}; log in again"
        )),
        other => Refusal::Away(format!(
            "the API server cannot be reached: {}",
            chain(other)
        )),
    }
}

fn of_status(namespace: &str, place: &str, code: u16, message: &str) -> Refusal {
    match code {
        401 => Refusal::Unknown(
            "the API server does not believe who we are (401); renew the kubeconfig's credentials"
                .to_owned(),
        ),
        403 => Refusal::Denied(format!(
            "no right to open a tunnel to {place}: it takes `get` and `create` on `pods/portforward` in namespace {namespace} ({message})"
        )),
        404 => Refusal::Gone(format!("the pod of {place} is gone")),
        other => Refusal::Away(format!("no tunnel to {place} (status {other}): {message}")),
    }
}

/// What the kubelet says of a connection into a pod.
pub fn of_trouble(place: &str, told: &str) -> Refusal {
    if told.contains("connection refused") {
        return Refusal::NotListening(format!(
            "nothing in the pod listens at {place} (connection refused)"
        ));
    }
    if told.contains("not running") || told.contains("not found") || told.contains("no such file") {
        return Refusal::Gone(format!(
            "the pod of {place} has ended: {}",
            first_line(told)
        ));
    }
    Refusal::NotListening(format!(
        "the connection to {place} broke: {}",
        first_line(told)
    ))
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16) -> Refusal {
        let status = kube::core::Status {
            code,
            message: "said so".to_owned(),
            ..kube::core::Status::default()
        };
        of_api("shop", "shop/web-1:80", &kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        assert!(matches!(api(401), Refusal::Unknown(_)));
        assert_eq!(
            api(403).to_string(),
            "no right to open a tunnel to shop/web-1:80: it takes `get` and `create` on `pods/portforward` in namespace shop (said so)"
        );
        assert!(api(404).blames_pod() && api(404).is_final());
        assert!(!api(500).is_final() && !api(500).blames_pod());
    }

    #[test]
    fn what_the_kubelet_says_is_understood() {
        let refused = "error forwarding port 81 to pod 0ab, uid : failed to connect to localhost:81 inside namespace \"0ab\", IPv4: dial tcp4 127.0.0.1:81: connect: connection refused";
        let refused = of_trouble("shop/web-1:81", refused);
        assert_eq!(
            refused.to_string(),
            "nothing in the pod listens at shop/web-1:81 (connection refused)"
        );
        assert!(matches!(
            of_trouble("a/b:1", "sandbox is not running"),
            Refusal::Gone(_)
        ));
        assert!(
            of_trouble("a/b:1", "reset by peer\nmore")
                .to_string()
                .ends_with("reset by peer")
        );
    }
}
