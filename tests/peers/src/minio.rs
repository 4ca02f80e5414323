//! MinIO as a peer: one drive, buckets and users made before it is handed out.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Method, Response};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use crate::http::{get, text};
use crate::peer::{Peer, Plan, is_peer, own_dir};
use crate::port::Port;
use crate::process::Launch;
use crate::signed::Key;
use crate::tool::Tool;

const MINIO: Tool = Tool::built("minio");

/// What can be chosen before the start.
#[derive(Debug, Clone)]
pub struct MinioBuilder {
    port: Option<u16>,
    root: Key,
    buckets: Vec<String>,
    users: Vec<(Key, String)>,
    env: Vec<(String, String)>,
}

impl MinioBuilder {
    /// Listens on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The root user (default `minioadmin`/`minioadmin`). MinIO wants at least
    /// 3 and 8 characters.
    #[must_use]
    pub fn root(mut self, access: &str, secret: &str) -> Self {
        self.root = Key::new(access, secret);
        self
    }

    /// A bucket to make.
    #[must_use]
    pub fn bucket(mut self, name: &str) -> Self {
        self.buckets.push(name.to_owned());
        self
    }

    /// A user to make, bound to the policy of that name: MinIO's `readonly`,
    /// `writeonly`, `readwrite`, or one given to [`Minio::add_policy`] later.
    #[must_use]
    pub fn user(mut self, access: &str, secret: &str, policy: &str) -> Self {
        self.users
            .push((Key::new(access, secret), policy.to_owned()));
        self
    }

    /// An environment variable of the server.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server, waits until it answers a signed request, then makes
    /// buckets and users.
    pub async fn start(self) -> Result<Minio> {
        let console = Port::free()?;
        let make = async |dir: &Path, port| self.plan(dir, port, console.number());
        let peer = Peer::start("minio", self.port, make).await?;
        let root = self.root;
        let minio = Minio {
            peer,
            console,
            root,
        };
        for bucket in &self.buckets {
            minio.create_bucket(bucket).await?;
        }
        for (key, policy) in &self.users {
            minio.add_user(key, policy).await?;
        }
        Ok(minio)
    }

    fn plan(&self, dir: &Path, port: u16, console: u16) -> Result<Plan> {
        let data = own_dir(dir, "data", None)?;
        let mut launch = Launch::new(MINIO.find()?, dir)
            .args(["server", "--quiet", "--address"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("--console-address")
            .arg(format!("127.0.0.1:{console}"))
            .arg(data)
            .env("HOME", dir.to_string_lossy())
            .env("MINIO_ROOT_USER", &self.root.access)
            .env("MINIO_ROOT_PASSWORD", &self.root.secret)
            .env("MINIO_UPDATE", "off");
        launch.env.extend(self.env.iter().cloned());
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let root = self.root.clone();
        Ok(Plan::new(launch, move || {
            let root = root.clone();
            async move {
                get(addr, "/minio/health/cluster").await?;
                // The health answer comes before users are loaded.
                text(&root.s3(addr, Method::GET, "/", "").await?)?;
                Ok(())
            }
        }))
    }
}

/// A running MinIO.
#[derive(Debug)]
pub struct Minio {
    peer: Peer,
    console: Port,
    root: Key,
}

is_peer!(Minio);

impl Minio {
    /// Starts one with the default root user and no bucket.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// What can be chosen before the start.
    pub fn builder() -> MinioBuilder {
        MinioBuilder {
            port: None,
            root: Key::new("minioadmin", "minioadmin"),
            buckets: Vec::new(),
            users: Vec::new(),
            env: Vec::new(),
        }
    }

    /// URL of the S3 endpoint.
    pub fn url(&self) -> String {
        self.url_via(self.addr())
    }

    /// As [`url`](Self::url), by way of another address (a relay).
    pub fn url_via(&self, addr: SocketAddr) -> String {
        format!("http://{addr}")
    }

    /// Where the console listens.
    pub fn console(&self) -> SocketAddr {
        self.console.addr()
    }

    /// The root user's key.
    pub fn root(&self) -> &Key {
        &self.root
    }

    /// One request signed by the root user; an error unless it is answered
    /// with 2xx. `path` is `/bucket/key`, percent-encoded, and may have a query.
    pub async fn request(&self, method: Method, path: &str, body: &str) -> Result<String> {
        let what = format!("{method} {path}");
        let body = Bytes::copy_from_slice(body.as_bytes());
        text(&self.root.s3(self.addr(), method, path, body).await?).context(what)
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        self.request(Method::PUT, &format!("/{name}"), "").await?;
        Ok(())
    }

    /// Removes an empty bucket.
    pub async fn remove_bucket(&self, name: &str) -> Result<()> {
        self.request(Method::DELETE, &format!("/{name}"), "")
            .await?;
        Ok(())
    }

    /// Makes or replaces a policy (JSON as for AWS IAM).
    pub async fn add_policy(&self, name: &str, json: &str) -> Result<()> {
        let path = format!("/minio/admin/v3/add-canned-policy?name={name}");
        self.request(Method::PUT, &path, json).await?;
        Ok(())
    }

    /// Makes a user or changes its secret, and binds it to a policy.
    pub async fn add_user(&self, key: &Key, policy: &str) -> Result<()> {
        let user = &key.access;
        let json = serde_json::json!({"secretKey": key.secret, "status": "enabled"});
        let sealed = seal(&self.root.secret, json.to_string().as_bytes())?;
        let path = format!("/minio/admin/v3/add-user?accessKey={user}");
        self.admin(&path, sealed).await?;
        let path = format!(
            "/minio/admin/v3/set-user-or-group-policy?policyName={policy}&userOrGroup={user}&isGroup=false"
        );
        self.admin(&path, Bytes::new()).await
    }

    /// Switches a user off or on: its next request is refused, or works again.
    pub async fn enable_user(&self, access: &str, enabled: bool) -> Result<()> {
        let status = if enabled { "enabled" } else { "disabled" };
        let path = format!("/minio/admin/v3/set-user-status?accessKey={access}&status={status}");
        self.admin(&path, Bytes::new()).await
    }

    async fn admin(&self, path: &str, body: Bytes) -> Result<()> {
        let answer: Response<Bytes> = self.root.s3(self.addr(), Method::PUT, path, body).await?;
        text(&answer).with_context(|| format!("PUT {path}"))?;
        Ok(())
    }
}

/// Seals the body of an admin request with the caller's secret, as MinIO wants
/// it: salt (32 bytes), the number of the method (2: PBKDF2 and AES-256-GCM),
/// nonce (8), then one fragment. Layout from `madmin-go` v3 `encrypt.go` and
/// `sio-go` v0.3.1 `writer.go`; the key is stretched 8192 times.
fn seal(secret: &str, plain: &[u8]) -> Result<Bytes> {
    const ROUNDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(8192).expect("not zero");
    let random = SystemRandom::new();
    let (mut salt, mut nonce, mut key) = ([0; 32], [0; 12], [0; 32]);
    let dice = |place: &mut [u8]| random.fill(place).map_err(|_| anyhow!("no random numbers"));
    dice(&mut salt)?;
    dice(&mut nonce[..8])?;
    pbkdf2::derive(
        PBKDF2_HMAC_SHA256,
        ROUNDS,
        &salt,
        secret.as_bytes(),
        &mut key,
    );
    let failed = |_| anyhow!("could not seal an admin request");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(failed)?);
    // Fragment 0 is empty: its tag, marked as the last one's, binds the rest.
    let header = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut [])
        .map_err(failed)?;
    let bound = [&[0x80], header.as_ref()].concat();
    let mut sealed = [&salt[..], &[2], &nonce[..8]].concat();
    nonce[8] = 1; // the fragment's number, little endian
    let mut fragment = plain.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(bound),
        &mut fragment,
    )
    .map_err(failed)?;
    sealed.extend(fragment);
    Ok(sealed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::accepts;

    #[tokio::test]
    async fn answers_dies_and_comes_back_with_its_data() -> Result<()> {
        let mut server = Minio::builder().bucket("box").start().await?;
        server.request(Method::PUT, "/box/k", "v").await?;
        server.kill()?;
        assert!(accepts(server.addr()).await.is_err());
        server.restart().await?;
        assert_eq!(server.request(Method::GET, "/box/k", "").await?, "v");
        assert!(server.request(Method::GET, "/none/k", "").await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn two_at_once_and_gone_when_dropped() -> Result<()> {
        let (one, two) = tokio::try_join!(Minio::start(), Minio::start())?;
        let addr = one.addr();
        drop(one);
        assert!(accepts(addr).await.is_err());
        two.create_bucket("box").await?;
        two.remove_bucket("box").await
    }

    #[tokio::test]
    async fn a_user_may_do_what_its_policy_says() -> Result<()> {
        let server = Minio::builder()
            .root("boss", "correct horse")
            .bucket("box")
            .user("reader", "reader-secret", "readonly")
            .start()
            .await?;
        server.request(Method::PUT, "/box/k", "v").await?;
        let reader = Key::new("reader", "reader-secret");
        let ask = async |method| {
            let answer = reader.s3(server.addr(), method, "/box/k", "w").await;
            answer.map(|a| a.status().as_u16())
        };
        assert_eq!(ask(Method::GET).await?, 200);
        assert_eq!(ask(Method::PUT).await?, 403);
        server.enable_user("reader", false).await?;
        assert_eq!(ask(Method::GET).await?, 403);
        Ok(())
    }
}
