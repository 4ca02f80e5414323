//! Logins that a request bears (passwords, tokens, certificates), their sessions, and what ends
//! with a session: against a real web server.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::{Request, Response};
use http_body_util::Full;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::curl::curl;
use super::sockets::WebSocket;
use super::tls::Place;
use crate::serve::{LATER, Serve, hides, run_to_end, value};

/// Of `fakepassword`, by Apache's htpasswd.
pub(super) const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
pub(super) const ADA: &str = "Basic YWRhOmZha2VwYXNzd29yZA==";
pub(super) const BOB: &str = "Basic Ym9iOmZha2VwYXNzd29yZA==";
pub(super) const WRONG: &str = "Basic YWRhOndyb25n";
const TOKEN: &str = "a-token-of-the-build-0123456789";

/// A proxy before a web server: `/` behind passwords, `/admin` for a role, `/open` for all,
/// `/api` behind tokens, `/brief` for six seconds.
struct Guarded {
    serve: Serve,
    port: Port,
    _node: Node,
    _dir: tempfile::TempDir,
}

fn config(port: SocketAddr, node: SocketAddr, token_file: &str) -> String {
    format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {port}\n  workers: 2\n  \
         access_log: json\n  logins:\n    \
           staff: {{ webauth: true, basic: {{ users: {{ ada: {{ hash: \"{HASH}\", roles: [admin] }}, bob: {{ hash: \"{HASH}\" }} }} }} }}\n    \
           brief: {{ ttl: 6s, basic: {{ users: {{ ada: {{ hash: \"{HASH}\" }} }} }} }}\n    \
           build: {{ bearer: {{ tokens: {{ ci: {{ token_file: {token_file} }} }} }} }}\n  routes:\n    \
         - {{ host: \"*\", upstream: \"http://{node}\", login: staff }}\n    \
         - {{ host: \"*\", path: /admin, upstream: \"http://{node}\", login: staff, roles: [admin] }}\n    \
         - {{ host: \"*\", path: /open, upstream: \"http://{node}\" }}\n    \
         - {{ host: \"*\", path: /api, upstream: \"http://{node}\", login: build }}\n    \
         - {{ host: \"*\", path: /brief, rewrite: {{ path: / }}, upstream: \"http://{node}\", login: brief }}\n"
    )
}

impl Guarded {
    async fn start() -> Result<Self> {
        let node = Node::start().await?;
        let port = Port::free()?;
        let dir = tempfile::tempdir()?;
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n"))?;
        let config = config(port.addr(), node.addr(), &token_file.display().to_string());
        Ok(Self {
            serve: Serve::start_logging(&config, "debug").await?,
            port,
            _node: node,
            _dir: dir,
        })
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Bytes>> {
        let mut request = Request::get(path).header("host", "app.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(self.port.addr(), request.body(Full::default())?).await
    }

    /// The headers that the upstream saw.
    async fn seen(&self, path: &str, headers: &[(&str, &str)]) -> Result<Value> {
        let response = self.ask(path, headers).await?;
        ensure!(response.status() == 200, "{path}: {response:?}");
        let seen: Value = serde_json::from_slice(response.body())?;
        Ok(seen["headers"].clone())
    }

    async fn sessions(&self, args: &[&str]) -> Result<(i32, String)> {
        let data = self.serve.data_dir().display().to_string();
        run_to_end(&[&["--json", "sessions", "--data-dir", &data], args].concat()).await
    }

    async fn list(&self) -> Result<Vec<Value>> {
        let (code, text) = self.sessions(&["list"]).await?;
        ensure!(code == 0, "{text}");
        let told: Value = serde_json::from_str(&text)?;
        Ok(told["sessions"].as_array().context("no list")?.clone())
    }
}

/// The whole audit log.
pub(super) fn audit(serve: &Serve) -> Result<String> {
    let mut all = String::new();
    for entry in std::fs::read_dir(serve.data_dir().join("proxy"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "jsonl") {
            all.push_str(&std::fs::read_to_string(path)?);
        }
    }
    Ok(all)
}

/// Waits until the audit log has so many lines with this in them: it is written a moment later.
pub(super) async fn audited(serve: &Serve, what: &str, count: usize) -> Result<()> {
    wait_for("the audit log", LATER, async || {
        let audit = audit(serve)?;
        ensure!(audit.matches(what).count() == count, "{what}: {audit}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_tokens_and_roles() -> Result<()> {
    let guarded = Guarded::start().await?;
    for (headers, path) in [
        (&[][..], "/who"),
        (&[("authorization", WRONG)], "/who"),
        (&[("authorization", "Basic bm9ib2R5Ong=")], "/who"),
        (&[("authorization", ADA)], "/api"),
        (
            &[("authorization", "Bearer another-token-0123456789")],
            "/api",
        ),
    ] {
        let refused = guarded.ask(path, headers).await?;
        ensure!(refused.status() == 401, "{path}: {refused:?}");
        let asks = refused.headers().get("www-authenticate");
        ensure!(asks.is_some(), "{path}: {refused:?}");
    }
    let seen = guarded.seen("/who", &[("authorization", ADA)]).await?;
    ensure!(seen["x-auth-request-user"] == "ada", "{seen}");
    ensure!(seen["x-webauth-user"] == "ada", "{seen}");
    ensure!(seen["x-auth-request-groups"] == "admin", "{seen}");
    ensure!(seen.get("authorization").is_none(), "{seen}");
    let seen = guarded
        .seen("/api", &[("authorization", &format!("bearer {TOKEN}"))])
        .await?;
    ensure!(seen["x-auth-request-user"] == "ci", "{seen}");
    ensure!(seen.get("x-webauth-user").is_none(), "{seen}");

    // What a route asks for beyond that is a role.
    guarded.seen("/admin", &[("authorization", ADA)]).await?;
    let bob = guarded.ask("/admin", &[("authorization", BOB)]).await?;
    ensure!(bob.status() == 403, "{bob:?}");
    // A path that an upstream reads as the guarded one is guarded.
    let around = guarded.ask("//admin", &[("authorization", BOB)]).await?;
    ensure!(around.status() == 403, "{around:?}");

    let metrics = guarded.serve.get("/metrics").await?;
    ensure!(
        value(&metrics, "comind_proxy_sessions", &[]) == Some(3.0),
        "{metrics}"
    );
    let refused = value(&metrics, "comind_proxy_logins_refused_total", &[]);
    ensure!(refused == Some(7.0), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_who_they_are_by_themselves() -> Result<()> {
    let guarded = Guarded::start().await?;
    let forged = [
        ("x-auth-request-user", "root"),
        ("x-auth-request-email", "root@example.org"),
        ("x_auth_request_user", "root"),
        ("x-webauth-user", "root"),
        ("x-forwarded-user", "root"),
        ("remote-user", "root"),
        ("cookie", "a=1; comind-session=root"),
    ];
    for (path, user) in [("/open", None), ("/who", Some("bob"))] {
        let mut headers = forged.to_vec();
        // Naming it as the hop's own does not take away what we say.
        headers.push(("connection", "x-auth-request-user"));
        if user.is_some() {
            headers.push(("authorization", BOB));
        }
        let seen = guarded.seen(path, &headers).await?;
        ensure!(!seen.to_string().contains("root"), "{path}: {seen}");
        ensure!(
            seen["x-auth-request-user"].as_str() == user,
            "{path}: {seen}"
        );
        ensure!(seen["cookie"] == "a=1", "{path}: {seen}");
    }
    // Nor in what comes behind a body.
    let text = b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-auth-request-user, x-sum\r\n\
                 Connection: close\r\n\r\n1\r\nx\r\n0\r\nx-auth-request-user: root\r\nx-sum: 7\r\n\r\n";
    let answer = super::witness::exchange(guarded.port.addr(), text).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(
        answer.contains("\"x-sum\":\"7\"") && !answer.contains("root"),
        "{answer}"
    );
    Ok(())
}

/// An answer that has begun, and would go on for ever.
struct Unending(TcpStream);

impl Unending {
    async fn open(addr: SocketAddr, path: &str, authorization: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: app.test\r\nAuthorization: {authorization}\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LATER, stream.read_u8()).await??);
        }
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        Ok(Self(stream))
    }

    /// It ends, and not as if it were whole. A reset is an end too.
    async fn breaks(mut self) -> Result<()> {
        let mut rest = Vec::new();
        let _ = timeout(LATER, self.0.read_to_end(&mut rest)).await?;
        ensure!(
            !rest.ends_with(b"0\r\n\r\n"),
            "it ended as if that were all"
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_takes_its_streams_with_it() -> Result<()> {
    let guarded = Guarded::start().await?;
    let addr = guarded.port.addr();
    let mut socket = WebSocket::open_with(addr, "/echo", &[("authorization", ADA)]).await?;
    socket.send("hello").await?;
    ensure!(socket.receive().await? == "hello");
    let events = Unending::open(addr, "/events", ADA).await?;
    let silent = tokio::spawn(async move {
        let request = Request::get("/silent").header("host", "app.test");
        let request = request.header("authorization", ADA).body(Full::default())?;
        send(addr, request).await
    });
    let mut other = WebSocket::open_with(addr, "/echo", &[("authorization", BOB)]).await?;
    wait_for("all of them", LATER, async || {
        let all = guarded.list().await?;
        let of = |user: &str, host: &str| {
            let mut all = all.iter();
            all.any(|one| {
                one["user"] == user && one["host"].as_str().is_some_and(|it| it.contains(host))
            })
        };
        ensure!(
            of("ada", "app.test") && of("ada", "127.0.0.1") && of("bob", "127.0.0.1"),
            "{all:?}"
        );
        let asked = all
            .iter()
            .find(|one| one["host"] == "app.test")
            .context("none")?;
        ensure!(asked["requests"] == 2, "{asked}");
        Ok(())
    })
    .await?;

    let (code, text) = guarded.sessions(&["revoke", "--user", "ada"]).await?;
    ensure!(code == 0 && text.contains("\"ended\":2"), "{text}");
    socket.ended().await?;
    events.breaks().await?;
    let told = silent.await??;
    ensure!(told.status() == 401, "{told:?}");
    other.send("still").await?;
    ensure!(other.receive().await? == "still");
    let all = guarded.list().await?;
    let id = all[0]["id"].as_str().context("no id")?.to_owned();
    ensure!(all.len() == 1 && all[0]["user"] == "bob", "{all:?}");
    ensure!(all[0]["received"].as_u64() > Some(0), "{all:?}");
    let (code, _) = guarded.sessions(&["revoke", &id]).await?;
    ensure!(code == 0);
    other.ended().await?;
    let (code, text) = guarded.sessions(&["revoke", &id]).await?;
    ensure!(code == 1, "{text}");

    // All of it is written down, and whoever changes that is found.
    let (code, text) = guarded.sessions(&["verify"]).await?;
    ensure!(code == 0 && text.contains("\"fits\":true"), "{text}");
    audited(&guarded.serve, "\"why\":\"revoked\"", 3).await?;
    let text = audit(&guarded.serve)?;
    let proxy = guarded.serve.data_dir().join("proxy");
    let file = proxy.join("sessions-000000000001.jsonl");
    std::fs::write(&file, text.replacen("bob", "eve", 1))?;
    let (code, text) = guarded.sessions(&["verify"]).await?;
    ensure!(code == 1 && text.contains("\"line\":"), "{text}");
    let (code, text) = guarded
        .sessions(&["verify", &file.display().to_string()])
        .await?;
    ensure!(code == 1, "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_by_itself_and_with_its_login() -> Result<()> {
    let mut guarded = Guarded::start().await?;
    let addr = guarded.port.addr();
    let brief = [("authorization", ADA)];
    let mut socket = WebSocket::open_with(addr, "/brief/echo", &brief).await?;
    socket.send("hello").await?;
    ensure!(socket.receive().await? == "hello");
    socket.ended().await?;
    audited(&guarded.serve, "\"why\":\"expired\"", 1).await?;

    // The config takes the login away from them.
    let mut socket = WebSocket::open_with(addr, "/echo", &[("authorization", BOB)]).await?;
    let text = std::fs::read_to_string(guarded.serve.config_file())?;
    let bob = format!(", bob: {{ hash: \"{HASH}\" }}");
    ensure!(text.contains(&bob), "{text}");
    guarded.serve.write_config(&text.replace(&bob, ""))?;
    socket.ended().await?;
    let refused = guarded.ask("/who", &[("authorization", BOB)]).await?;
    ensure!(refused.status() == 401, "{refused:?}");
    audited(&guarded.serve, "\"why\":\"changed\"", 1).await?;

    // The end of the program is the end of all of them, and the log is whole.
    let request = guarded.ask("/who", &[("authorization", ADA)]).await?;
    ensure!(request.status() == 200, "{request:?}");
    guarded.serve.signal(Signal::TERM)?;
    guarded.serve.until_ended().await?;
    let (code, text) = guarded.sessions(&["verify"]).await?;
    ensure!(code == 0, "{text}");
    ensure!(audit(&guarded.serve)?.contains("\"why\":\"stopped\""));

    // What was shown to us stands nowhere.
    let all = guarded.serve.log()? + &audit(&guarded.serve)?;
    let secrets = [
        "fakepassword",
        &ADA[6..],
        &BOB[6..],
        &WRONG[6..],
        TOKEN,
        HASH,
    ];
    hides("a log", &all, &secrets)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_login() -> Result<()> {
    let node = Node::start().await?;
    let place = Place::new()?;
    let client = place.authority.sign(&["client.test"])?;
    std::fs::write(place.path("client.crt"), &client.certificate)?;
    std::fs::write(place.path("client.key"), &client.key)?;
    let authority = place.path("ca.crt").display().to_string();
    let more = format!(
        "    client_ca_file: {authority}\n    client_optional: true\n  logins:\n    \
           devices: {{ certificate: {{ subjects: {{ \"rcgen self signed cert\": {{ roles: [laptop] }} }} }} }}\n    \
           others: {{ certificate: {{ subjects: {{ somebody: {{}} }} }} }}"
    );
    let addr = node.addr();
    let routes = format!(
        "    - {{ host: \"*\", upstream: \"http://{addr}\", login: devices, roles: [laptop] }}\n    \
         - {{ host: \"*\", path: /others, upstream: \"http://{addr}\", login: others }}\n"
    );
    let serve = Serve::start_with(&place.config(&more, &routes)).await?;
    let ask = async |path: &str, shows: bool| {
        let mut args = vec!["--cacert".to_owned(), authority.clone()];
        if shows {
            let file = |name: &str| place.path(name).display().to_string();
            args.extend([
                "--cert".to_owned(),
                file("client.crt"),
                "--key".to_owned(),
                file("client.key"),
            ]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let url = format!("https://one.test:{}{path}", place.tls.number());
        curl(place.tls.addr(), &url, &args).await
    };
    let seen = ask("/who", true)
        .await
        .map_err(|error| serve.blame(error))?;
    ensure!(seen.status == 200, "{seen:?}");
    ensure!(
        seen.body
            .contains("\"x-auth-request-user\":\"rcgen self signed cert\""),
        "{seen:?}"
    );
    let none = ask("/who", false).await?;
    ensure!(none.status == 401, "{none:?}");
    let other = ask("/others", true).await?;
    ensure!(other.status == 403, "{other:?}");
    Ok(())
}
