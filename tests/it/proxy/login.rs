//! Login by a provider of OpenID Connect, with a real one; and what attackers try at it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::node::Node;
use comind_peers::oidc::{CLIENT, Oidc, SECRET};
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::{Request, Response, Uri};
use http_body_util::Full;
use serde_json::Value;

use super::sessions::{audit, audited};
use super::sockets::WebSocket;
use crate::serve::{LATER, Serve, hides, run_to_end};

const COOKIE: &str = "comind-session";

/// A provider, a web server, and a proxy before it: `/` for whoever is logged in, `/ops` for a role.
struct Place {
    serve: Serve,
    port: Port,
    provider: Oidc,
    _node: Node,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn start() -> Result<Self> {
        let (node, port) = (Node::start().await?, Port::free()?);
        let back = |host: &str| format!("http://{host}:{}/.comind/callback", port.number());
        let provider = Oidc::start(&[back("app.test"), back("other.test")]).await?;
        let dir = tempfile::tempdir()?;
        let secret_file = dir.path().join("secret");
        std::fs::write(&secret_file, SECRET)?;
        let (listen, upstream) = (port.addr(), node.addr());
        let config = format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {listen}\n  workers: 2\n  \
             access_log: json\n  logins:\n    staff:\n      oidc:\n        issuer: {issuer}\n        client_id: {CLIENT}\n        \
               client_secret_file: {secret}\n        scopes: [email, groups]\n        roles: {{ admin: [ops] }}\n  routes:\n    \
             - {{ host: \"*\", upstream: \"http://{upstream}\", login: staff }}\n    \
             - {{ host: \"*\", path: /ops, upstream: \"http://{upstream}\", login: staff, roles: [admin] }}\n",
            issuer = provider.issuer(),
            secret = secret_file.display(),
        );
        Ok(Self {
            serve: Serve::start_logging(&config, "debug").await?,
            port,
            provider,
            _node: node,
            _dir: dir,
        })
    }

    fn browser(&self, user: &'static str) -> Browser {
        Browser::new(self.port.addr(), self.provider.addr(), user)
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port.number())
    }

    async fn sessions(&self) -> Result<Vec<Value>> {
        let data = self.serve.data_dir().display().to_string();
        let (code, text) = run_to_end(&["--json", "sessions", "--data-dir", &data, "list"]).await?;
        ensure!(code == 0, "{text}");
        let told: Value = serde_json::from_str(&text)?;
        Ok(told["sessions"].as_array().context("no list")?.clone())
    }
}

/// What a browser does: keeps cookies by host, and goes where it is sent.
pub(super) struct Browser {
    proxy: SocketAddr,
    provider: SocketAddr,
    user: &'static str,
    /// By host with port, then name.
    jar: BTreeMap<String, BTreeMap<String, String>>,
    /// Where it has been, and what was set there.
    seen: Vec<String>,
}

impl Browser {
    pub(super) fn new(proxy: SocketAddr, provider: SocketAddr, user: &'static str) -> Self {
        Self {
            proxy,
            provider,
            user,
            jar: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    pub(super) async fn send(
        &mut self,
        method: &str,
        url: &str,
        more: &[(&str, &str)],
    ) -> Result<Response<Bytes>> {
        let uri: Uri = url.parse()?;
        let host = uri.authority().context("no host")?.to_string();
        let addr = match host == self.provider.to_string() {
            true => self.provider,
            false => self.proxy,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &host)
            .header("accept", "text/html,*/*")
            .header("x-user", self.user);
        let cookies: Vec<String> = self
            .jar
            .get(&host)
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let response = send(addr, request.body(Full::default())?).await?;
        self.seen.push(url.to_owned());
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str()?;
            self.seen.push(cookie.to_owned());
            let (name, rest) = cookie.split_once('=').context("no cookie")?;
            let value = rest.split(';').next().unwrap_or_default();
            let jar = self.jar.entry(host.clone()).or_default();
            match value.is_empty() {
                true => drop(jar.remove(name)),
                false => drop(jar.insert(name.to_owned(), value.to_owned())),
            }
        }
        Ok(response)
    }

    /// Goes there and wherever it is sent; gives where it ends.
    pub(super) async fn visit(&mut self, url: &str) -> Result<(String, Response<Bytes>)> {
        self.visit_until(url, "\0").await
    }

    /// As `visit`, but does not go to an address with this in it.
    async fn visit_until(&mut self, url: &str, stop: &str) -> Result<(String, Response<Bytes>)> {
        let mut url = url.to_owned();
        for _ in 0..12 {
            let response = self.send("GET", &url, &[]).await?;
            let Some(to) = response.headers().get("location") else {
                return Ok((url, response));
            };
            let to = to.to_str()?;
            url = match to.starts_with('/') {
                // As a browser reads it: two slashes begin another host.
                true if to.starts_with("//") => format!("http:{to}"),
                true => {
                    let host = url.split('/').nth(2).context("no host")?;
                    format!("http://{host}{to}")
                }
                false => to.to_owned(),
            };
            if url.contains(stop) {
                return Ok((url, response));
            }
        }
        bail!("sent on and on: {:?}", self.seen)
    }

    pub(super) fn cookie(&self, host: &str) -> Option<String> {
        let jar = self
            .jar
            .iter()
            .find(|(known, _)| known.starts_with(host))?
            .1;
        jar.get(COOKIE).cloned()
    }
}

fn part(url: &str, name: &str) -> String {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map_or(String::new(), |(_, value)| value.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_says_who_it_is() -> Result<()> {
    let place = Place::start().await?;
    let mut ada = place.browser("ada");
    let wanted = place.url("app.test", "/who?x=1");
    let ended = ada
        .visit(&wanted)
        .await
        .map_err(|error| place.serve.blame(error))?;
    ensure!(ended.0 == wanted && ended.1.status() == 200, "{ended:?}");
    let seen: Value = serde_json::from_slice(ended.1.body())?;
    let headers = &seen["headers"];
    ensure!(
        headers["x-auth-request-user"] == "ada@example.org",
        "{headers}"
    );
    ensure!(headers["x-auth-request-groups"] == "ops,dev", "{headers}");
    ensure!(headers.get("cookie").is_none(), "{headers}");
    let set = ada
        .seen
        .iter()
        .find(|seen| seen.starts_with(COOKIE))
        .context("no cookie")?;
    ensure!(
        set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"),
        "{set}"
    );
    let ops = ada.visit(&place.url("app.test", "/ops")).await?;
    ensure!(ops.1.status() == 200, "{ops:?}");

    // Others have no such role, or no address that the provider vouches for.
    let mut bob = place.browser("bob");
    let ops = bob.visit(&place.url("app.test", "/ops")).await?;
    ensure!(ops.1.status() == 403, "{ops:?}");
    let who = bob.visit(&place.url("app.test", "/who")).await?;
    ensure!(who.1.status() == 200, "{who:?}");
    let mut eve = place.browser("eve");
    let who = eve.visit(&place.url("app.test", "/who")).await?;
    ensure!(
        who.1.status() == 403 && eve.cookie("app.test").is_none(),
        "{who:?}"
    );

    // A program is told, and not sent around.
    let request = Request::get("/who")
        .header("host", "app.test")
        .body(Full::default())?;
    let told = send(place.port.addr(), request).await?;
    ensure!(
        told.status() == 401 && !told.headers().contains_key("location"),
        "{told:?}"
    );

    // Another key is found by itself.
    place.provider.rotate().await?;
    wait_for("a login with the provider's new key", LATER, async || {
        let mut fresh = place.browser("ada");
        let who = fresh.visit(&place.url("app.test", "/who")).await?;
        ensure!(who.1.status() == 200, "{who:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_good_once_and_for_who_began() -> Result<()> {
    let place = Place::start().await?;
    let wanted = place.url("app.test", "/who");
    let mut ada = place.browser("ada");
    let (back, _) = ada.visit_until(&wanted, "/.comind/callback").await?;
    // A thief of the answer has no cookie, and spoils it for all.
    let mut thief = place.browser("ada");
    let stolen = thief.visit(&back).await?;
    ensure!(
        stolen.1.status() == 403 && thief.cookie("app.test").is_none(),
        "{stolen:?}"
    );
    let late = ada.visit(&back).await?;
    ensure!(
        late.1.status() == 403 && ada.cookie("app.test").is_none(),
        "{late:?}"
    );

    // Played again by who began it.
    let (back, _) = ada.visit_until(&wanted, "/.comind/callback").await?;
    let jar = ada.jar.clone();
    let first = ada.visit(&back).await?;
    ensure!(first.1.status() == 200, "{first:?}");
    let mut again = place.browser("ada");
    again.jar = jar;
    let replayed = again.visit(&back).await?;
    ensure!(
        replayed.1.status() == 403 && again.cookie("app.test").is_none(),
        "{replayed:?}"
    );

    // The code of one login in the answer of another: the provider does not take it twice, and it
    // would not fit what proves who asks.
    let (other, _) = again.visit_until(&wanted, "/.comind/callback").await?;
    let mixed = other.replace(&part(&other, "code"), &part(&back, "code"));
    let mixed = again.visit(&mixed).await?;
    ensure!(
        mixed.1.status() == 403 && again.cookie("app.test").is_none(),
        "{mixed:?}"
    );

    // The answer of another provider.
    let (back, _) = again.visit_until(&wanted, "/.comind/callback").await?;
    let other = back.replace(&part(&back, "iss"), "http%3A%2F%2Fevil.test");
    let other = again.visit(&other).await?;
    ensure!(other.1.status() == 403, "{other:?}");

    // Begun at one host, brought back to another.
    let (back, _) = again.visit_until(&wanted, "/.comind/callback").await?;
    let port = place.port.number();
    let own = again.jar[&format!("app.test:{port}")].clone();
    again.jar.insert(format!("other.test:{port}"), own);
    let moved = again.visit(&back.replace("app.test", "other.test")).await?;
    ensure!(
        moved.1.status() == 403 && again.cookie("other.test").is_none(),
        "{moved:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_lets_nobody_in() -> Result<()> {
    let place = Place::start().await?;
    let wanted = place.url("app.test", "/who");
    for wrong in [
        "nonce",
        "audience",
        "issuer",
        "expired",
        "signature",
        "none",
        "secret",
    ] {
        let mut ada = place.browser("ada");
        let (back, _) = ada.visit_until(&wanted, "/.comind/callback").await?;
        place.provider.spoil(wrong).await?;
        let refused = ada.visit(&back).await?;
        let text = String::from_utf8_lossy(refused.1.body()).into_owned();
        ensure!(
            refused.1.status() == 403 && text.contains("bad_token"),
            "{wrong}: {refused:?}"
        );
        ensure!(ada.cookie("app.test").is_none(), "{wrong}");
    }
    // The same, unspoiled.
    let mut ada = place.browser("ada");
    let good = ada.visit(&wanted).await?;
    ensure!(good.1.status() == 200, "{good:?}");
    audited(&place.serve, "\"bad_token\"", 7).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_its_host_new_and_ended_by_its_user() -> Result<()> {
    let place = Place::start().await?;
    let port = place.port.number();
    let here = format!("app.test:{port}");
    // Somebody has put a cookie of theirs into the browser.
    let mut ada = place.browser("ada");
    let planted = BTreeMap::from([(COOKIE.to_owned(), "planted".to_owned())]);
    ada.jar.insert(here.clone(), planted.clone());
    let who = ada.visit(&place.url("app.test", "/who")).await?;
    ensure!(who.1.status() == 200, "{who:?}");
    let first = ada.cookie("app.test").context("no cookie")?;
    ensure!(first != "planted" && first.len() >= 43, "{first}");
    let mut other = place.browser("eve");
    other.jar.insert(here.clone(), planted);
    let who = other
        .send("GET", &place.url("app.test", "/who"), &[])
        .await?;
    ensure!(who.status() == 303, "{who:?}");

    // Carried to another host it counts for nothing.
    let mut carried = place.browser("eve");
    carried
        .jar
        .insert(format!("other.test:{port}"), ada.jar[&here].clone());
    let who = carried
        .send("GET", &place.url("other.test", "/who"), &[])
        .await?;
    ensure!(who.status() == 303, "{who:?}");

    // A new login is a new session, and the end of the one before.
    let begin = place.url("app.test", "/.comind/login?login=staff&return=/who");
    let who = ada.visit(&begin).await?;
    ensure!(who.1.status() == 200, "{who:?}");
    let second = ada.cookie("app.test").context("no cookie")?;
    ensure!(second != first, "{second}");
    let all = place.sessions().await?;
    ensure!(all.len() == 1 && all[0]["route"] == "*/", "{all:?}");

    // A logout is asked for by a page of the same host, and by POST; then streams end too.
    let cookie = format!("{COOKIE}={second}");
    let headers = [("host", here.as_str()), ("cookie", cookie.as_str())];
    let mut socket = WebSocket::open_with(place.port.addr(), "/echo", &headers).await?;
    socket.send("hello").await?;
    ensure!(socket.receive().await? == "hello");
    // A page of another host that has the browser open one gets none.
    let forged = [headers[0], headers[1], ("origin", "http://evil.app.test")];
    let stolen = WebSocket::open_with(place.port.addr(), "/echo", &forged).await;
    ensure!(stolen.is_err(), "another host's page has a WebSocket");
    let logout = place.url("app.test", "/.comind/logout");
    let get = ada.send("GET", &logout, &[]).await?;
    ensure!(get.status() == 405, "{get:?}");
    for forged in [
        ("origin", "http://evil.test"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let refused = ada.send("POST", &logout, &[forged]).await?;
        ensure!(refused.status() == 403, "{refused:?}");
    }
    socket.send("still").await?;
    ensure!(socket.receive().await? == "still");
    let out = ada
        .send("POST", &logout, &[("origin", &format!("http://{here}"))])
        .await?;
    ensure!(
        out.status() == 200 && ada.cookie("app.test").is_none(),
        "{out:?}"
    );
    socket.ended().await?;
    ensure!(place.sessions().await?.is_empty());
    audited(&place.serve, "\"why\":\"renewed\"", 1).await?;
    audited(&place.serve, "\"why\":\"logout\"", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_another_host_and_no_log_holds_a_token() -> Result<()> {
    let place = Place::start().await?;
    let mut all = Vec::new();
    for path in [
        "//evil.test/",
        "/.comind/login?login=staff&return=https://evil.test/",
        "/.comind/login?login=staff&return=//evil.test/",
        "/.comind/login?login=staff&return=/%5Cevil.test/",
        "/.comind/login?login=staff&return=/%09/evil.test/",
    ] {
        let mut ada = place.browser("ada");
        let ended = ada.visit(&place.url("app.test", path)).await?;
        ensure!(ended.0 == place.url("app.test", "/"), "{path}: {ended:?}");
        all.push(ada);
    }
    // Somebody else's Host is not a place that the provider sends back to.
    let mut ada = place.browser("ada");
    let ended = ada.visit(&place.url("evil.test", "/who")).await?;
    ensure!(
        ended.0.starts_with(&place.provider.issuer()) && ended.1.status() == 400,
        "{ended:?}"
    );

    let logs = place.serve.log()? + &audit(&place.serve)?;
    ensure!(logs.contains("/.comind/callback"), "there is no access log");
    let mut secrets: Vec<String> = serde_json::from_str(&place.provider.given().await?)?;
    secrets.push(SECRET.to_owned());
    for browser in &all {
        secrets.extend(browser.cookie("app.test"));
        let callback = browser
            .seen
            .iter()
            .find(|seen| seen.contains("/.comind/callback"));
        let callback = callback.context("it did not come back")?;
        secrets.extend([part(callback, "code"), part(callback, "state")]);
    }
    ensure!(
        secrets.len() > 20 && secrets.iter().all(|one| one.len() > 20),
        "{secrets:?}"
    );
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    hides("a log", &logs, &secrets)
}
