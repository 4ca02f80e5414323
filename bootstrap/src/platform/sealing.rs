//! Seals Secrets for the controller of Sealed Secrets, without it and without a cluster: its
//! certificate is enough. Pure but for its random bytes.
//!
//! A sealed value is, in base64: the length of what follows as two bytes (the higher first), a key
//! encrypted with the certificate's (RSA-OAEP, SHA-256, with where the Secret may be as its label),
//! and the value encrypted with that key (AES-256-GCM, a nonce of zeros: the key is used once). As in
//! `pkg/crypto` of <https://github.com/bitnami-labs/sealed-secrets>.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rsa::PublicKey;
use rsa::oaep::EncryptingKey;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::sha2::Sha256;
use rsa::traits::RandomizedEncryptor as _;
use serde_json::{Map, Value, json};

/// What a Secret's name in the group of Sealed Secrets begins with.
const NOTES: &str = "sealedsecrets.bitnami.com/";
/// A copy of the whole Secret, in plain sight.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Where a sealed Secret may be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Only in its namespace, under its name.
    Strict,
    /// Under any name in its namespace.
    Namespace,
    /// Anywhere in the cluster.
    Cluster,
}

impl Scope {
    /// What the annotation is called that says so; the strict one needs none.
    fn note(self) -> Option<&'static str> {
        match self {
            Self::Strict => None,
            Self::Namespace => Some("sealedsecrets.bitnami.com/namespace-wide"),
            Self::Cluster => Some("sealedsecrets.bitnami.com/cluster-wide"),
        }
    }

    /// As the annotations of a Secret say.
    fn of(secret: &Value) -> Self {
        let says = |scope: &Self| {
            let note = scope.note().unwrap_or_default();
            secret["metadata"]["annotations"][note] == "true"
        };
        [Self::Cluster, Self::Namespace]
            .into_iter()
            .find(says)
            .unwrap_or(Self::Strict)
    }

    /// What the key of a value is bound to.
    fn label(self, namespace: &str, name: &str) -> String {
        match self {
            Self::Strict => format!("{namespace}/{name}"),
            Self::Namespace => namespace.to_owned(),
            Self::Cluster => String::new(),
        }
    }
}

/// What Secrets are sealed with.
pub struct Certificate(PublicKey);

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none, not one of RSA, or over: the controller has a newer one then.
    pub fn from_pem(pem: &str, now: Timestamp) -> Result<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|_| anyhow!("this is no certificate (PEM)"))?;
        let certificate = pem
            .parse_x509()
            .map_err(|_| anyhow!("the certificate is damaged"))?;
        let until = certificate.validity().not_after;
        ensure!(
            until.timestamp() > now.as_second(),
            "the certificate ended on {until}; get the controller's new one"
        );
        let key = PublicKey::from_public_key_der(certificate.public_key().raw)
            .map_err(|_| anyhow!("the certificate's key is not one of RSA"))?;
        Ok(Self(key))
    }

    /// A value, sealed under a label.
    fn seal(&self, value: &[u8], label: &str) -> Result<String> {
        let mut session = [0; 32];
        Random.try_fill_bytes(&mut session)?;
        let key = EncryptingKey::<Sha256>::new_with_label(self.0.clone(), label.as_bytes());
        let locked = key
            .encrypt_with_rng(&mut Random, &session)
            .map_err(|error| anyhow!("the certificate's key does not encrypt: {error}"))?;
        let mut inner = value.to_vec();
        let session =
            UnboundKey::new(&AES_256_GCM, &session).map_err(|_| anyhow!("32 bytes are a key"))?;
        LessSafeKey::new(session)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::empty(),
                &mut inner,
            )
            .map_err(|_| anyhow!("the value is too long"))?;
        let length = u16::try_from(locked.len())?;
        Ok(STANDARD.encode([&length.to_be_bytes()[..], &locked, &inner].concat()))
    }
}

/// The objects of a file with one or several documents.
///
/// # Errors
/// When it is no YAML. What is in it is not shown: it is to be hidden.
pub fn read(text: &str) -> Result<Vec<Value>> {
    let all: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
    let mut all = all.map_err(|error| match error.location() {
        Some(at) => anyhow!(
            "line {}, column {}: this is no YAML",
            at.line(),
            at.column()
        ),
        None => anyhow!("this is no YAML"),
    })?;
    all.retain(|one| !one.is_null());
    Ok(all)
}

/// Objects as such a file.
///
/// # Errors
/// When one cannot be written so.
pub fn yaml(all: &[Value]) -> Result<String> {
    let texts: Result<Vec<String>, _> = all.iter().map(serde_saphyr::to_string).collect();
    let texts = texts?
        .into_iter()
        .map(|text| text.trim_end().to_owned() + "\n");
    Ok(texts.collect::<Vec<_>>().join("---\n"))
}

/// A Secret, sealed; its annotations say where it may be opened, unless `scope` does.
///
/// # Errors
/// With what is wrong with it.
pub fn sealed(secret: &Value, with: &Certificate, scope: Option<Scope>) -> Result<Value> {
    let (kind, version) = (&secret["kind"], &secret["apiVersion"]);
    ensure!(
        kind == "Secret" && version == "v1",
        "this is no Secret (v1) but a {kind} ({version})"
    );
    let scope = scope.unwrap_or_else(|| Scope::of(secret));
    let meta = |key: &str| secret["metadata"][key].as_str();
    let name = meta("name").context("metadata.name is missing")?;
    let namespace = match (meta("namespace"), scope) {
        (Some(namespace), _) => namespace,
        (None, Scope::Cluster) => "",
        (None, _) => bail!("metadata.namespace is missing; {name} can be opened only there"),
    };
    let label = scope.label(namespace, name);
    let mut encrypted = Map::new();
    for (key, value) in values(secret)? {
        encrypted.insert(key, with.seal(&value, &label)?.into());
    }
    ensure!(
        !encrypted.is_empty(),
        "there is nothing in {name} to be sealed"
    );

    let annotations = annotations(secret, scope);
    let mut meta = json!({ "name": name, "namespace": namespace });
    if namespace.is_empty() {
        meta.as_object_mut().map(|meta| meta.remove("namespace"));
    }
    let mut inner = meta.clone();
    if let Some(note) = scope.note() {
        meta["annotations"] = json!({ note: "true" });
    }
    if !annotations.is_empty() {
        inner["annotations"] = annotations.into();
    }
    if let Some(labels) = secret["metadata"].get("labels") {
        inner["labels"] = labels.clone();
    }
    let mut template = json!({ "metadata": inner });
    for key in ["type", "immutable"] {
        if let Some(value) = secret.get(key) {
            template[key] = value.clone();
        }
    }
    Ok(json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": meta,
        "spec": { "encryptedData": encrypted, "template": template },
    }))
}

/// Its own, and the one that says where it may be opened, and no copy of what is to be hidden.
fn annotations(secret: &Value, scope: Scope) -> Map<String, Value> {
    let own = secret["metadata"]["annotations"].as_object();
    let mut all = own.cloned().unwrap_or_default();
    all.retain(|key, _| key != COPY && !key.starts_with(NOTES));
    all.extend(scope.note().map(|note| (note.to_owned(), "true".into())));
    all
}

/// All values: those in base64, and over them those that are text.
fn values(secret: &Value) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for part in ["data", "stringData"] {
        for (key, value) in secret[part].as_object().into_iter().flatten() {
            let Some(text) = value.as_str() else {
                bail!("{part}.{key} is no text; put it into quotes");
            };
            // What cannot be decoded may be a secret all the same: it is not shown.
            let value = match part {
                "data" => STANDARD
                    .decode(text.replace(['\n', '\r'], ""))
                    .map_err(|_| anyhow!("data.{key} is not in base64; stringData takes text"))?,
                _ => text.as_bytes().to_vec(),
            };
            all.insert(key.clone(), value);
        }
    }
    Ok(all)
}

/// The system's random bytes for `rsa`, from where all of ours come.
pub(in crate::platform) struct Random;

/// There are none.
#[derive(Debug)]
pub(in crate::platform) struct NoRandomBytes;

impl fmt::Display for NoRandomBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gives no random bytes")
    }
}

impl std::error::Error for NoRandomBytes {}

impl TryRng for Random {
    type Error = NoRandomBytes;

    fn try_next_u32(&mut self) -> Result<u32, NoRandomBytes> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandomBytes> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomBytes> {
        SystemRandom::new().fill(bytes).map_err(|_| NoRandomBytes)
    }
}

impl TryCryptoRng for Random {}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use rsa::PrivateKey;
    use rsa::oaep::DecryptingKey;
    use rsa::pkcs8::DecodePrivateKey as _;
    use rsa::traits::Decryptor as _;

    use super::*;
    use crate::platform::sealing_key::Pair;

    /// One for all: a key takes a while.
    static PAIR: LazyLock<Pair> =
        LazyLock::new(|| Pair::of(2048, Timestamp::UNIX_EPOCH).expect("a key"));

    fn certificate() -> Certificate {
        Certificate::from_pem(&PAIR.certificate, Timestamp::UNIX_EPOCH).expect("a certificate")
    }

    /// As the controller opens it.
    fn opened(sealed: &str, label: &str) -> Result<Vec<u8>> {
        let bytes = STANDARD.decode(sealed)?;
        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let (locked, inner) = bytes[2..].split_at(length);
        let key = PrivateKey::from_pkcs8_pem(PAIR.key.expose())?;
        let key = DecryptingKey::<Sha256>::new_with_label(key, label.as_bytes());
        let session = key.decrypt(locked).map_err(|error| anyhow!("{error}"))?;
        let session = UnboundKey::new(&AES_256_GCM, &session).map_err(|_| anyhow!("no key"))?;
        let mut inner = inner.to_vec();
        let open = LessSafeKey::new(session)
            .open_in_place(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::empty(),
                &mut inner,
            )
            .map(|plain| plain.to_vec());
        open.map_err(|_| anyhow!("the value was changed"))
    }

    fn secret(annotations: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": "login", "namespace": "shop", "labels": { "app": "a" }, "annotations": annotations },
            "data": { "a": "aGlkZGVu", "b": "b2xk" }, "stringData": { "b": "new" },
        })
    }

    #[test]
    fn it_opens_where_it_may_and_nowhere_else() -> Result<()> {
        for (scope, label, note) in [
            (Scope::Strict, "shop/login", None),
            (
                Scope::Namespace,
                "shop",
                Some("sealedsecrets.bitnami.com/namespace-wide"),
            ),
            (
                Scope::Cluster,
                "",
                Some("sealedsecrets.bitnami.com/cluster-wide"),
            ),
        ] {
            let annotations = json!({ COPY: "{\"data\":{\"a\":\"aGlkZGVu\"}}", "mine": "1" });
            let sealed = sealed(&secret(&annotations), &certificate(), Some(scope))?;
            let data = &sealed["spec"]["encryptedData"];
            let open = |key: &str, label: &str| opened(data[key].as_str().unwrap_or(""), label);
            assert_eq!(open("a", label)?, b"hidden");
            assert_eq!(open("b", label)?, b"new");
            for other in ["shop/login", "shop", "", "shop/other"] {
                assert_eq!(
                    open("a", other).is_ok(),
                    other == label,
                    "{scope:?} {other}"
                );
            }
            let text = sealed.to_string();
            assert!(
                !text.contains("aGlkZGVu") && !text.contains("new"),
                "{text}"
            );
            if let Some(note) = note {
                assert_eq!(sealed["metadata"]["annotations"], json!({ note: "true" }));
                assert_eq!(
                    sealed["spec"]["template"]["metadata"]["annotations"][note],
                    "true"
                );
            }
            let template = &sealed["spec"]["template"];
            assert_eq!(template["metadata"]["annotations"]["mine"], "1");
            assert_eq!(template["metadata"]["labels"]["app"], "a");
            assert_eq!(template["type"], "Opaque");
        }
        Ok(())
    }

    #[test]
    fn its_own_annotations_say_where_unless_somebody_else_does() -> Result<()> {
        let wide = secret(&json!({ "sealedsecrets.bitnami.com/cluster-wide": "true" }));
        assert_eq!(Scope::of(&wide), Scope::Cluster);
        assert_eq!(Scope::of(&secret(&json!({}))), Scope::Strict);
        let strict = sealed(&wide, &certificate(), Some(Scope::Strict))?;
        assert!(!strict.to_string().contains("cluster-wide"), "{strict}");
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_said_and_what_is_hidden_is_not() {
        let with = |change: fn(&mut Value)| {
            let mut secret = secret(&json!({}));
            change(&mut secret);
            let error = sealed(&secret, &certificate(), None).expect_err("it is wrong");
            format!("{error:#}")
        };
        assert!(with(|one| one["kind"] = "Pod".into()).contains("Pod"));
        assert!(with(|one| one["metadata"]["namespace"] = Value::Null).contains("namespace"));
        assert!(with(|one| one["stringData"]["b"] = 12.into()).contains("stringData.b"));
        let error = with(|one| one["data"]["a"] = "hidden!".into());
        assert!(
            error.contains("data.a") && !error.contains("hidden!"),
            "{error}"
        );
        let nothing = with(|one| {
            one["data"] = json!({});
            one["stringData"] = json!({});
        });
        assert!(nothing.contains("nothing"), "{nothing}");
    }

    #[test]
    fn a_certificate_that_is_none_or_over_is_refused() {
        let late: Timestamp = "2100-01-01T00:00:00Z".parse().expect("a moment");
        let error = |pem: &str, now| match Certificate::from_pem(pem, now) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        };
        assert!(error(&PAIR.certificate, late).contains("ended on"));
        assert!(error("no", late).contains("no certificate"));
    }

    #[test]
    fn several_documents_go_in_and_come_out_and_mistakes_do_not_show_them() -> Result<()> {
        let all = read("a: 1\n---\n---\nb: [x]\n")?;
        assert_eq!(all, [json!({ "a": 1 }), json!({ "b": ["x"] })]);
        assert_eq!(read(&yaml(&all)?)?, all);
        let error = read("a: hidden\n  b: [hidden\n")
            .expect_err("no YAML")
            .to_string();
        assert!(
            !error.contains("hidden") && error.contains("line"),
            "{error}"
        );
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn every_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..200), label in "[a-z/]{0,20}") {
            let sealed = certificate().seal(&value, &label).expect("it is sealed");
            prop_assert_eq!(opened(&sealed, &label).expect("it opens"), value);
        }
    }
}
