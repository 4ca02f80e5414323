//! Logins between the platform's parts: made once, kept in the cluster, never written anywhere else.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::Client;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use crate::cluster::objects::LABEL;
use crate::secret::Secret as Hidden;

/// The Secret whose keys the collector reads as files.
pub const SECRET: &str = "comind-ops-targets";
/// MinIO's root user in the platform.
pub const MINIO_USER: &str = "comind";

/// A new password: 192 random bits that need no quoting anywhere.
///
/// # Errors
/// When the system gives no random bytes.
pub fn password() -> Result<Hidden> {
    let mut bytes = [0; 24];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow!("the system gives no random bytes"))?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    Ok(Hidden::new(text))
}

/// One value of a secret in the cluster; nothing where there is none.
///
/// # Errors
/// When the cluster does not answer.
pub async fn look(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<Option<Hidden>> {
    let found: Option<Secret> = Api::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .with_context(|| format!("cannot look at the secret {namespace}/{name}"))?;
    let bytes = found.and_then(|secret| secret.data?.remove(key));
    bytes
        .map(|bytes| Ok(Hidden::new(String::from_utf8(bytes.0)?)))
        .transpose()
}

/// A secret as an object to apply.
pub fn secret(
    namespace: &str,
    name: &str,
    labels: &[(&str, &str)],
    data: &[(&str, &str)],
) -> Value {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().chain([LABEL]).collect();
    let data: BTreeMap<&str, String> = data
        .iter()
        .map(|(key, value)| {
            (
                *key,
                base64::engine::general_purpose::STANDARD.encode(value),
            )
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::password;

    #[test]
    fn passwords_are_long_and_differ() -> anyhow::Result<()> {
        let (one, other) = (password()?, password()?);
        assert!(one.expose().len() == 32 && one != other);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(one.expose().bytes().all(plain));
        Ok(())
    }
}
