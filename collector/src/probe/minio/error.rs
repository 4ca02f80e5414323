//! From S3's error codes to causes.
//! Source: Amazon S3 API reference, list of error codes; those that start with `XMinio` are
//! MinIO's own.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use comind_model::reason::Reason;

use crate::net::sdk;
use crate::probe::failure::Failure;

/// From an SDK error; `tried` completes "failed to …".
pub(super) fn failure<E>(tried: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    sdk::failure(tried, error, reason)
}

fn reason(code: &str) -> Option<Reason> {
    Some(match code {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => Reason::WrongPassword,
        "AccessDenied" => Reason::PermissionDenied,
        "NoSuchBucket" => Reason::MissingBucket,
        "RequestTimeTooSkewed" => Reason::ClockSkew,
        "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => Reason::DiskFull,
        "SlowDown" | "SlowDownRead" | "SlowDownWrite" => Reason::QuorumLost,
        "XMinioServerNotInitialized" => Reason::Starting,
        "MethodNotAllowed" | "XMinioBackendDown" => Reason::ReadOnly,
        _ => return None,
    })
}
