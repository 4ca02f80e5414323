//! A look that went wrong: its cause, and a sentence for people. Turns what the libraries
//! report (I/O, TLS) into one of the model's reasons. Must not know single kinds.

use std::io;

use comind_model::fact::Facts;
use comind_model::reason::Reason;

/// Why a look failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The cause.
    pub reason: Reason,
    /// What was tried and what came back; never a secret.
    pub message: String,
    /// What was learned all the same.
    pub facts: Facts,
}

impl Failure {
    /// A failure with its cause and a sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            facts: Facts::default(),
        }
    }

    /// The same, with what was learned.
    pub fn with_facts(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }

    /// From an I/O error; `tried` completes "failed to …".
    pub fn io(tried: &str, error: &io::Error) -> Self {
        if let Some(tls) = tls_error(error) {
            return Self::tls(tried, tls);
        }
        Self::new(io_reason(error), format!("failed to {tried}: {error}"))
    }

    /// From a TLS error; `tried` completes "failed to …".
    pub fn tls(tried: &str, error: &rustls::Error) -> Self {
        use rustls::CertificateError as Cert;
        let reason = match error {
            rustls::Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
                Reason::CertificateExpired
            }
            _ => Reason::TlsError,
        };
        Self::new(reason, format!("failed to {tried}: {error}"))
    }

    /// From an error of any library: looks through its chain of causes for an I/O or TLS
    /// error, and falls back to `otherwise`. `tried` completes "failed to …".
    pub fn chained(
        tried: &str,
        error: &(dyn std::error::Error + 'static),
        otherwise: Reason,
    ) -> Self {
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<io::Error>() {
                return Self::io(tried, io);
            }
            if let Some(tls) = current.downcast_ref::<rustls::Error>() {
                return Self::tls(tried, tls);
            }
            cause = current.source();
        }
        Self::new(otherwise, format!("failed to {tried}: {}", chain(error)))
    }

    /// Whether the peer, or somebody on the way, ended a connection that stood.
    pub fn hung_up(&self) -> bool {
        matches!(self.reason, Reason::ConnectionClosed | Reason::ShuttingDown)
    }

    /// Whether it tells of a lost connection rather than of the service: on a held
    /// connection that asks for a second opinion, from a fresh one.
    pub fn lost_connection(&self) -> bool {
        matches!(
            self.reason,
            Reason::ConnectionClosed | Reason::Refused | Reason::Unreachable | Reason::ShuttingDown
        )
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let next = current.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = current.source();
    }
    text
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

fn io_reason(error: &io::Error) -> Reason {
    use io::ErrorKind as Kind;
    // ENFILE and EMFILE, which std has no kind for: our own limits, not the target's fault.
    if matches!(error.raw_os_error(), Some(23 | 24)) {
        return Reason::ProberFault;
    }
    match error.kind() {
        Kind::ConnectionRefused => Reason::Refused,
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected
        | Kind::UnexpectedEof => Reason::ConnectionClosed,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Reason::Unreachable,
        Kind::TimedOut => Reason::Timeout,
        Kind::StorageFull | Kind::QuotaExceeded => Reason::DiskFull,
        Kind::InvalidData => Reason::ProtocolError,
        Kind::AddrNotAvailable | Kind::OutOfMemory => Reason::ProberFault,
        _ => Reason::ConnectionClosed,
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
