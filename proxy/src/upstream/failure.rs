//! Why an upstream did not answer, in words, and what may be done about it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::tunnel::refusal::Refusal;

/// What went wrong on the upstream's side.
#[derive(Debug)]
pub enum Failure {
    /// There is no endpoint.
    NoEndpoint(Option<Arc<str>>),
    /// Its name has no address.
    Resolve(String),
    /// No connection.
    Connect(io::Error),
    /// No connection in time.
    ConnectTimeout(Duration),
    /// TLS could not be agreed on.
    Tls(String),
    /// No tunnel to the pod.
    Tunnel(Refusal),
    /// All connections are in use, and enough requests wait.
    Full,
    /// No connection became free in time.
    FullTimeout(Duration),
    /// The connection closed before an answer came; whether the request was taken is not known.
    Closed(String),
    /// The connection closed before the request was sent.
    NotSent(String),
    /// No answer in time.
    FirstByte(Duration),
    /// The whole took too long.
    Total(Duration),
    /// What it says is no HTTP.
    Protocol(String),
    /// It did not take the upgrade in a form that can be passed on.
    Upgrade(String),
    /// It was left for another one before it answered.
    Left,
    /// It answered that it cannot, and another one may.
    Answered(StatusCode),
    /// The session of who asks has ended meanwhile.
    SessionEnded,
}

impl Failure {
    /// Its name in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoEndpoint(_) => "no_endpoint",
            Self::Resolve(_) => "resolve",
            Self::Connect(_) => "connect",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::Tls(_) => "tls",
            Self::Tunnel(_) => "tunnel",
            Self::Full => "full",
            Self::FullTimeout(_) => "full_timeout",
            Self::Closed(_) => "closed",
            Self::NotSent(_) => "not_sent",
            Self::FirstByte(_) => "first_byte_timeout",
            Self::Total(_) => "total_timeout",
            Self::Protocol(_) => "protocol",
            Self::Upgrade(_) => "upgrade",
            Self::Left => "left",
            Self::Answered(_) => "answered",
            Self::SessionEnded => "session_ended",
        }
    }

    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoEndpoint(_) | Self::Full | Self::FullTimeout(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::ConnectTimeout(_) | Self::FirstByte(_) | Self::Total(_) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::SessionEnded => StatusCode::UNAUTHORIZED,
            Self::Answered(status) => *status,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Nothing of the request has reached an upstream.
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Resolve(_)
                | Self::Connect(_)
                | Self::ConnectTimeout(_)
                | Self::Tls(_)
                | Self::Tunnel(_)
                | Self::NotSent(_)
        )
    }

    /// It may have reached one, and asking again for something safe does no harm.
    pub fn is_worth_another(&self) -> bool {
        // What may pass has been tried for as long as a connection may take.
        if let Self::Tunnel(refusal) = self {
            return refusal.blames_pod();
        }
        self.is_unsent() || matches!(self, Self::Closed(_) | Self::Left | Self::Answered(_))
    }

    /// It speaks against the endpoint.
    pub fn blames_endpoint(&self) -> bool {
        if let Self::Tunnel(refusal) = self {
            return refusal.blames_pod();
        }
        !matches!(
            self,
            Self::NoEndpoint(_)
                | Self::Full
                | Self::FullTimeout(_)
                | Self::Upgrade(_)
                | Self::Left
                | Self::Answered(_)
                | Self::SessionEnded
        )
    }

    /// In how many seconds it is worth asking again.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::NoEndpoint(_) => Some(5),
            Self::Full | Self::FullTimeout(_) => Some(1),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint(Some(lack)) => write!(f, "there is nobody to ask: {lack}"),
            Self::NoEndpoint(None) => {
                write!(f, "there is nobody to ask: the upstream has no endpoint")
            }
            Self::Resolve(error) => write!(f, "its name has no address: {error}"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::ConnectTimeout(limit) => write!(f, "no connection within {limit:?}"),
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
            Self::Tunnel(refusal) => refusal.fmt(f),
            Self::Full => write!(
                f,
                "all connections to it are in use, and enough requests wait for one"
            ),
            Self::FullTimeout(limit) => {
                write!(f, "no connection to it became free within {limit:?}")
            }
            Self::Closed(error) => {
                write!(f, "it closed the connection before it answered: {error}")
            }
            Self::NotSent(error) => write!(
                f,
                "it closed the connection before the request was sent: {error}"
            ),
            Self::FirstByte(limit) => write!(f, "it did not begin to answer within {limit:?}"),
            Self::Total(limit) => write!(f, "it did not answer within {limit:?}"),
            Self::Protocol(error) => write!(f, "it does not speak HTTP as agreed: {error}"),
            Self::Left => f.write_str("it cannot be reached this way any more"),
            Self::Answered(status) => write!(f, "it answered {status}"),
            Self::SessionEnded => f.write_str("your session has ended; log in again"),
            Self::Upgrade(error) => write!(f, "the upgrade failed: {error}"),
        }
    }
}
