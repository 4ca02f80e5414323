//! A provider: what it says of itself, its keys, and the two steps of a login with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use comind_model::login::{Hidden, Oidc};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use jsonwebtoken::jwk::Jwk;
use ring::digest::{SHA256, digest};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

use super::fetch::{Question, ask};
use super::token::{self, Bad, Claims};
use super::under_way::{All, UnderWay};
use crate::session::table::{Key, Who};
use crate::upstream::tls::ClientTls;

/// What it says of itself is asked for again after so long.
const FRESH: Duration = Duration::from_secs(3600);
/// Its keys, where a token is signed by one that we do not know, at most so often.
const KEYS_AGAIN: Duration = Duration::from_secs(5);

/// So long is waited for others that ask it.
const TURN: Duration = Duration::from_secs(10);

/// A provider.
#[derive(Debug)]
pub struct Provider {
    told: Oidc,
    tls: ClientTls,
    known: tokio::sync::Mutex<Option<Known>>,
    under_way: Mutex<All>,
}

#[derive(Clone, Debug)]
struct Known {
    about: Arc<About>,
    keys: Arc<Vec<Jwk>>,
    asked: Instant,
    keys_asked: Instant,
}

/// What it says of itself (Discovery 1.0, section 3).
#[derive(Debug, Deserialize)]
struct About {
    issuer: String,
    #[serde(deserialize_with = "url")]
    authorization_endpoint: Url,
    #[serde(deserialize_with = "url")]
    token_endpoint: Url,
    #[serde(deserialize_with = "url")]
    jwks_uri: Url,
    #[serde(default, deserialize_with = "maybe_url")]
    userinfo_endpoint: Option<Url>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
    Url::parse(&text).map_err(|error| D::Error::custom(format!("no URL: {error}")))
}

fn maybe_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    url(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    #[serde(default)]
    access_token: Option<String>,
}

/// What a provider has proved.
#[derive(Clone, Debug)]
pub struct Proved {
    /// Who it is.
    pub who: Who,
    /// The token that says so.
    pub token: Hidden,
    /// How long that is good.
    pub lasts: Duration,
}

/// What goes to the provider with a browser.
#[derive(Clone, Copy, Debug)]
pub struct Going<'a> {
    /// What comes back.
    pub state: &'a str,
    /// What the token must hold.
    pub nonce: &'a str,
    /// Whose hash is told, and which is told later.
    pub verifier: &'a str,
    /// Where it comes back to.
    pub redirect: &'a str,
}

impl Provider {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// When TLS cannot be spoken as told.
    pub fn new(told: &Oidc) -> Result<Self, String> {
        token::install();
        Ok(Self {
            told: told.clone(),
            tls: ClientTls::new(&told.tls)?,
            known: tokio::sync::Mutex::default(),
            under_way: Mutex::default(),
        })
    }

    /// One begins; false where there are too many.
    pub fn begin(&self, state: Key, one: UnderWay) -> bool {
        let mut all = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.begin(state, one)
    }

    /// One comes back, once.
    pub fn take(&self, state: &Key, host: &str, cookie: &Key, now: u64) -> Option<UnderWay> {
        let mut all = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.take(state, host, cookie, now)
    }

    /// Who it is, as it stands in its tokens.
    pub fn issuer(&self) -> &str {
        &self.told.issuer
    }

    /// Where to send a browser.
    ///
    /// # Errors
    /// When the provider does not say.
    pub async fn where_to(&self, going: Going<'_>) -> Result<Url, String> {
        let known = self.known(None).await?;
        let mut url = known.about.authorization_endpoint.clone();
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, going.verifier.as_bytes()));
        let mut scopes = vec!["openid"];
        scopes.extend(self.told.scopes.iter().map(|scope| &**scope));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.told.client_id)
            .append_pair("redirect_uri", going.redirect)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", going.state)
            .append_pair("nonce", going.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Who it is that comes back with this code.
    ///
    /// # Errors
    /// Why nobody is let in: never with a code or a token in it.
    pub async fn who(&self, code: &str, one: &UnderWay) -> Result<Proved, String> {
        let known = self.known(None).await?;
        let tokens = self.tokens(&known.about, code, one).await?;
        let mut claims = match self.verify(&tokens.id_token, &known, one) {
            Err(Bad::UnknownKey) => {
                // The provider may have changed its keys.
                let known = self.known(Some(known.keys_asked)).await?;
                self.verify(&tokens.id_token, &known, one)
            }
            verified => verified,
        }
        .map_err(|bad| match bad {
            Bad::UnknownKey => "the provider's token is signed by none of its keys".to_owned(),
            Bad::Other(text) => format!("the provider's token is not good: {text}"),
        })?;
        if let (Some(url), Some(token)) = (&known.about.userinfo_endpoint, &tokens.access_token)
            && self.lacks(&claims)
        {
            self.complete(url, token, &mut claims).await?;
        }
        Ok(Proved {
            who: self.read(&claims)?,
            lasts: lasts(&claims),
            token: Hidden::new(&tokens.id_token),
        })
    }

    fn verify(&self, token: &str, known: &Known, one: &UnderWay) -> Result<Claims, Bad> {
        token::verify(token, &known.keys, &self.told, &one.nonce)
    }

    /// What it says of itself; with other keys than those that were asked for then.
    async fn known(&self, stale: Option<Instant>) -> Result<Known, String> {
        // Whoever is before us asks too, and a provider that is away must not hold up a queue.
        let turn = tokio::time::timeout(TURN, self.known.lock()).await;
        let mut known = turn.map_err(|_| "others wait for the provider too".to_owned())?;
        let now = Instant::now();
        match &*known {
            Some(there) if now.duration_since(there.asked) < FRESH => {
                let again = stale.is_some_and(|stale| stale == there.keys_asked)
                    && now.duration_since(there.keys_asked) >= KEYS_AGAIN;
                if !again {
                    return Ok(there.clone());
                }
                let keys = self.keys(&there.about.jwks_uri).await?;
                let (about, asked) = (there.about.clone(), there.asked);
                let fresh = Known {
                    about,
                    keys,
                    asked,
                    keys_asked: now,
                };
                *known = Some(fresh.clone());
                return Ok(fresh);
            }
            _ => {}
        }
        let about = Arc::new(self.about().await?);
        let keys = self.keys(&about.jwks_uri).await?;
        let fresh = Known {
            about,
            keys,
            asked: now,
            keys_asked: now,
        };
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    async fn about(&self) -> Result<About, String> {
        let issuer = self.told.issuer.trim_end_matches('/');
        let url = format!("{issuer}/.well-known/openid-configuration");
        let url = Url::parse(&url).map_err(|error| format!("`{issuer}` is no URL: {error}"))?;
        let about: About = json(&ask(&self.tls, Question::get(&url)).await?, &url)?;
        // Else one provider could speak for another (Discovery, section 4.3).
        if about.issuer != *self.told.issuer {
            return Err(format!(
                "{url} is of the issuer `{}`, and the config says `{}`",
                about.issuer, self.told.issuer
            ));
        }
        let secure = url.scheme() == "https";
        let always = [
            &about.authorization_endpoint,
            &about.token_endpoint,
            &about.jwks_uri,
        ];
        for endpoint in always.into_iter().chain(&about.userinfo_endpoint) {
            if secure && endpoint.scheme() != "https" {
                return Err(format!("{url} names {endpoint}, which is without TLS"));
            }
        }
        Ok(about)
    }

    async fn keys(&self, url: &Url) -> Result<Arc<Vec<Jwk>>, String> {
        let (status, body) = ask(&self.tls, Question::get(url)).await?;
        if status != StatusCode::OK {
            return Err(format!("{url} answers {status}"));
        }
        token::keys(&body).map(Arc::new)
    }

    async fn tokens(&self, about: &About, code: &str, one: &UnderWay) -> Result<Tokens, String> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &one.redirect)
            .append_pair("code_verifier", &one.verifier);
        let mut headers = vec![(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )];
        let methods = &about.token_endpoint_auth_methods_supported;
        let by_header =
            methods.is_empty() || methods.iter().any(|way| way == "client_secret_basic");
        match &self.told.client_secret {
            Some(secret) if by_header => {
                // Both are encoded as in a form first (RFC 6749, section 2.3.1).
                let encoded = |text: &str| {
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                let pair = format!(
                    "{}:{}",
                    encoded(&self.told.client_id),
                    encoded(secret.reveal())
                );
                let value = format!("Basic {}", STANDARD.encode(pair));
                headers.push((AUTHORIZATION, sensitive(&value)?));
            }
            Some(secret) => {
                form.append_pair("client_id", &self.told.client_id)
                    .append_pair("client_secret", secret.reveal());
            }
            None => {
                form.append_pair("client_id", &self.told.client_id);
            }
        }
        let url = &about.token_endpoint;
        let question = Question {
            method: Method::POST,
            url: url.clone(),
            headers,
            body: form.finish(),
        };
        json(&ask(&self.tls, question).await?, url)
    }

    /// Something that we are to know does not stand in the token.
    fn lacks(&self, claims: &Claims) -> bool {
        [&self.told.user_claim, &self.told.groups_claim]
            .into_iter()
            .any(|name| !claims.contains_key(&**name))
    }

    /// Adds what the provider tells by its other way (Core, section 5.3).
    async fn complete(&self, url: &Url, token: &str, claims: &mut Claims) -> Result<(), String> {
        let mut question = Question::get(url);
        question
            .headers
            .push((AUTHORIZATION, sensitive(&format!("Bearer {token}"))?));
        let more: Claims = json(&ask(&self.tls, question).await?, url)?;
        // It must be of the same one.
        if more.get("sub").and_then(Value::as_str) != claims.get("sub").and_then(Value::as_str) {
            return Err(format!("{url} answers of somebody else"));
        }
        for (name, value) in more {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn read(&self, claims: &Claims) -> Result<Who, String> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let user = text(&self.told.user_claim)
            .or_else(|| text("sub"))
            .unwrap_or_default();
        if !crate::login::told::is_tellable(user) {
            return Err(format!("the claim `{}` is no name", self.told.user_claim));
        }
        let verified = claims.get("email_verified") != Some(&Value::Bool(false));
        if &*self.told.user_claim == "email" && !verified {
            return Err("the address for mail is not verified at the provider".to_owned());
        }
        let email =
            text("email").filter(|email| verified && crate::login::told::is_tellable(email));
        let groups: Vec<Arc<str>> = match claims.get(&*self.told.groups_claim) {
            Some(Value::Array(all)) => all
                .iter()
                .filter_map(Value::as_str)
                .map(Arc::from)
                .collect(),
            Some(Value::String(one)) => vec![one.as_str().into()],
            _ => Vec::new(),
        };
        let roles = self
            .told
            .roles
            .iter()
            .filter(|(_, wanted)| wanted.iter().any(|group| groups.contains(group)));
        let name = text("name").filter(|name| crate::login::told::is_tellable(name));
        Ok(Who {
            user: user.into(),
            name: name.map(Arc::from),
            email: email.map(Arc::from),
            roles: roles.map(|(role, _)| role.clone()).collect(),
            groups,
        })
    }
}

/// How long a token with these claims is good from now on.
fn lasts(claims: &Claims) -> Duration {
    let until = claims.get("exp").and_then(Value::as_u64).unwrap_or(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Duration::from_secs(until).saturating_sub(now.unwrap_or_default())
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| "what is to be shown cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn json<T: serde::de::DeserializeOwned>(
    (status, body): &(StatusCode, bytes::Bytes),
    url: &Url,
) -> Result<T, String> {
    if *status != StatusCode::OK {
        // The word that stands in errors of OAuth; the rest may hold anything.
        let error = serde_json::from_slice::<Value>(body).ok();
        let word = error
            .as_ref()
            .and_then(|error| error.get("error")?.as_str());
        let word: String = word.unwrap_or("nothing more").chars().take(64).collect();
        return Err(format!("{} answers {status}: {word}", url.path()));
    }
    serde_json::from_slice(body).map_err(|error| {
        // Not the text, which holds tokens.
        format!(
            "{} does not answer as it should, column {}",
            url.path(),
            error.column()
        )
    })
}
