//! What the Kubernetes API and its client report, as one of the model's reasons.
//! Must not know which object was asked for; the message of the API server names it.

use comind_model::reason::Reason;

use crate::probe::failure::Failure;

/// From an error of the client; `tried` completes "failed to …".
pub fn of(tried: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => of_status(tried, status.code, &status.message),
        kube::Error::Auth(error) => Failure::new(
            Reason::WrongPassword,
            format!("failed to {tried}: the credentials cannot be used: {error}"),
        ),
        kube::Error::SerdeError(error) => Failure::new(
            Reason::ProtocolError,
            format!("failed to {tried}: the answer is not what was asked for: {error}"),
        ),
        error => Failure::chained(tried, error, Reason::ConnectionClosed),
    }
}

/// From a refusal of the API server.
pub fn of_status(tried: &str, code: u16, message: &str) -> Failure {
    let (reason, told) = match code {
        401 => (
            Reason::TokenExpired,
            "it does not accept the token or certificate (401)",
        ),
        403 => (Reason::PermissionDenied, message),
        404 => (Reason::MissingDefinition, message),
        429 => (Reason::ServerError, "it is overloaded (429)"),
        _ => (Reason::ServerError, message),
    };
    Failure::new(
        reason,
        format!("failed to {tried}: the API server answered {code}: {told}"),
    )
}

/// Whether the API server forgot the version from which a watch was to go on.
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_own_reasons() {
        let reason = |code| of_status("list applications", code, "because").reason;
        assert_eq!(reason(401), Reason::TokenExpired);
        assert_eq!(reason(403), Reason::PermissionDenied);
        assert_eq!(reason(404), Reason::MissingDefinition);
        assert_eq!(reason(500), Reason::ServerError);
        let failure = of_status("list applications", 403, "user x cannot list");
        let wanted = "failed to list applications: the API server answered 403: user x cannot list";
        assert_eq!(failure.message, wanted);
    }
}
