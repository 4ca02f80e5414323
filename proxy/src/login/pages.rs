//! Our own paths, below `/.comind/` on every host: a login begins, comes back, and is ended.

use std::sync::Arc;
use std::time::Duration;

use comind_model::login::{Means, Why};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use super::door::{self, Asked, Turned};
use super::gate::{Gate, Ready};
use super::oidc::provider::{Going, Provider};
use super::oidc::under_way::UnderWay;
use super::{cookie, kubernetes, local};
use crate::session::table::Place;

/// How long the browser keeps the cookie of a login under way.
const UNDER_WAY: Duration = Duration::from_secs(600);

/// Answers one of our paths; `path` is without what all of them begin with.
/// `form` is what a POST brings.
pub async fn answer(gate: &Gate, path: &str, form: &[u8], asked: &Asked<'_>) -> Turned {
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let mut turned = match (path, asked.method) {
        ("login", &Method::GET) => begin(gate, query, asked).await,
        ("login", &Method::POST) => take_token(gate, query, form, asked).await,
        ("callback", &Method::GET) => come_back(gate, query, asked).await,
        ("logout", &Method::POST) => logout(gate, asked),
        ("session", &Method::GET) => session(gate, asked),
        ("login" | "callback" | "logout" | "session", _) => {
            let text = "a login begins by GET, a logout by POST, and a token comes by POST";
            Turned::new(StatusCode::METHOD_NOT_ALLOWED, "bad_method", text)
        }
        _ => Turned::new(
            StatusCode::NOT_FOUND,
            "no_page",
            "no such page of the proxy",
        ),
    };
    let no_store = HeaderValue::from_static("no-store");
    turned.headers.push((CACHE_CONTROL, no_store));
    turned
}

fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(key, _)| key == name)?;
    Some(value.into_owned())
}

/// Where a login that begins is to lead; always a path of the same host.
pub fn wanted(query: &str) -> String {
    local::path(&value(query, "return").unwrap_or_default()).to_owned()
}

/// The login of that name, if it has a provider.
fn provider(gate: &Gate, name: &str) -> Option<(Arc<Ready>, Arc<Provider>)> {
    let login = gate.get(name)?;
    Some((login.clone(), login.provider.clone()?))
}

/// The login of that name, if a token is pasted for it.
fn by_token(gate: &Gate, name: &str) -> Option<Arc<Ready>> {
    let login = gate.get(name)?;
    matches!(login.told.means, Means::Kubernetes(_)).then(|| login.clone())
}

fn no_pages() -> Turned {
    let text = "no login of that name has pages";
    Turned::new(StatusCode::NOT_FOUND, "no_login", text)
}

async fn take_token(gate: &Gate, query: &str, form: &[u8], asked: &Asked<'_>) -> Turned {
    let Some(login) = by_token(gate, &value(query, "login").unwrap_or_default()) else {
        return no_pages();
    };
    let taken = kubernetes::pasted(gate, &login, &wanted(query), form, asked).await;
    taken.unwrap_or_else(|turned| turned)
}

async fn begin(gate: &Gate, query: &str, asked: &Asked<'_>) -> Turned {
    let name = value(query, "login").unwrap_or_default();
    if let Some(login) = by_token(gate, &name) {
        return kubernetes::show(&login, &wanted(query), None);
    }
    let Some((login, provider)) = provider(gate, &name) else {
        return no_pages();
    };
    if !gate.common.may_try(asked.client) {
        return door::too_often();
    }
    let secret = || gate.common.secret();
    let (Some(state), Some(nonce), Some(verifier), Some(own)) =
        (secret(), secret(), secret(), secret())
    else {
        return door::no_randomness();
    };
    let scheme = if asked.secure { "https" } else { "http" };
    let redirect = format!("{scheme}://{}{}callback", asked.host, local::PATHS);
    let going = Going {
        state: &state,
        nonce: &nonce,
        verifier: &verifier,
        redirect: &redirect,
    };
    let to = match provider.where_to(going).await {
        Ok(to) => to,
        Err(error) => {
            tracing::warn!(login = name, "the provider cannot be asked: {error}");
            let text = format!("the provider of the login cannot be asked: {error}");
            return Turned::new(StatusCode::BAD_GATEWAY, "provider", text);
        }
    };
    let one = UnderWay {
        login: login.name.clone(),
        host: asked.host.to_ascii_lowercase(),
        cookie: gate.common.key_of(&[b"own", own.as_bytes()]),
        nonce,
        verifier,
        redirect,
        wanted: wanted(query),
        route: asked.route.clone(),
        began: gate.common.sessions.now().steady,
    };
    if !provider.begin(gate.common.key_of(&[b"state", state.as_bytes()]), one) {
        return door::full();
    }
    let cookie_name = cookie::under_way(&state, asked.secure);
    let cookie = cookie::set(&cookie_name, &own, asked.secure, UNDER_WAY);
    Turned::elsewhere(to.as_str(), [cookie])
}

async fn come_back(gate: &Gate, query: &str, asked: &Asked<'_>) -> Turned {
    let state = value(query, "state").unwrap_or_default();
    let name = cookie::under_way(&state, asked.secure);
    let turned = match returned(gate, query, &state, &name, asked).await {
        Ok(turned) => turned,
        Err(turned) => {
            gate.common
                .sessions
                .counts
                .refused
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            turned
        }
    };
    let mut turned = turned;
    if let Some(gone) = cookie::set(&name, "", asked.secure, Duration::ZERO) {
        turned.headers.push((http::header::SET_COOKIE, gone));
    }
    turned
}

async fn returned(
    gate: &Gate,
    query: &str,
    state: &str,
    name: &str,
    asked: &Asked<'_>,
) -> Result<Turned, Turned> {
    let refused = |what, text: String| Turned::new(StatusCode::FORBIDDEN, what, text);
    let own = cookie::read(asked.headers, name).unwrap_or_default();
    let own = gate.common.key_of(&[b"own", own.as_bytes()]);
    let key = gate.common.key_of(&[b"state", state.as_bytes()]);
    let host = asked.host.to_ascii_lowercase();
    let now = gate.common.sessions.now().steady;
    let taken = gate.providers().find_map(|(login, provider)| {
        let one = provider.take(&key, &host, &own, now)?;
        Some((login, provider, one))
    });
    let Some((login, provider, one)) = taken else {
        let text = "this login was not begun in this browser, or it has come back before, or too \
                    late; open the page that you wanted once more";
        return Err(refused("unknown_state", text.to_owned()));
    };
    // A provider that says who it is must be the one that was asked (RFC 9207).
    if value(query, "iss").is_some_and(|iss| iss != provider.issuer()) {
        return Err(refused(
            "wrong_issuer",
            "another provider has answered".to_owned(),
        ));
    }
    if let Some(error) = value(query, "error") {
        let error: String = error
            .chars()
            .filter(|letter| !letter.is_control())
            .take(64)
            .collect();
        return Err(refused(
            "provider_refused",
            format!("the provider says: {error}"),
        ));
    }
    let Some(code) = value(query, "code") else {
        return Err(refused(
            "no_code",
            "the provider has sent no code".to_owned(),
        ));
    };
    let proved = provider.who(&code, &one).await.map_err(|error| {
        tracing::warn!(login = &*login.name, "a login failed: {error}");
        let place = Place {
            route: one.route.clone(),
            ..asked.place(&login)
        };
        gate.common.sessions.refuse(&place, None, "bad_token");
        refused("bad_token", error)
    })?;
    let place = Place {
        route: one.route.clone(),
        ..asked.place(&login)
    };
    let mut terms = login.terms();
    // What is handed on is of use for as long as it is good.
    let kept = login.told.keep_token.then_some(proved.token);
    if kept.is_some() {
        terms.ttl = terms.ttl.min(proved.lasts);
    }
    door::begin_by_cookie(gate, asked, proved.who, (place, terms), kept, &one.wanted)
}

fn logout(gate: &Gate, asked: &Asked<'_>) -> Turned {
    if !local::is_same_origin(asked.headers, asked.host, asked.secure) {
        let text = "a logout is asked for by a page of this host";
        return Turned::new(StatusCode::FORBIDDEN, "other_origin", text);
    }
    if let Some(session) = door::session_of(gate, asked) {
        gate.common.sessions.end(&session, Why::Logout, None);
    }
    let name = cookie::session(asked.secure);
    let gone = cookie::set(&name, "", asked.secure, Duration::ZERO);
    let mut turned = Turned::new(StatusCode::OK, "logged_out", "You are logged out here.");
    turned
        .headers
        .extend(gone.map(|gone| (http::header::SET_COOKIE, gone)));
    turned
}

/// For pages: who is logged in.
fn session(gate: &Gate, asked: &Asked<'_>) -> Turned {
    match door::session_of(gate, asked) {
        Some(session) => {
            let text = session.json().to_string();
            let mut turned = Turned::new(StatusCode::OK, "session", text);
            let json = HeaderValue::from_static("application/json");
            turned.headers.push((CONTENT_TYPE, json));
            turned
        }
        None => Turned::new(
            StatusCode::UNAUTHORIZED,
            "login_needed",
            "nobody is logged in",
        ),
    }
}
