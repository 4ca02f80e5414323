//! The key that sealed Secrets are opened with, made before there is a controller, so that things
//! can be sealed before there is a cluster. Kept beside the cluster: what was sealed for one cluster
//! of an environment is opened by its next.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
};
use rsa::PrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::Value;

use crate::cluster::env::Env;
use crate::home::Home;
use crate::platform::logins;
use crate::platform::sealing::Random;
use crate::secret::Secret;
use crate::{store, validity};

/// As the controller makes its own.
const BITS: usize = 4096;
/// How long the certificate lasts, in days.
const DAYS: i64 = 3650;
/// The controller takes Secrets with this label for its keys.
const ACTIVE: (&str, &str) = ("sealedsecrets.bitnami.com/sealed-secrets-key", "active");
/// The Secret's name.
const NAME: &str = "sealed-secrets-key-comind-ops";

/// A key and its certificate.
#[derive(Clone)]
pub struct Pair {
    /// The key, as PEM of PKCS#8.
    pub key: Secret,
    /// Its certificate, as PEM.
    pub certificate: String,
}

/// Where an environment's are.
fn files(home: &Home, env: Env) -> [PathBuf; 2] {
    let dir = home.data(&format!("sealing-{}", env.name()));
    [dir.join("tls.key"), dir.join("tls.crt")]
}

/// Where an environment's certificate is, which everybody may have.
pub fn certificate(home: &Home, env: Env) -> PathBuf {
    let [_, certificate] = files(home, env);
    certificate
}

impl Pair {
    /// A new one; that takes some seconds.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn make(now: Timestamp) -> Result<Self> {
        Self::of(BITS, now)
    }

    pub(in crate::platform) fn of(bits: usize, now: Timestamp) -> Result<Self> {
        let key = PrivateKey::new(&mut Random, bits).context("cannot make a key of RSA")?;
        let pem = key.to_pkcs8_pem(LineEnding::LF)?;
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256)?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "comind-ops sealing");
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        validity::set(&mut params, now, DAYS)?;
        Ok(Self {
            key: Secret::new(pem.as_str()),
            certificate: params.self_signed(&pair)?.pem(),
        })
    }

    /// The one of an environment, if it was made.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn look(home: &Home, env: Env) -> Result<Option<Self>> {
        let [key, certificate] = files(home, env);
        let both = (store::read(&key)?, store::read(&certificate)?);
        Ok(match both {
            (Some(key), Some(certificate)) => Some(Self {
                key: Secret::new(key),
                certificate,
            }),
            _ => None,
        })
    }

    /// Keeps it, for its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, home: &Home, env: Env) -> Result<()> {
        let [key, certificate] = files(home, env);
        if let Some(dir) = key.parent() {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        store::write(&key, self.key.expose().as_bytes())?;
        // Last: where it is, the other is too.
        store::write(&certificate, self.certificate.as_bytes())
    }

    /// The Secret by which the controller has it.
    pub fn secret(&self, namespace: &str) -> Value {
        let data = [
            ("tls.key", self.key.expose()),
            ("tls.crt", self.certificate.as_str()),
        ];
        let mut secret = logins::secret(namespace, NAME, &[ACTIVE], &data);
        secret["type"] = "kubernetes.io/tls".into();
        secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Surroundings;
    use crate::platform::sealing::Certificate;

    #[test]
    fn a_pair_is_kept_for_its_owner_and_is_the_controllers() -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir()?;
        let home = Home::choose(&Surroundings {
            asked: Some(dir.path().to_owned()),
            ..Surroundings::default()
        })?;
        assert!(Pair::look(&home, Env::Qa)?.is_none());
        let now: Timestamp = "2028-02-29T12:00:00Z".parse()?;
        let pair = Pair::of(2048, now)?;
        pair.keep(&home, Env::Qa)?;
        let kept = Pair::look(&home, Env::Qa)?.context("it was kept")?;
        assert!(kept.key == pair.key && kept.certificate == pair.certificate);
        let [key, _] = files(&home, Env::Qa);
        assert_eq!(std::fs::metadata(key)?.permissions().mode() & 0o777, 0o600);
        let years_on: Timestamp = "2038-02-01T00:00:00Z".parse()?;
        Certificate::from_pem(&kept.certificate, years_on)?;
        let secret = pair.secret("platform");
        assert_eq!(secret["metadata"]["labels"][ACTIVE.0], ACTIVE.1);
        assert_eq!(secret["type"], "kubernetes.io/tls");
        Ok(())
    }

    #[test]
    fn keys_are_as_long_as_the_controllers_own() -> Result<()> {
        use rsa::pkcs8::DecodePrivateKey as _;
        use rsa::traits::PublicKeyParts as _;
        let pair = Pair::make(Timestamp::UNIX_EPOCH)?;
        let key = PrivateKey::from_pkcs8_pem(pair.key.expose())?;
        assert_eq!(key.size() * 8, BITS);
        Ok(())
    }
}
