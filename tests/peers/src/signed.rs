//! HTTP requests signed as AWS services want them (signature version 4).
//!
//! Must not know what is asked.

use std::net::SocketAddr;
use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::Full;

use crate::http::send;

/// A key pair of an S3 user.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The public half.
    pub access: String,
    /// The secret half; not shown by `Debug`.
    pub secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A key pair.
    pub fn new(access: &str, secret: &str) -> Self {
        Self {
            access: access.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// Signs one request to an S3 service at `addr` and sends it. `path` is
    /// already percent-encoded and may have a query.
    pub async fn s3(
        &self,
        addr: SocketAddr,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Bytes>> {
        let body = body.into();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{addr}{path}"))
            .header(header::HOST, addr.to_string())
            .body(Full::new(body.clone()))?;
        self.sign(&mut request, &body)
            .context("could not sign a request")?;
        *request.uri_mut() = Uri::try_from(path)?; // servers want the path alone
        send(addr, request).await
    }

    fn sign(&self, request: &mut Request<Full<Bytes>>, body: &[u8]) -> Result<()> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let credentials =
            Credentials::new(&self.access, &self.secret, None, None, "comind-peers").into();
        let params = SigningParams::builder()
            .identity(&credentials)
            .region("us-east-1")
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()?
            .into();
        let uri = request.uri().to_string();
        let host = [("host", request.uri().authority().map_or("", |a| a.as_str()))];
        let signable = SignableRequest::new(
            request.method().as_str(),
            &uri,
            host.into_iter(),
            SignableBody::Bytes(body),
        )?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
