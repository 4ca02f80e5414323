//! From PostgreSQL's error codes to causes. Source: the PostgreSQL manual, appendix A.

use comind_model::reason::Reason;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::probe::failure::Failure;

/// From an error; `tried` completes "failed to …".
pub(super) fn failure(tried: &str, error: &Error) -> Failure {
    if let Some(db) = error.as_db_error() {
        let message = format!(
            "failed to {tried}: {} (SQLSTATE {})",
            db.message(),
            db.code().code()
        );
        return Failure::new(reason(db.code(), db.message()), message);
    }
    let otherwise = if error.is_closed() {
        Reason::ConnectionClosed
    } else {
        Reason::ProtocolError
    };
    Failure::chained(tried, error, otherwise)
}

fn reason(code: &SqlState, message: &str) -> Reason {
    match code.code() {
        "28P01" => Reason::WrongPassword,
        "28000" | "42501" => Reason::PermissionDenied,
        "3D000" => Reason::MissingDatabase,
        "53300" => Reason::TooManyConnections,
        "53100" => Reason::DiskFull,
        "53200" => Reason::OutOfMemory,
        "25006" => Reason::ReadOnly,
        "57P01" | "57P02" => Reason::ShuttingDown,
        "57P03" if message.contains("shutting down") => Reason::ShuttingDown,
        "57P03" => Reason::Starting,
        // 58030 is io_error: the message carries the system's words.
        "58030" if message.contains("No space left") => Reason::DiskFull,
        // idle_session_timeout: it tells of the connection alone, which is opened again.
        "57P05" => Reason::ConnectionClosed,
        code if code.starts_with("08") => Reason::ConnectionClosed,
        _ => Reason::ServerError,
    }
}
