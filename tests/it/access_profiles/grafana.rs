//! Grafana, by one that insists on its rules: who signs in gets a cookie; with that every request but
//! HEAD, OPTIONS and TRACE must come from its own host; Live's WebSocket must come from its own host and
//! port, or from the address that it has in `root_url`; and who is not signed in is sent to the login.
//!
//! Sources, in github.com/grafana/grafana: `check` in pkg/middleware/csrf/csrf.go, `getCheckOriginFunc`
//! and `checkAllowedOrigin` in pkg/services/live/live.go, pkg/middleware/auth.go, conf/defaults.ini.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use comind_peers::chromium::Chromium;
use comind_peers::port::Port;
use fantoccini::{Client, Locator};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SET_COOKIE, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::open::{Access, behind, cluster, run, until_said, until_shown};

/// What `root_url` is where nobody has set it.
const ROOT_URL: &str = "http://localhost:3000/";
const SESSION: &str = "grafana_session=0123456789abcdef";
const LOGIN: &str = r#"{"user":"admin","password":"correct-horse"}"#;

const LOGIN_PAGE: &str = r#"<title>Grafana</title><h1>Welcome</h1>
<form id=f><input name=user><input name=password type=password><button id=go>Log in</button></form>
<script>f.onsubmit = async event => { event.preventDefault();
  const { redirectUrl } = await (await fetch('/login', { method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ user: f.user.value, password: f.password.value }) })).json();
  location.href = redirectUrl }</script>"#;

const HOME_PAGE: &str = r"<title>Home</title><h1>Home</h1><pre id=live>no stream</pre>
<script>const live = document.getElementById('live');
  const socket = new WebSocket(location.origin.replace('http', 'ws') + '/api/live/ws');
  socket.onopen = () => socket.send(JSON.stringify({ connect: {} }));
  socket.onmessage = event => live.innerText = 'live: ' + event.data;
  socket.onerror = () => live.innerText = 'the stream was refused'</script>";

/// A running one; gone when dropped.
struct Grafana {
    addr: SocketAddr,
    _task: JoinSet<()>,
}

impl Grafana {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .with_upgrades(),
                );
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self { addr, _task: task })
    }
}

type Answer = Response<Full<Bytes>>;

fn say(status: StatusCode, kind: &str, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(text.to_owned()));
    *answer.status_mut() = status;
    let kind = kind
        .parse()
        .unwrap_or_else(|_| unreachable!("it is written here"));
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn header(request: &Request<Incoming>, name: http::HeaderName) -> &str {
    let value = request.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn is_signed_in(request: &Request<Incoming>) -> bool {
    header(request, COOKIE)
        .split("; ")
        .any(|one| one == SESSION)
}

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let is_in = is_signed_in(&request);
    if is_in && !comes_from_its_host(&request) {
        return Ok(say(
            StatusCode::FORBIDDEN,
            "text/plain",
            "origin not allowed",
        ));
    }
    let asked = (request.method().clone(), request.uri().path().to_owned());
    let (html, json) = ("text/html", "application/json");
    Ok(match (asked.0, asked.1.as_str()) {
        (Method::GET, "/login") => say(StatusCode::OK, html, LOGIN_PAGE),
        (Method::POST, "/login") => login(request).await,
        (Method::GET, "/api/live/ws") if is_in => live(request),
        (_, path) if !is_in && path.starts_with("/api/") => say(
            StatusCode::UNAUTHORIZED,
            json,
            r#"{"message":"Unauthorized"}"#,
        ),
        (_, _) if !is_in => {
            let mut answer = say(StatusCode::FOUND, html, "");
            let headers = answer.headers_mut();
            headers.insert(LOCATION, http::HeaderValue::from_static("/login"));
            answer
        }
        (Method::GET, "/") => say(StatusCode::OK, html, HOME_PAGE),
        (Method::POST, "/api/ds/query") => say(StatusCode::OK, json, r#"{"results":{}}"#),
        _ => say(StatusCode::NOT_FOUND, json, r#"{"message":"Not found"}"#),
    })
}

/// Ports do not count here.
fn comes_from_its_host(request: &Request<Incoming>) -> bool {
    let origin = header(request, ORIGIN);
    if origin.is_empty()
        || [Method::HEAD, Method::OPTIONS, Method::TRACE].contains(request.method())
    {
        return true;
    }
    let of = |url: &str| {
        url.parse::<Uri>()
            .ok()
            .and_then(|url| url.host().map(str::to_owned))
    };
    of(origin).is_some() && of(origin) == of(&format!("http://{}", header(request, HOST)))
}

async fn login(request: Request<Incoming>) -> Answer {
    let json = "application/json";
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    if body != LOGIN.as_bytes() {
        return say(
            StatusCode::UNAUTHORIZED,
            json,
            r#"{"message":"Invalid username or password"}"#,
        );
    }
    let good = r#"{"message":"Logged in","redirectUrl":"/"}"#;
    let mut answer = say(StatusCode::OK, json, good);
    let cookie = format!("{SESSION}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = cookie.parse() {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

/// Ports count here.
fn live(mut request: Request<Incoming>) -> Answer {
    let place = |url: &str| {
        let url = url.to_ascii_lowercase().parse::<Uri>().ok()?;
        Some((url.host()?.to_owned(), url.port_u16().unwrap_or(80)))
    };
    let origin = header(&request, ORIGIN);
    let host = format!("http://{}", header(&request, HOST));
    let is_good = match place(origin) {
        None => origin.is_empty(),
        there => there == place(&host) || there == place(ROOT_URL),
    };
    if !is_good {
        return say(
            StatusCode::FORBIDDEN,
            "text/plain",
            "request origin is not authorized",
        );
    }
    let accept = derive_accept_key(header(&request, SEC_WEBSOCKET_KEY).as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    // It ends with its connection.
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let io = TokioIo::new(upgraded);
            let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            let mut number = 0;
            while let Some(Ok(Message::Text(_))) = socket.next().await {
                for _ in 0..3 {
                    number += 1;
                    let push = format!(r#"{{"push":{{"number":{number}}}}}"#);
                    if socket.send(Message::text(push)).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    let mut answer = say(StatusCode::SWITCHING_PROTOCOLS, "text/plain", "");
    let headers = answer.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept.parse() {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn its_login_and_its_live_stream_work_at_its_host() -> Result<()> {
    let (grafana, browser) = tokio::try_join!(Grafana::start(), Chromium::start())?;
    let (api, mut exposed) = cluster(&["monitoring"]).await?;
    let service = ("monitoring", "grafana", "http");
    api.expose(&mut exposed, service, 10, grafana.addr).await?;
    let access = Access::of(api.kubeconfig(), &["grafana"])?;
    access.until_direct("grafana").await?;
    let client = browser.session(1100, 800).await?;
    used_by_a_person(&client, &access).await?;
    client.close().await?;
    others_are_not_let_in(&access).await?;
    access.close()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_login_and_its_live_stream_work_behind_an_ingress() -> Result<()> {
    let (grafana, browser) = tokio::try_join!(Grafana::start(), Chromium::start())?;
    let ingress = Port::free()?;
    let route = format!(
        "{{ host: grafana.localhost, upstream: \"http://{}\" }}",
        grafana.addr
    );
    let (_serve, access) = behind(&ingress, "grafana", &route).await?;
    let client = browser.session(1100, 800).await?;
    used_by_a_person(&client, &access).await?;
    client.close().await?;
    others_are_not_let_in(&access).await?;
    access.close()
}

async fn used_by_a_person(client: &Client, access: &Access) -> Result<()> {
    client.goto(&access.url("grafana", "/")).await?;
    until_said(client, "Welcome").await?;
    let url = client.current_url().await?;
    ensure!(
        url.as_str() == access.url("grafana", "/login"),
        "it is at {url}"
    );
    for (field, value) in [
        ("[name=user]", "admin"),
        ("[name=password]", "correct-horse"),
    ] {
        until_shown(client, field).await?;
        client
            .find(Locator::Css(field))
            .await?
            .send_keys(value)
            .await?;
    }
    client.find(Locator::Css("#go")).await?.click().await?;
    until_said(client, "live: {\"push\":{\"number\":3}}").await?;
    // With the cookie, as its panels ask.
    let script = "return (await fetch('/api/ds/query', { method: 'POST', body: '{}' })).status";
    ensure!(run(client, script).await? == 200);
    Ok(())
}

/// We tell it the truth of where a request comes from, so that its rules hold.
async fn others_are_not_let_in(access: &Access) -> Result<()> {
    let own = access.url("grafana", "");
    let other = access.url("other", "");
    for (origin, status) in [(&own, 200), (&other, 403)] {
        let request = Request::post("/api/ds/query").header("origin", origin);
        let request = request.header("cookie", SESSION);
        let answer = access.ask("grafana", request, "{}").await?;
        ensure!(answer.status() == status, "{origin}: {}", answer.status());
    }
    // The same host at another port is good enough for forms, and not for Live.
    let neighbour = "http://grafana.localhost:1".to_owned();
    for (origin, is_in) in [(&own, true), (&other, false), (&neighbour, false)] {
        let stream = TcpStream::connect(access.addr()).await?;
        let url = format!("ws://{}/api/live/ws", access.host("grafana"));
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("origin", origin.parse()?);
        request.headers_mut().insert("cookie", SESSION.parse()?);
        let opened = client_async(request, stream).await;
        ensure!(opened.is_ok() == is_in, "{origin}: {:?}", opened.err());
    }
    Ok(())
}
