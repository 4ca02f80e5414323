//! Reads the Secrets that askers name, each from the asker's own namespace, and keeps them for a
//! while. Must not know what they are for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1;
use kube::{Api, Client};
use tokio::time::timeout;

use super::wish::SecretKey;
use crate::kube::client::Access;
use crate::kube::failure;
use crate::secret::Secret;

/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// So many are read at once.
const AT_ONCE: usize = 8;

/// Namespace and name.
pub type At = (String, String);

/// What was read.
#[derive(Debug, Default)]
pub struct Secrets {
    read: HashMap<At, Result<BTreeMap<String, Secret>, String>>,
}

impl Secrets {
    /// All are to be read again.
    pub fn forget(&mut self) {
        self.read.clear();
    }

    /// Reads those that are not known, and forgets those that nobody names.
    pub async fn read(&mut self, access: &Access, named: &BTreeSet<At>) {
        self.read.retain(|at, _| named.contains(at));
        let missing: Vec<At> = named
            .iter()
            .filter(|at| !self.read.contains_key(*at))
            .cloned()
            .collect();
        if missing.is_empty() {
            return;
        }
        let client = match access.client().await {
            Ok(client) => client,
            Err(failure) => return tracing::warn!("failed to read Secrets: {failure}"),
        };
        let mut asked = futures_util::stream::iter(missing)
            .map(|at| async {
                let read = read(&client, &at).await;
                (at, read)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((at, read)) = asked.next().await {
            self.read.insert(at, read);
        }
    }

    /// What these keys hold.
    ///
    /// # Errors
    /// Which Secret or key cannot be read, and what to do.
    pub fn get(
        &self,
        namespace: &str,
        keys: &BTreeMap<String, SecretKey>,
    ) -> Result<BTreeMap<String, Secret>, String> {
        let found = keys.iter().map(|(setting, wanted)| {
            let at = (namespace.to_owned(), wanted.name.clone());
            let read = self.read.get(&at);
            let read = read.ok_or_else(|| format!("Secret {} is not read yet", wanted.name))?;
            let map = read.as_ref().map_err(Clone::clone)?;
            let secret = map.get(&wanted.key).ok_or_else(|| {
                let keys: Vec<&str> = map.keys().map(String::as_str).collect();
                format!(
                    "Secret {} has no key `{}` in UTF-8; it has: {}",
                    wanted.name,
                    wanted.key,
                    keys.join(", ")
                )
            })?;
            Ok((setting.clone(), secret.clone()))
        });
        found.collect()
    }
}

async fn read(client: &Client, (namespace, name): &At) -> Result<BTreeMap<String, Secret>, String> {
    let api: Api<v1::Secret> = Api::namespaced(client.clone(), namespace);
    let tried = format!("read Secret {name}");
    let secret = match timeout(DEADLINE, api.get(name)).await {
        Ok(Ok(secret)) => secret,
        Ok(Err(error)) => return Err(failure::of(&tried, &error).message),
        Err(_) => return Err(format!("failed to {tried}: no answer within {DEADLINE:?}")),
    };
    let data = secret.data.unwrap_or_default();
    let texts = data
        .into_iter()
        .filter_map(|(key, bytes)| Some((key, Secret::new(String::from_utf8(bytes.0).ok()?))));
    Ok(texts.collect())
}
