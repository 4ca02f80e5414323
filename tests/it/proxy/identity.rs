//! What an upstream is told of who asks, under names that a route chooses, and the token that it is
//! given: Grafana's rules for a proxy that logs people in, and Argo CD's own server.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use comind_peers::argocd::ArgoCd;
use comind_peers::http::send;
use comind_peers::kube::KubeApi;
use comind_peers::node::Node;
use comind_peers::oidc::{CLIENT, Oidc, SECRET};
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;

use super::login::Browser;
use super::sessions::audit;
use crate::serve::{LATER, Serve, hides};

const TOKEN: &str = "a-token-of-the-build-0123456789";

fn config(listen: &Port, provider: &Oidc, dir: &std::path::Path, routes: &str) -> Result<String> {
    let (secret, token) = (dir.join("secret"), dir.join("token"));
    std::fs::write(&secret, SECRET)?;
    std::fs::write(&token, TOKEN)?;
    Ok(format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {}\n  workers: 2\n  \
         access_log: json\n  logins:\n    staff:\n      oidc:\n        issuer: {}\n        client_id: {CLIENT}\n        \
           client_secret_file: {}\n        scopes: [email, profile, groups]\n    \
           build: {{ bearer: {{ tokens: {{ ci: {{ token_file: {} }} }} }} }}\n  routes:\n{routes}",
        listen.addr(),
        provider.issuer(),
        secret.display(),
        token.display(),
    ))
}

fn said(response: &Response<Bytes>) -> Result<Value> {
    ensure!(response.status() == 200, "{response:?}");
    let seen: Value = serde_json::from_slice(response.body())?;
    Ok(seen["headers"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_told_under_the_names_that_it_knows() -> Result<()> {
    let (node, port) = (Node::start().await?, Port::free()?);
    let back = format!("http://app.test:{}/.comind/callback", port.number());
    let provider = Oidc::start(&[back]).await?;
    let dir = tempfile::tempdir()?;
    let addr = node.addr();
    let names = "user: X-WEBAUTH-USER, name: X-WEBAUTH-NAME, email: X-Grafana-Mail, groups: X-WEBAUTH-GROUPS";
    let routes = format!(
        "    - {{ host: \"*\", upstream: \"http://{addr}\", login: staff, identity: {{ {names} }} }}\n    \
         - {{ host: \"*\", path: /open, rewrite: {{ path: / }}, upstream: \"http://{addr}\" }}\n    \
         - {{ host: \"*\", path: /api, rewrite: {{ path: / }}, upstream: \"http://{addr}\", login: build, identity: {{ {names}, pass_token: bearer }} }}\n"
    );
    let config = config(&port, &provider, dir.path(), &routes)?;
    let serve = Serve::start_logging(&config, "debug").await?;
    let mut ada = Browser::new(port.addr(), provider.addr(), "ada");
    let url = format!("http://app.test:{}/who", port.number());
    let (_, who) = ada.visit(&url).await.map_err(|error| serve.blame(error))?;
    let seen = said(&who)?;
    ensure!(
        seen["x-webauth-user"] == "ada@example.org"
            && seen["x-webauth-name"] == "Ada Lovelace"
            && seen["x-grafana-mail"] == "ada@example.org"
            && seen["x-webauth-groups"] == "ops,dev",
        "{seen}"
    );

    // Somebody of whom less is known is told no more of, whatever they say; and nobody at an open
    // route of the same upstream.
    let forged = [
        ("x-webauth-user", "root"),
        ("x-webauth-name", "root"),
        ("x-grafana-mail", "root"),
        ("x_grafana_mail", "root"),
        ("X-Grafana_Mail", "root"),
        ("x-webauth-groups", "root"),
    ];
    let own = format!("Bearer {TOKEN}");
    for (path, user) in [("/open/who", None), ("/api/who", Some("ci"))] {
        let mut request = Request::get(path).header("host", "app.test");
        request = request.header("authorization", &own);
        for (name, value) in forged {
            request = request.header(name, value);
        }
        let seen = said(&send(port.addr(), request.body(Full::default())?).await?)?;
        ensure!(!seen.to_string().contains("root"), "{path}: {seen}");
        ensure!(seen["x-webauth-user"].as_str() == user, "{path}: {seen}");
        ensure!(seen.get("x-grafana-mail").is_none(), "{path}: {seen}");
    }
    let seen = ada.send("GET", &url, &forged).await?;
    let seen = said(&seen)?;
    ensure!(
        !seen.to_string().contains("root") && seen["x-grafana-mail"] == "ada@example.org",
        "{seen}"
    );
    // Where a route hands on the token, it gets there; and nowhere else.
    ensure!(seen.get("authorization").is_none(), "{seen}");
    let api = Request::get("/api/who").header("authorization", &own);
    let seen = said(&send(port.addr(), api.body(Full::default())?).await?)?;
    ensure!(seen["authorization"] == own, "{seen}");
    // Nor in what comes behind a body.
    let text = b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-grafana-mail, x-sum\r\n\
                 Connection: close\r\n\r\n1\r\nx\r\n0\r\nx-grafana-mail: root\r\nx-sum: 7\r\n\r\n";
    let answer = super::witness::exchange(port.addr(), text).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(
        answer.contains("\"x-sum\":\"7\"") && !answer.contains("root"),
        "{answer}"
    );
    hides("a log", &(serve.log()? + &audit(&serve)?), &[TOKEN])
}

/// What Argo CD says of who asks.
fn user(response: &Response<Bytes>) -> Result<Value> {
    ensure!(response.status() == 200, "{response:?}");
    Ok(serde_json::from_slice(response.body())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_believes_the_token_that_a_route_hands_on() -> Result<()> {
    let (api, port) = (KubeApi::start().await?, Port::free()?);
    let back = format!("http://app.test:{}/.comind/callback", port.number());
    let provider = Oidc::start(&[back]).await?;
    ArgoCd::prepare_for(&api, &provider.issuer(), CLIENT).await?;
    let argocd = ArgoCd::start(&api, false).await?;
    let dir = tempfile::tempdir()?;
    let route = |path: &str, form: &str| {
        format!(
            "    - {{ host: \"*\", path: {path}, rewrite: {{ path: /api/v1 }}, upstream: \"http://{}\", login: staff{form} }}\n",
            argocd.addr()
        )
    };
    let routes = [
        route("/header", ", identity: { pass_token: bearer }"),
        route("/cookie", ", identity: { pass_token: argocd }"),
        route("/none", ""),
    ];
    let config = config(&port, &provider, dir.path(), &routes.concat())?;
    let serve = Serve::start_logging(&config, "debug").await?;
    let url = |path: &str| format!("http://app.test:{}{path}", port.number());
    let mut ada = Browser::new(port.addr(), provider.addr(), "ada");
    for form in ["header", "cookie"] {
        let info = url(&format!("/{form}/session/userinfo"));
        let known = wait_for("Argo CD to know them", LATER, async || {
            let (_, answer) = ada.visit(&info).await?;
            let known = user(&answer)?;
            ensure!(known["loggedIn"] == true, "{known}");
            Ok(known)
        });
        let known = known.await.map_err(|error| serve.blame(error))?;
        ensure!(known["iss"] == provider.issuer(), "{known}");
        // More than a name: what only those may see who are let in.
        let (_, all) = ada.visit(&url(&format!("/{form}/applications"))).await?;
        ensure!(all.status() == 200, "{all:?}");
        // A token of the client's own takes nobody's place.
        let mut bob = Browser::new(port.addr(), provider.addr(), "bob");
        bob.visit(&info).await?;
        let cookie = bob.cookie("app.test").context("no session")?;
        let cookie = format!("argocd.token=forged; comind-session={cookie}; argocd.token-1=forged");
        let request = Request::get(format!("/{form}/session/userinfo"))
            .header("host", format!("app.test:{}", port.number()))
            .header("authorization", "Bearer forged")
            .header("cookie", cookie);
        let known = user(&send(port.addr(), request.body(Full::default())?).await?)?;
        ensure!(known["loggedIn"] == true, "{form}: {known}");
    }
    let (_, none) = ada.visit(&url("/none/session/userinfo")).await?;
    ensure!(user(&none)?["loggedIn"] != true, "{none:?}");
    let (_, none) = ada.visit(&url("/none/applications")).await?;
    ensure!(none.status() == 401, "{none:?}");

    let given: Vec<String> = serde_json::from_str(&provider.given().await?)?;
    ensure!(given.len() >= 4, "{given:?}");
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    hides("a log", &(serve.log()? + &audit(&serve)?), &given)
}
