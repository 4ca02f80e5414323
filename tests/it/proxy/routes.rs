//! What a route can do besides passing on, and what is written down of it.

use anyhow::{Context, Result, ensure};
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use serde_json::Value;

use super::curl::curl;
use crate::serve::{LATER, Serve, run_to_end, value};

async fn ask(port: &Port, path: &str, more: &[&str]) -> Result<super::curl::Seen> {
    curl(
        port.addr(),
        &format!("http://app.test:{}{path}", port.number()),
        more,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rewriting_redirecting_and_answering() -> Result<()> {
    let node = Node::start().await?;
    let port = Port::free()?;
    let to = format!("upstream: \"http://{}\"", node.addr());
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  routes:\n    \
         - {{ host: app.test, path: /api, {to}, rewrite: {{ path: /v2, host: inner, request: {{ set: {{ x-team: a }}, remove: [cookie] }}, response: {{ set: {{ x-frame-options: DENY }}, remove: [date] }} }} }}\n    \
         - {{ host: app.test, path: \"/old/(.*)\", path_type: regex, {to}, rewrite: {{ path: \"/new/$1\" }} }}\n    \
         - {{ host: app.test, path: /beta, name: beta, headers: {{ x-env: beta }}, respond: {{ body: beta }} }}\n    \
         - {{ host: app.test, path: /beta, name: plain, respond: {{ status: 403, body: no }} }}\n    \
         - {{ host: app.test, path: /go, redirect: {{ to: \"https://else.test$path\", status: 307 }} }}\n    \
         - {{ host: app.test, path: /mine, {to}, allow: [10.99.0.0/16] }}\n",
        port.addr()
    );
    let serve = Serve::start_with(&config).await?;
    let seen = ask(&port, "/api/x?y=1", &["--header", "Cookie: a=b"]).await?;
    let told: Value = serde_json::from_str(&seen.body)?;
    ensure!(
        told["url"] == "/v2/x?y=1" && told["headers"]["host"] == "inner",
        "{told}"
    );
    ensure!(
        told["headers"]["x-team"] == "a" && told["headers"]["cookie"].is_null(),
        "{told}"
    );
    ensure!(
        told["headers"]["x-forwarded-host"]
            .as_str()
            .is_some_and(|host| host.starts_with("app.test")),
        "{told}"
    );
    ensure!(seen.head.contains("x-frame-options: deny"), "{seen:?}");
    let seen = ask(&port, "/old/a/b", &[]).await?;
    ensure!(seen.body.contains("\"url\":\"/new/a/b\""), "{seen:?}");
    ensure!(
        ask(&port, "/beta", &["--header", "x-env: beta"])
            .await?
            .body
            == "beta"
    );
    let plain = ask(&port, "/beta", &[]).await?;
    ensure!(plain.status == 403 && plain.body == "no", "{plain:?}");
    let gone = ask(&port, "/go/a?b", &[]).await?;
    ensure!(
        gone.status == 307 && gone.head.contains("location: https://else.test/go/a?b"),
        "{gone:?}"
    );
    let mine = ask(&port, "/mine", &[]).await?;
    ensure!(
        mine.status == 403 && mine.body.contains("\"failed\":\"client\""),
        "{mine:?}"
    );
    let none = ask(&port, "/nowhere", &[]).await?;
    ensure!(
        none.status == 404 && none.body.contains("\"reason\":\"no_route\""),
        "{none:?}"
    );

    // How a request went is told to whoever asks.
    let debug = ask(&port, "/api/x", &["--header", "x-comind-debug: 1"]).await?;
    ensure!(
        debug.head.contains("server-timing: connect;dur=")
            && debug.head.contains("x-comind-upstream: 127.0.0.1:"),
        "{debug:?}"
    );
    let metrics = serve.get("/metrics").await?;
    let of = [("route", "app.test/api"), ("code", "2xx")];
    ensure!(
        value(&metrics, "comind_proxy_requests_total", &of) == Some(2.0),
        "{metrics}"
    );
    let of = [("route", "app.test/api")];
    ensure!(
        value(&metrics, "comind_proxy_request_duration_seconds_count", &of) == Some(2.0),
        "{metrics}"
    );
    ensure!(
        value(&metrics, "comind_proxy_requests_in_flight", &of) == Some(0.0),
        "{metrics}"
    );
    let of = [("route", "plain"), ("code", "4xx")];
    ensure!(
        value(&metrics, "comind_proxy_requests_total", &of) == Some(1.0),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_what_is_asked_for_and_no_query() -> Result<()> {
    let node = Node::start().await?;
    let port = Port::free()?;
    let config = |sample: &str, form: &str| {
        format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  access_log: {form}\n  access_log_sample: {sample}\n  routes:\n    \
             - {{ host: \"*\", name: all, upstream: \"http://{}\" }}\n",
            port.addr(),
            node.addr()
        )
    };
    let serve = Serve::start_with(&config("1.0", "json")).await?;
    ask(&port, "/who?token=fathom", &[]).await?;
    let line = wait_for("the line", LATER, async || {
        let log = serve.log()?;
        let line = log
            .lines()
            .find(|line| line.starts_with('{') && line.contains("\"/who\""));
        Ok(line.context("none so far")?.to_owned())
    });
    let line: Value = serde_json::from_str(&line.await?)?;
    ensure!(
        line["status"] == 200 && line["route"] == "all" && line["client"] == "127.0.0.1",
        "{line}"
    );
    ensure!(
        line["upstream"] == node.addr().to_string()
            && line["trace"].as_str().is_some_and(|id| id.len() == 32),
        "{line}"
    );
    ensure!(!serve.log()?.contains("fathom"));

    // Of good ones none, of failed ones all.
    drop(serve);
    let serve = Serve::start_with(&config("0", "common")).await?;
    ask(&port, "/who", &[]).await?;
    ask(&port, "/nonsense", &[]).await?;
    let waited = wait_for("the line", LATER, async || {
        let log = serve.log()?;
        ensure!(log.contains("\"GET /nonsense HTTP/1.1\" 502"), "{log}");
        ensure!(!log.contains("GET /who"), "{log}");
        Ok(())
    });
    waited.await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sections_are_refused_with_their_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("c.yaml");
    for (section, says) in [
        ("{ routes: [] }", "`listen` is missing"),
        (
            "{ listen: 127.0.0.1:1, routes: [{ host: a }] }",
            "one of `upstream`, `redirect` and `respond`",
        ),
        (
            "{ listen: 127.0.0.1:1, routes: [{ host: a, upstream: \"ftp://b\" }] }",
            "no scheme of an upstream",
        ),
        (
            "{ listen: 127.0.0.1:1, routes: [{ host: a, upstream: \"http://b/c\" }] }",
            "has no path",
        ),
        (
            "{ listen: 127.0.0.1:1, routes: [{ host: \"a b\", upstream: \"http://b\" }] }",
            "is no host",
        ),
        (
            "{ listen: 127.0.0.1:1, routes: [{ host: a, path: x, upstream: \"http://b\" }] }",
            "is no path",
        ),
        (
            "{ listen: 127.0.0.1:1, routes: [{ host: a, path: \"/(\", path_type: regex, upstream: \"http://b\" }] }",
            "no regular expression",
        ),
        (
            "{ listen: 127.0.0.1:1, proxy_protocol: true }",
            "needs `trusted`",
        ),
        (
            "{ listen: 127.0.0.1:1, tls: { listen: 127.0.0.1:2 } }",
            "give `certificates`",
        ),
        (
            "{ listen: 127.0.0.1:1, trusted: [nonsense] }",
            "no range of addresses",
        ),
    ] {
        std::fs::write(&file, format!("data_dir: x\nproxy: {section}\n"))?;
        let (code, told) = run_to_end(&["config", "check", &file.display().to_string()]).await?;
        ensure!(
            code == 78 && told.contains(says) && told.contains("c.yaml"),
            "{section}: {code} {told}"
        );
    }
    Ok(())
}
