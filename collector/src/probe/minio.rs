//! MinIO and other S3 servers: a signed request and the cluster's health on a held
//! connection; the deep look puts, gets and deletes a canary object in every bucket.
//!
//! Source of the health paths: MinIO's documentation of its healthcheck API. Other S3
//! servers do not have them, and are then judged by signed requests alone.

mod error;

use std::path::PathBuf;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::secret_file;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::dial::{self, Endpoint};
use crate::net::sdk::{HeldClient, credentials};
use crate::net::tls::TlsSettings;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session, canary};
use crate::secret::{Secret, SecretUrl};

/// The kind `minio`.
pub const KIND: Kind = Kind::of::<MinioSettings>();

/// Settings of kind `minio`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "minio")]
pub struct MinioSettings {
    /// The server: `http://host:port` or `https://host:port`.
    pub url: SecretUrl,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// A file that holds the secret key.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// Buckets that must exist and be writable.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// Whether the deep look writes an object into each of `buckets`.
    #[serde(default = "yes")]
    pub writable: bool,
    /// The region in signatures.
    #[serde(default = "region")]
    pub region: String,
    /// Whom to trust and what to show.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
}

fn yes() -> bool {
    true
}

fn region() -> String {
    "us-east-1".to_owned()
}

impl Settings for MinioSettings {
    const NAME: &'static str = "minio";
    const ABOUT: &'static str = "A signed request and the write quorum on a held connection; deeply: required buckets \
         exist, and a canary object can be put, read back and deleted in each.";
    const METRICS: &'static [FactMetric] = &[
        FactMetric {
            name: "buckets",
            help: "Buckets that the credentials can see",
        },
        FactMetric {
            name: "write_quorum",
            help: "Drives that a write needs",
        },
    ];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let secret_key = match (&self.secret_key, &self.secret_key_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(file)) => secret_file::read(file)?,
            _ => return Err("give either secret_key or secret_key_file".to_owned()),
        };
        Ok(Box::new(Minio {
            endpoint: Endpoint::of(&self.url, None, "https", self.tls.as_ref())?,
            url: self.url.reveal().as_str().trim_end_matches('/').to_owned(),
            credentials: credentials(&self.access_key, &secret_key),
            region: Region::new(self.region),
            buckets: self.buckets,
            writable: self.writable,
        }))
    }
}

struct Minio {
    endpoint: Endpoint,
    url: String,
    credentials: aws_credential_types::Credentials,
    region: Region,
    buckets: Vec<String>,
    writable: bool,
}

impl Minio {
    fn client(&self, http: HeldClient) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(self.credentials.clone())
            .region(self.region.clone())
            .endpoint_url(&self.url)
            .force_path_style(true)
            // One question, one answer: repeats and deadlines are the source's.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Older S3 servers do not know the newer default checksums; we compare the bytes.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        Client::from_conf(config)
    }

    async fn deep_look(&self) -> Result<Seen, Failure> {
        let http = HeldClient::new(self.endpoint.clone());
        let expiry = http.open().await?;
        let client = self.client(http);
        let mut seen = Seen::default();
        let listed = client.list_buckets().send().await;
        let listed = listed.map_err(|error| error::failure("list the buckets", &error))?;
        let names: Vec<&str> = listed
            .buckets()
            .iter()
            .filter_map(|bucket| bucket.name())
            .collect();
        seen.facts.set("buckets", names.len() as f64);
        for bucket in &self.buckets {
            if !names.contains(&bucket.as_str()) {
                self.head(&client, bucket).await?;
            }
            if self.writable {
                write_canary(&client, bucket).await?;
            }
        }
        dial::note_certificate(&mut seen, expiry);
        Ok(seen)
    }

    /// A bucket that is not in the list may be one that the credentials may use but not see.
    async fn head(&self, client: &Client, bucket: &str) -> Result<(), Failure> {
        let head = client.head_bucket().bucket(bucket).send().await;
        head.map(drop).map_err(|error| {
            let mut failure = error::failure(&format!("find bucket `{bucket}`"), &error);
            // HEAD carries no body, so a missing bucket is a bare 404.
            if error
                .raw_response()
                .is_some_and(|response| response.status().as_u16() == 404)
            {
                failure = Failure::new(
                    Reason::MissingBucket,
                    format!("bucket `{bucket}` does not exist"),
                );
            }
            failure
        })
    }
}

async fn write_canary(client: &Client, bucket: &str) -> Result<(), Failure> {
    let token = canary::token();
    let key = format!(".comind-ops/canary-{token}");
    let put = client.put_object().bucket(bucket).key(&key);
    let put = put
        .body(ByteStream::from(token.clone().into_bytes()))
        .send()
        .await;
    put.map_err(|error| {
        error::failure(
            &format!("put a canary object into bucket `{bucket}`"),
            &error,
        )
    })?;
    let read = read_canary(client, bucket, &key).await;
    // Deleted also when it could not be read back.
    let deleted = client.delete_object().bucket(bucket).key(&key).send().await;
    let read = read?;
    deleted.map_err(|error| {
        error::failure(
            &format!("delete the canary object in bucket `{bucket}`"),
            &error,
        )
    })?;
    if read == token.as_bytes() {
        return Ok(());
    }
    let message = format!(
        "bucket `{bucket}`: {} bytes came back, and not those that were put",
        read.len()
    );
    Err(Failure::new(Reason::DataMismatch, message))
}

async fn read_canary(client: &Client, bucket: &str, key: &str) -> Result<Vec<u8>, Failure> {
    let tried = format!("get the canary object from bucket `{bucket}`");
    let got = client.get_object().bucket(bucket).key(key).send().await;
    let got = got.map_err(|error| error::failure(&tried, &error))?;
    let body = got.body.collect().await;
    let body = body.map_err(|error| Failure::chained(&tried, &error, Reason::ConnectionClosed))?;
    Ok(body.to_vec())
}

impl Probe for Minio {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            let http = HeldClient::new(self.endpoint.clone());
            let certificate_expiry = http.open().await?;
            Ok(Box::new(MinioSession {
                client: self.client(http.clone()),
                http,
                certificate_expiry,
                has_health: true,
            }) as Box<dyn Session>)
        })
    }

    fn has_deep(&self) -> bool {
        true
    }

    fn deep(&self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(self.deep_look())
    }
}

struct MinioSession {
    client: Client,
    http: HeldClient,
    certificate_expiry: Option<f64>,
    /// Whether it has MinIO's health paths; learned at the first look.
    has_health: bool,
}

impl MinioSession {
    async fn quorum(&mut self, seen: &mut Seen) -> Result<(), Failure> {
        let answer = self.http.get("/minio/health/cluster").await?;
        let quorum = answer.headers().get("x-minio-write-quorum");
        if let Some(quorum) = quorum.and_then(|value| value.to_str().ok()?.parse::<f64>().ok()) {
            seen.facts.set("write_quorum", quorum);
        }
        match answer.status().as_u16() {
            200 => Ok(()),
            503 => Err(Failure::new(
                Reason::QuorumLost,
                "too few drives are online for a write",
            )),
            _ => {
                self.has_health = false;
                Ok(())
            }
        }
    }
}

impl Session for MinioSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let mut seen = Seen::default();
            if self.has_health {
                self.quorum(&mut seen).await?;
            }
            let listed = self.client.list_buckets().max_buckets(1).send().await;
            listed.map_err(|error| error::failure("make a signed request", &error))?;
            dial::note_certificate(&mut seen, self.certificate_expiry);
            Ok(seen)
        })
    }

    fn heartbeat(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        // Any answer proves life; what it says is the look's business.
        Box::pin(async { self.http.get("/minio/health/live").await.map(drop) })
    }

    fn closed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.http.closed())
    }
}
