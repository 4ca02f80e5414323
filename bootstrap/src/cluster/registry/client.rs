//! Speaks to a registry: whether it has an image, and pushing one. Must not know why.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::TryStreamExt as _;
use http::HeaderValue;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client as Oci, Reference};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::cause;
use crate::cluster::registry::address::Address;
use crate::cluster::registry::login::login;
use crate::cluster::registry::packed::{Layer, MANIFEST, Packed};
use crate::wait::while_going;

/// A registry says within this whether it has something, or is not to be counted on. Connecting has no limit
/// of its own: two tries of it would end in the same moment, by other words.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// A push of which no more goes for so long has stalled. At its end a registry may have to copy it all.
const SILENCE: Duration = Duration::from_secs(60);
/// What of a layer is in memory.
const PIECE: usize = 1024 * 1024;

/// A registry that answers.
pub struct Client {
    oci: Oci,
    auth: RegistryAuth,
    address: Address,
    /// Which image a layer was last seen with.
    layers: BTreeMap<String, Reference>,
}

impl Client {
    /// Takes the login from docker's configuration, and none if there is none.
    ///
    /// # Errors
    /// When there is a login that cannot be read.
    pub async fn new(address: &Address) -> Result<Self> {
        // Its HTTP client takes the process' provider; whoever has set one before has set this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = address.host().to_owned();
        let config = ClientConfig {
            protocol: match address.plain() {
                true => ClientProtocol::HttpsExcept(vec![host.clone()]),
                false => ClientProtocol::Https,
            },
            // One request a layer: not every registry takes pieces.
            use_monolithic_push: true,
            user_agent: concat!("comind-ops/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let oci = Oci::try_from(config).context("cannot make a client for the registry")?;
        // A helper of docker's may be a program that asks elsewhere.
        let auth = tokio::task::spawn_blocking(move || login(&host)).await??;
        oci.store_auth_if_needed(address.host(), &auth).await;
        Ok(Self {
            oci,
            auth,
            address: address.clone(),
            layers: BTreeMap::new(),
        })
    }

    /// Whether it has what is named so, digest and all.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn has(&self, name: &str) -> Result<bool> {
        let image = reference(name)?;
        let asked = self.oci.fetch_manifest_digest(&image, &self.auth);
        match self.in_time(asked).await {
            Ok(found) => Ok(image.digest() == Some(found.as_str())),
            Err(Failed::Absent) => Ok(false),
            Err(failed) => Err(self.words("asked for", name, failed)),
        }
    }

    /// Pushes an image, whose own layer lies in `own`; what the registry has of it is not sent again.
    ///
    /// # Errors
    /// When it does not take it, or keeps something else.
    pub async fn push(&mut self, image: &Packed, own: &Path) -> Result<()> {
        let name = &image.name;
        let to = reference(name)?;
        for layer in &image.layers {
            self.layer(&to, layer, own).await?;
        }
        let digest = image.config_digest();
        if !self.has_blob(&to, &digest).await? {
            let sending = self.oci.push_blob(&to, image.config.clone(), &digest);
            self.taken(name, sending, &AtomicU64::new(0)).await?;
        }
        // By its tag: the registry then keeps it for longer than it keeps what nothing names.
        let tagged = Reference::with_tag(
            to.registry().to_owned(),
            to.repository().to_owned(),
            to.tag().unwrap_or("latest").to_owned(),
        );
        let sending = self.oci.push_manifest_raw(
            &tagged,
            image.manifest.clone(),
            HeaderValue::from_static(MANIFEST),
        );
        self.taken(name, sending, &AtomicU64::new(0)).await?;
        ensure!(
            self.has(name).await?,
            "the registry {} took {name} and does not have it: what stands before it may change images",
            self.address.url()
        );
        Ok(())
    }

    async fn layer(&mut self, to: &Reference, layer: &Layer, own: &Path) -> Result<()> {
        let digest = &layer.digest;
        if !self.has_blob(to, digest).await? && !self.mounted(to, digest).await? {
            let file = layer.file.as_deref().unwrap_or(own);
            self.send(to, digest, layer.size, file).await?;
        }
        self.layers.insert(digest.clone(), to.clone());
        Ok(())
    }

    /// Whether the registry takes a layer from another image of ours; not each does.
    async fn mounted(&self, to: &Reference, digest: &str) -> Result<bool> {
        let Some(from) = self.layers.get(digest) else {
            return Ok(false);
        };
        let asked = self.in_time(self.oci.mount_blob(to, from, digest)).await;
        Ok(asked.is_ok() && self.has_blob(to, digest).await?)
    }

    async fn send(&self, to: &Reference, digest: &str, size: u64, file: &Path) -> Result<()> {
        let open = File::open(file).await;
        let open = open.with_context(|| format!("cannot read {}", file.display()))?;
        let pieces = ReaderStream::with_capacity(open, PIECE);
        let gone = Arc::new(AtomicU64::new(0));
        let count = gone.clone();
        let pieces = pieces.inspect_ok(move |piece| {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        let pieces = pieces.map_err(OciDistributionError::from);
        let sending = self.oci.push_blob_stream(to, pieces, digest, Some(size));
        self.taken(&to.whole(), sending, &gone).await
    }

    /// Waits until it has taken what is sent to it, of which `gone` says how much has gone.
    async fn taken<T>(
        &self,
        name: &str,
        sending: impl Future<Output = Result<T, OciDistributionError>>,
        gone: &AtomicU64,
    ) -> Result<()> {
        match while_going(sending, gone, SILENCE, drop).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.words("pushed", name, error.into())),
            None => Err(self.words("pushed", name, Failed::Stalled)),
        }
    }

    async fn has_blob(&self, image: &Reference, digest: &str) -> Result<bool> {
        match self.in_time(self.oci.blob_exists(image, digest)).await {
            Ok(there) => Ok(there),
            Err(Failed::Absent) => Ok(false),
            Err(failed) => Err(self.words("asked for a layer of", &image.whole(), failed)),
        }
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, OciDistributionError>>,
    ) -> Result<T, Failed> {
        match tokio::time::timeout(ASK_LIMIT, asked).await {
            Ok(answer) => answer.map_err(Failed::from),
            Err(_) => Err(Failed::Silent),
        }
    }

    /// What was tried, what came back, and what to do.
    fn words(&self, tried: &str, name: &str, failed: Failed) -> anyhow::Error {
        let (host, url) = (self.address.host(), self.address.url());
        match failed {
            Failed::Absent => anyhow!(
                "the registry {url}, {tried} {name}, knows no such place; make it there first"
            ),
            Failed::Silent => anyhow!(
                "the registry {url}, {tried} {name}, said nothing for {} s",
                ASK_LIMIT.as_secs()
            ),
            Failed::Stalled => anyhow!(
                "the registry {url}, {tried} {name}, has taken no more for {} s; run this again: what it has is not sent again",
                SILENCE.as_secs()
            ),
            Failed::Login => anyhow!(
                "the registry {url}, {tried} {name}, wants {} login: docker login {host}, as the user who runs this",
                match self.auth {
                    RegistryAuth::Anonymous => "a",
                    _ => "another",
                }
            ),
            Failed::Unreached(why) if !self.address.plain() => anyhow!(
                "cannot reach the registry {url}: {why}; one without TLS is named with http://, one of an authority of your own needs that among this machine's certificates"
            ),
            Failed::Unreached(why) => anyhow!("cannot reach the registry {url}: {why}"),
            Failed::Other(why) => anyhow!("the registry {url}, {tried} {name}: {why}"),
        }
    }
}

/// How it went wrong.
enum Failed {
    Absent,
    Silent,
    Stalled,
    Login,
    Unreached(String),
    Other(String),
}

impl From<OciDistributionError> for Failed {
    fn from(error: OciDistributionError) -> Self {
        use OciDistributionError as E;
        match &error {
            E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => Self::Absent,
            E::UnauthorizedError { .. }
            | E::AuthenticationFailure(_)
            | E::ServerError {
                code: 401 | 403, ..
            } => Self::Login,
            E::RegistryError { envelope, .. } => {
                let code = envelope.errors.first().map(|one| &one.code);
                match code {
                    Some(
                        OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NotFound
                        | OciErrorCode::BlobUnknown,
                    ) => Self::Absent,
                    Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Self::Login,
                    _ => Self::Other(error.to_string()),
                }
            }
            E::RequestError(request) => match request.status().map(|status| status.as_u16()) {
                Some(404) => Self::Absent,
                Some(401 | 403) => Self::Login,
                None if request.is_connect() => Self::Unreached(cause::root(request)),
                _ => Self::Other(cause::root(request)),
            },
            _ => Self::Other(error.to_string()),
        }
    }
}

fn reference(name: &str) -> Result<Reference> {
    name.parse()
        .with_context(|| format!("{name} names no image"))
}
