//! Sessions on the live page, in a real Chromium: they come and go without a reload, end by a button
//! and by keys, and only for who may. Names that are meant to be more than text stay text.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use bytes::Bytes;
use comind_peers::chromium::Chromium;
use comind_peers::http::send;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use fantoccini::{Client, Locator};
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};

use super::sessions::{ADA, BOB, HASH, audited};
use super::sockets::WebSocket;
use crate::page::{ask, shoot, until_shown};
use crate::serve::{LATER, Serve};

/// Keys, as WebDriver names them.
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";
/// `reader` and `fakepassword`, and those of `chief`.
const READER: &str = "Basic cmVhZGVyOmZha2VwYXNzd29yZA==";
const CHIEF: &str = "Basic Y2hpZWY6ZmFrZXBhc3N3b3Jk";
/// In YAML between double quotes: markup, what turns text around, and very long.
const HOSTILE: &str = r#"<img src=x onerror='window.hostile=1'>\u202Egrof"#;

/// A proxy with a login before a web server, and the page of the process that it runs in.
struct Shown {
    serve: Serve,
    port: Port,
    _node: Node,
}

impl Shown {
    /// With this more in the section `api`.
    async fn start(api: &str) -> Result<Self> {
        let (node, port) = (Node::start().await?, Port::free()?);
        let long = "x".repeat(900);
        let config = format!(
            "api: {{ listen: LISTEN{api} }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {}\n  workers: 2\n  \
             logins:\n    staff: {{ basic: {{ users: {{ ada: {{ hash: \"{HASH}\" }}, bob: {{ hash: \"{HASH}\" }}, \
             \"{HOSTILE}\": {{ hash: \"{HASH}\" }}, {long}: {{ hash: \"{HASH}\" }} }} }} }}\n  routes:\n    \
             - {{ name: app, host: \"*\", upstream: \"http://{}\", login: staff }}\n    \
             - {{ name: hello, host: \"*\", path: /hello, respond: {{ body: hello }}, login: staff }}\n",
            port.addr(),
            node.addr()
        );
        Ok(Self {
            serve: Serve::start_with(&config).await?,
            port,
            _node: node,
        })
    }

    async fn login(&self, host: &str, authorization: &str) -> Result<()> {
        let request = Request::get("/hello")
            .header("host", host)
            .header("authorization", authorization);
        let answer = send(self.port.addr(), request.body(Full::default())?).await?;
        ensure!(answer.status() == 200, "{answer:?}");
        Ok(())
    }

    async fn api(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Bytes>> {
        let addr: SocketAddr = self.serve.addr();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(addr, request.body(Full::default())?).await
    }

    async fn listed(&self, headers: &[(&str, &str)]) -> Result<Vec<Value>> {
        let answer = self.api(Method::GET, "/api/v1/sessions", headers).await?;
        ensure!(answer.status() == 200, "{answer:?}");
        let told: Value = serde_json::from_slice(answer.body())?;
        Ok(told["sessions"].as_array().context("no list")?.clone())
    }

    /// The page with the list open.
    async fn open(&self, client: &Client) -> Result<()> {
        let url = format!("http://{}/?sessions=user", self.serve.addr());
        client.goto(&url).await?;
        until_shown(client, "html[data-link=live]").await?;
        ask(client, "window.sameDocument = true").await?;
        Ok(())
    }
}

/// The authorization of this name, with the password that all have.
fn authorization(name: &str) -> String {
    let pair = format!("{name}:fakepassword");
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}

async fn until_said(client: &Client, what: &str) -> Result<()> {
    wait_for(&format!("the page to say {what}"), LATER, async || {
        let done = client.find(Locator::Id("done")).await?.text().await?;
        ensure!(done.contains(what), "{done:?}");
        Ok(())
    })
    .await
}

async fn press(client: &Client, key: &str) -> Result<()> {
    client.active_element().await?.send_keys(key).await?;
    Ok(())
}

async fn rows(client: &Client, user: &str) -> Result<u64> {
    let script =
        format!("return document.querySelectorAll('[data-session][data-user=\"{user}\"]').length");
    ask(client, &script).await?.as_u64().context("no number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_comes_and_is_ended_from_the_page_with_its_websocket() -> Result<()> {
    let (shown, browser) = tokio::try_join!(Shown::start(""), Chromium::start())?;
    let client = browser.session(1100, 800).await?;
    shown.open(&client).await?;
    ensure!(rows(&client, "ada").await? == 0);

    let addr = shown.port.addr();
    let mut socket = WebSocket::open_with(addr, "/echo", &[("authorization", ADA)]).await?;
    socket.send("hello").await?;
    ensure!(socket.receive().await? == "hello");
    shown.login("two.test", ADA).await?;
    shown.login("one.test", BOB).await?;
    until_shown(&client, "[data-session][data-user=ada][data-live='1']").await?;
    wait_for("all of them", LATER, async || {
        let count = (rows(&client, "ada").await?, rows(&client, "bob").await?);
        ensure!(count == (2, 1), "{count:?}");
        Ok(())
    })
    .await?;

    // By keys alone: asked first, and kept where that is the answer.
    let script = "document.querySelector('[data-live=\"1\"] [data-end=one]').focus()";
    ask(&client, script).await?;
    press(&client, ENTER).await?;
    until_shown(&client, "dialog[open]").await?;
    shoot(&client, "sessions-ask.png").await?;
    press(&client, ESCAPE).await?;
    wait_for("the question to go", LATER, async || {
        let open = ask(&client, "return document.getElementById('ask').open").await?;
        ensure!(open == json!(false), "it is there");
        Ok(())
    })
    .await?;
    socket.send("still").await?;
    ensure!(socket.receive().await? == "still");

    ask(&client, script).await?;
    press(&client, ENTER).await?;
    until_shown(&client, "dialog[open]").await?;
    press(&client, TAB).await?;
    press(&client, ENTER).await?;
    socket.ended().await?;
    until_said(&client, "Ended: 1 session of ada.").await?;
    audited(&shown.serve, "\"by\":\"the API, 127.0.0.1\"", 1).await?;

    // All of one user, of which there is a button where there are several.
    shown.login("three.test", ADA).await?;
    until_shown(&client, "[data-user=ada] [data-end=all]").await?;
    ensure!(
        client
            .find(Locator::Css("[data-user=bob] [data-end=all]"))
            .await
            .is_err(),
        "one session is not several"
    );
    let button = client
        .find(Locator::Css("[data-user=ada] [data-end=all]"))
        .await?;
    button.click().await?;
    until_shown(&client, "dialog[open]").await?;
    client.find(Locator::Id("ask-yes")).await?.click().await?;
    until_said(&client, "Ended: 2 sessions of ada.").await?;
    wait_for("the rows to go", LATER, async || {
        let count = (rows(&client, "ada").await?, rows(&client, "bob").await?);
        ensure!(count == (0, 1), "{count:?}");
        Ok(())
    })
    .await?;
    ensure!(
        ask(&client, "return window.sameDocument === true").await? == json!(true),
        "the page was reloaded"
    );
    Ok(client.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_gets_no_button_and_is_refused() -> Result<()> {
    let api = format!(", users: {{ reader: \"{HASH}\", chief: \"{HASH}\" }}, read_only: [reader]");
    let (shown, browser) = tokio::try_join!(Shown::start(&api), Chromium::start())?;
    shown.login("one.test", ADA).await?;
    let (reader, chief) = ([("authorization", READER)], [("authorization", CHIEF)]);
    let all = shown.listed(&reader).await?;
    let id = all[0]["id"].as_str().context("no id")?;
    ensure!(
        all[0]["user"] == "ada" && all[0]["means"] == "basic",
        "{all:?}"
    );

    let client = browser.session(1100, 800).await?;
    // The browser keeps what it was told here, and the page has an address without it.
    let addr = shown.serve.addr();
    client
        .goto(&format!("http://reader:fakepassword@{addr}/api/v1/state"))
        .await?;
    shown.open(&client).await?;
    until_shown(&client, "[data-session][data-user=ada]").await?;
    ensure!(
        client.find(Locator::Css("button[data-end]")).await.is_err(),
        "there is a button"
    );
    let one = format!("/api/v1/sessions/{id}");
    let script =
        format!("return fetch('{one}', {{ method: 'DELETE' }}).then((answer) => answer.status)");
    ensure!(ask(&client, &script).await? == json!(403));
    client.close().await?;

    for path in [one.as_str(), "/api/v1/sessions?user=ada"] {
        let refused = shown.api(Method::DELETE, path, &reader).await?;
        ensure!(refused.status() == 403, "{refused:?}");
        let stranger = shown.api(Method::DELETE, path, &[]).await?;
        ensure!(stranger.status() == 401, "{stranger:?}");
        // A page of another site, in the browser of somebody who may.
        let misled = [chief[0], ("sec-fetch-site", "cross-site")];
        let refused = shown.api(Method::DELETE, path, &misled).await?;
        ensure!(refused.status() == 403, "{refused:?}");
    }
    let maintenance = Request::post("/api/v1/maintenance")
        .header("authorization", READER)
        .header("content-type", "application/json")
        .body(Full::from(
            r#"{"name":"a","targets":["*"],"duration":"1h"}"#,
        ))?;
    let refused = send(addr, maintenance).await?;
    ensure!(refused.status() == 403, "{refused:?}");
    ensure!(shown.listed(&chief).await?.len() == 1);
    let ended = shown.api(Method::DELETE, &one, &chief).await?;
    ensure!(ended.status() == 200, "{ended:?}");
    audited(&shown.serve, "\"by\":\"the API, chief\"", 1).await?;
    let gone = shown.api(Method::DELETE, &one, &chief).await?;
    ensure!(gone.status() == 404, "{gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_strangers_learn_no_name_and_end_nothing() -> Result<()> {
    let shown = Shown::start("").await?;
    shown.login("one.test", ADA).await?;
    ensure!(shown.listed(&[]).await?.len() == 1);
    let strangers = [
        [("host", "127.0.0.1"), ("x-forwarded-for", "192.0.2.7")],
        [("host", "127.0.0.1"), ("forwarded", "for=192.0.2.7")],
        // Another site whose name leads here.
        [("host", "evil.test"), ("accept", "*/*")],
    ];
    for headers in strangers {
        let page = shown
            .api(Method::GET, "/page/live?sessions=user", &headers)
            .await?;
        let text = String::from_utf8_lossy(page.body()).into_owned();
        ensure!(
            text.contains("Sessions") && !text.contains("one.test"),
            "{text}"
        );
        for (method, path) in [
            (Method::GET, "/api/v1/sessions"),
            (Method::DELETE, "/api/v1/sessions?user=ada"),
        ] {
            let refused = shown.api(method, path, &headers).await?;
            ensure!(refused.status() == 403, "{headers:?}: {refused:?}");
        }
    }
    for path in [
        "/api/v1/sessions?by=password",
        "/api/v1/sessions?by=user&more=1",
    ] {
        let bad = shown.api(Method::GET, path, &[]).await?;
        ensure!(bad.status() == 400, "{path}: {bad:?}");
    }
    let bad = shown.api(Method::DELETE, "/api/v1/sessions", &[]).await?;
    ensure!(bad.status() == 400, "{bad:?}");
    ensure!(shown.listed(&[]).await?.len() == 1);

    // Where nobody can log in there is nothing to see.
    let text = std::fs::read_to_string(shown.serve.config_file())?;
    let (before, rest) = text.split_once("  logins:").context("no logins")?;
    let (_, routes) = rest.split_once("  routes:").context("no routes")?;
    let routes = routes.replace(", login: staff", "");
    shown
        .serve
        .write_config(&format!("{before}  routes:{routes}"))?;
    wait_for("the sessions to go", LATER, async || {
        let page = shown.serve.get("/").await?;
        ensure!(!page.contains("id=\"sessions\""), "they are there");
        Ok(())
    })
    .await?;
    ensure!(shown.listed(&[]).await?.is_empty());
    let told = shown.serve.get("/api/v1/sessions").await?;
    ensure!(told.contains("\"logins\":false"), "{told}");
    let none = shown
        .api(Method::DELETE, "/api/v1/sessions?user=ada", &[])
        .await?;
    ensure!(none.status() == 404, "{none:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_text_and_the_list_fits_a_phone() -> Result<()> {
    let (shown, browser) = tokio::try_join!(Shown::start(""), Chromium::start())?;
    let hostile = HOSTILE.replace("\\u202E", "\u{202e}");
    shown.login("one.test", &authorization(&hostile)).await?;
    shown
        .login("two.test", &authorization(&"x".repeat(900)))
        .await?;
    shown
        .login(&format!("{}.test", "h".repeat(60)), ADA)
        .await?;
    shown.login("grafana.test", BOB).await?;
    let addr = shown.port.addr();
    let mut socket = WebSocket::open_with(addr, "/echo", &[("authorization", BOB)]).await?;
    socket.send("hello").await?;

    for (width, scheme, name) in [
        (1280, "", "sessions-wide.png"),
        (1280, "--force-dark-mode", "sessions-dark.png"),
        (500, "", "sessions-narrow.png"),
    ] {
        let mut flags = vec![format!("--window-size={width},1000")];
        flags.extend((!scheme.is_empty()).then(|| scheme.to_owned()));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let client = browser.session_with(&flags).await?;
        shown.open(&client).await?;
        until_shown(&client, "[data-session][data-user=bob]").await?;
        let count = ask(
            &client,
            "return document.querySelectorAll('[data-session]').length",
        )
        .await?;
        ensure!(count == json!(5), "{count}");
        let script = "document.getElementById('sessions').scrollIntoView()";
        ask(&client, script).await?;
        shoot(&client, name).await?;
        let fits =
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        ensure!(
            ask(&client, fits).await? == json!(true),
            "{name} scrolls sideways"
        );
        let harmed = "return window.hostile === 1 || document.querySelector('#live img') !== null";
        ensure!(
            ask(&client, harmed).await? == json!(false),
            "a name became markup"
        );

        // The question names them as text as well.
        let script = "document.querySelector('[data-user^=\"<img\"] [data-end=one]').click()";
        ask(&client, script).await?;
        until_shown(&client, "dialog[open]").await?;
        let user = client.find(Locator::Id("ask-user")).await?.text().await?;
        ensure!(user.starts_with("<img src=x"), "{user:?}");
        ensure!(
            ask(&client, harmed).await? == json!(false),
            "a name became markup"
        );
        client.close().await?;
    }
    Ok(())
}
