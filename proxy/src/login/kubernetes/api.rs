//! The two questions to an API server: who has this token, and may they do that. Nothing is
//! remembered here, nobody is let in here. What is said of a failure holds no token.
//! Sources: kubernetes.io/docs/reference/kubernetes-api: TokenReview, SubjectAccessReview (v1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comind_model::ingress::Cluster;
use comind_model::login::{Hidden, Right};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Mutex;

use crate::tunnel::refusal::chain;
use crate::tunnel::watch::{self, Stamp};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Somebody, as the API server knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their name.
    pub user: Arc<str>,
    /// Their groups.
    pub groups: Vec<Arc<str>>,
    uid: Option<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Person {
    fn new(user: UserInfo) -> Option<Self> {
        let name = user.username.filter(|name| !name.is_empty())?;
        let groups = user.groups.unwrap_or_default();
        Some(Self {
            user: name.into(),
            groups: groups.into_iter().map(Arc::from).collect(),
            uid: user.uid.filter(|uid| !uid.is_empty()),
            extra: user.extra.unwrap_or_default(),
        })
    }

    /// All that rights may depend on; no two are the same.
    pub fn parts(&self) -> Vec<&[u8]> {
        let uid = self.uid.as_deref().unwrap_or_default();
        let mut parts = vec![self.user.as_bytes(), uid.as_bytes()];
        for group in &self.groups {
            parts.extend([&b"group"[..], group.as_bytes()]);
        }
        for (name, values) in &self.extra {
            parts.extend([&b"extra"[..], name.as_bytes()]);
            for value in values {
                parts.extend([&b"value"[..], value.as_bytes()]);
            }
        }
        parts
    }
}

/// Why something cannot be known now.
#[derive(Clone, Debug)]
pub struct Lack {
    /// For whoever asks to be let in, who may be anybody: without addresses and paths.
    pub said: Arc<str>,
    /// For the log; holds no token either.
    pub cause: String,
}

impl Lack {
    /// With nothing more to say.
    pub fn new(said: &str) -> Self {
        Self {
            said: said.into(),
            cause: String::new(),
        }
    }

    fn of(said: &str, cause: String) -> Self {
        Self {
            cause,
            ..Self::new(said)
        }
    }
}

/// An API server.
pub struct Server {
    cluster: Option<Cluster>,
    client: Mutex<Option<(Stamp, Client)>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Asks nothing yet.
    pub fn new(cluster: Option<Cluster>) -> Self {
        Self {
            cluster,
            client: Mutex::default(),
        }
    }

    /// Who has this token; nobody where it is worth nothing.
    ///
    /// # Errors
    /// Why that cannot be known now.
    pub async fn who(
        &self,
        token: &Hidden,
        audiences: &[Arc<str>],
    ) -> Result<Option<Person>, Lack> {
        let wanted: Vec<String> = audiences.iter().map(|one| one.to_string()).collect();
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: (!wanted.is_empty()).then(|| wanted.clone()),
                token: Some(token.reveal().to_owned()),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client().await?);
        let answered = reviews.create(&PostParams::default(), &review).await;
        let answered = answered.map_err(|error| failed("tokenreviews", &error))?;
        let status = answered.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        // A server that knows nothing of audiences names none, and its yes is for itself alone.
        let told = status.audiences.unwrap_or_default();
        if !wanted.is_empty() && !wanted.iter().any(|one| told.contains(one)) {
            return Ok(None);
        }
        Ok(status.user.and_then(Person::new))
    }

    /// Whether they may.
    ///
    /// # Errors
    /// Why that cannot be known now.
    pub async fn may(&self, person: &Person, right: &Right) -> Result<bool, Lack> {
        let groups = person.groups.iter().map(|group| group.to_string());
        let mut spec = SubjectAccessReviewSpec {
            user: Some(person.user.to_string()),
            groups: Some(groups.collect()),
            uid: person.uid.clone(),
            extra: (!person.extra.is_empty()).then(|| person.extra.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        match right {
            Right::Resource(it) => {
                let told = |text: &Arc<str>| (!text.is_empty()).then(|| text.to_string());
                spec.resource_attributes = Some(ResourceAttributes {
                    verb: told(&it.verb),
                    group: told(&it.group),
                    resource: told(&it.resource),
                    subresource: told(&it.subresource),
                    namespace: told(&it.namespace),
                    name: told(&it.name),
                    ..ResourceAttributes::default()
                });
            }
            Right::Path { verb, path } => {
                spec.non_resource_attributes = Some(NonResourceAttributes {
                    verb: Some(verb.to_string()),
                    path: Some(path.to_string()),
                });
            }
        }
        let review = SubjectAccessReview {
            spec,
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client().await?);
        let answered = reviews.create(&PostParams::default(), &review).await;
        let answered = answered.map_err(|error| failed("subjectaccessreviews", &error))?;
        let status = answered.status.unwrap_or_default();
        Ok(status.allowed && status.denied != Some(true))
    }

    /// The one that was made last, unless somebody has written the kubeconfig since.
    async fn client(&self) -> Result<Client, Lack> {
        let mut known = self.client.lock().await;
        let stamp = watch::stamp(self.cluster.as_ref());
        if let Some((before, client)) = &*known
            && *before == stamp
        {
            return Ok(client.clone());
        }
        let mut config = watch::config(self.cluster.as_ref())
            .await
            .map_err(unusable)?;
        config.connect_timeout = Some(CONNECT);
        // Whoever asks says when to ask again.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| unusable(chain(&error)))?;
        *known = Some((stamp, client.clone()));
        Ok(client)
    }
}

fn unusable(cause: String) -> Lack {
    Lack::of("the way to its API server is not set up", cause)
}

/// In words, and with nothing of what was sent: an answer that cannot be read is not shown.
fn failed(what: &str, error: &kube::Error) -> Lack {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            Lack::new("its API server does not believe who we are (401)")
        }
        kube::Error::Api(status) if status.code == 403 => Lack::new(&format!(
            "we have no right to ask its API server: that takes `create` on `{what}` (403)"
        )),
        kube::Error::Api(status) => {
            Lack::new(&format!("its API server answers {} to {what}", status.code))
        }
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Lack::new(&format!(
            "the answer of its API server to {what} cannot be read"
        )),
        other => Lack::of("its API server cannot be reached", chain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(groups: &[&str], extra: &[(&str, &[&str])]) -> Person {
        let extra = extra.iter().map(|(name, values)| {
            let values = values.iter().map(|value| (*value).to_owned());
            ((*name).to_owned(), values.collect())
        });
        Person {
            user: "ada".into(),
            groups: groups.iter().map(|group| Arc::from(*group)).collect(),
            uid: None,
            extra: extra.collect(),
        }
    }

    #[test]
    fn nobody_is_taken_for_somebody_else() {
        let all = [
            person(&[], &[]),
            person(&["a"], &[]),
            person(&["a", "b"], &[]),
            person(&[], &[("a", &[])]),
            person(&[], &[("a", &["b"])]),
            person(&["a"], &[("a", &["b"])]),
        ];
        for (number, one) in all.iter().enumerate() {
            for other in &all[number + 1..] {
                assert_ne!(one.parts(), other.parts());
            }
        }
        assert_eq!(Person::new(UserInfo::default()), None);
    }
}
