//! Where the platform is described: in a repository inside it, or in one that its users have.
//!
//! Which one it is is noted beside the cluster, so that the next run knows it; its login lies in the
//! cluster alone, where Argo CD reads it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::host::place::Place;
use crate::cluster::known::Known;
use crate::cluster::objects;
use crate::cluster::ways::Ways;
use crate::platform::repository::Repository;
use crate::platform::{argocd, git, logins};
use crate::secret::Secret;
use crate::store;

/// Argo CD's Secret with the repository and its login.
pub const KNOWN_TO_ARGOCD: &str = "platform-repository";

/// A user and a password or token.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password, or a token.
    pub password: Secret,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub enum Source {
    /// Inside the platform.
    #[default]
    Own,
    /// At this URL; with a login that was given now.
    Given(String, Option<Login>),
}

/// What is noted of it.
#[derive(Deserialize, Serialize)]
struct Noted {
    url: String,
}

impl Source {
    /// The one that is asked for, else the one that was noted, else our own.
    ///
    /// # Errors
    /// When the URL holds a password or is of a kind that Argo CD does not fetch, or what is noted
    /// cannot be read.
    pub fn choose(place: &Place, url: Option<String>, login: Option<Login>) -> Result<Self> {
        if let Some(url) = url {
            check(&url)?;
            return Ok(Self::Given(url, login));
        }
        if login.is_some() {
            bail!("there is a login for a repository, but no REPO_URL that it is for");
        }
        let noted: Option<Noted> = store::read_json(&note(place))?;
        Ok(noted.map_or(Self::Own, |noted| Self::Given(noted.url, None)))
    }

    /// Where Argo CD finds it.
    pub fn url(&self) -> &str {
        match self {
            Self::Own => git::REPOSITORY,
            Self::Given(url, _) => url,
        }
    }

    /// Where it is reached from this machine.
    pub fn url_from_here(&self, ways: &Ways) -> String {
        match self {
            Self::Own => git::url(ways),
            Self::Given(url, _) => url.clone(),
        }
    }

    /// Whether it is served by the platform.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }

    /// Who may push: as given, or as the cluster knows.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn login(&self, kubeconfig: &Path) -> Result<Option<Login>> {
        let known = match self {
            Self::Given(_, Some(login)) => return Ok(Some(login.clone())),
            Self::Given(_, None) => {
                let client = objects::client(kubeconfig).await?;
                let value = async |key| {
                    logins::look(&client, argocd::NAMESPACE, KNOWN_TO_ARGOCD, key).await
                };
                value("username").await?.zip(value("password").await?)
            }
            Self::Own => {
                let password = git::login(kubeconfig).await?;
                password.map(|password| (Secret::new(git::USER), password))
            }
        };
        Ok(known.map(|(user, password)| Login {
            user: user.expose().to_owned(),
            password,
        }))
    }

    /// It with what is needed to use it; nothing while our own has no login yet.
    ///
    /// # Errors
    /// When the cluster does not answer, or git is missing.
    pub async fn open(&self, known: &Known) -> Result<Option<Repository>> {
        let login = self.login(&known.place.kubeconfig()).await?;
        if self.is_own() && login.is_none() {
            return Ok(None);
        }
        let url = self.url_from_here(&known.ways);
        Repository::new(&known.programs, url, login.as_ref()).map(Some)
    }

    /// Notes it for the next run. Says nothing of logins.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn note(&self, place: &Place) -> Result<()> {
        match self {
            Self::Own => store::remove(&note(place)).map(drop),
            Self::Given(url, _) => store::write_json(&note(place), &Noted { url: url.clone() }),
        }
    }

    /// What Argo CD has to know of it.
    pub fn secret(&self, login: Option<&Login>) -> Value {
        let mut data = vec![("type", "git"), ("url", self.url())];
        if let Some(login) = login {
            data.push(("username", &login.user));
            data.push(("password", login.password.expose()));
        }
        let kind = [("argocd.argoproj.io/secret-type", "repository")];
        logins::secret(argocd::NAMESPACE, KNOWN_TO_ARGOCD, &kind, &data)
    }
}

fn note(place: &Place) -> PathBuf {
    place.data("repository.json")
}

/// Secrets in URLs end up in logs, objects and histories.
fn check(url: &str) -> Result<()> {
    let parsed: http::Uri = url
        .parse()
        .with_context(|| format!("REPO_URL {url:?} is no URL"))?;
    let scheme = parsed.scheme_str().unwrap_or_default();
    if !["https", "http", "git"].contains(&scheme) {
        bail!("REPO_URL begins with https://, http:// or git://, not with {scheme:?}");
    }
    let authority = parsed
        .authority()
        .map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        bail!("REPO_URL holds a login; give it as REPO_USER and REPO_PASSWORD_FILE instead");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_holds_no_login_and_is_one_that_argocd_fetches() {
        for good in [
            "https://git.example.org/a/b.git",
            "git://10.0.0.1:9418/p.git",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "https://me:secret@git.example.org/a.git",
            "ssh://git@example.org/a.git",
            "git@example.org:a.git",
            "/srv/git",
        ] {
            let error = check(bad).expect_err(bad).to_string();
            assert!(error.contains("REPO_"), "{error}");
            assert!(
                !error.contains("secret@") || bad.contains("/srv"),
                "{error}"
            );
        }
    }

    #[test]
    fn argocd_gets_a_login_only_where_there_is_one() {
        let source = Source::Given("https://git.example.org/a.git".into(), None);
        let login = Login {
            user: "me".into(),
            password: Secret::new("p"),
        };
        let keys = |login: Option<&Login>| {
            let secret = source.secret(login);
            let data = secret["data"].as_object().expect("data");
            data.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(None), ["type", "url"]);
        assert_eq!(keys(Some(&login)), ["password", "type", "url", "username"]);
    }
}
