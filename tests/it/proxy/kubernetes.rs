//! Login by tokens of a cluster: a real API server says who somebody is and what they may, changes
//! its mind, and goes away.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::kube::KubeApi;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::Value;

use super::sessions::{audit, audited};
use super::sockets::WebSocket;
use crate::serve::{LATER, Serve, hides, run_to_end, value};

const HOST: &str = "app.test";
const COOKIE: &str = "comind-session";
/// What routes ask for, and what gives it.
const ACCESS: &str = "verb: get, resource: services/proxy, namespace: default, name: grafana";
const RULES: &str = r#"[{"apiGroups":[""],"resources":["services/proxy"],"resourceNames":["grafana"],"verbs":["get"]}]"#;
/// What the proxy itself needs.
const OWN: &str = r#"[{"apiGroups":["authentication.k8s.io"],"resources":["tokenreviews"],"verbs":["create"]},
    {"apiGroups":["authorization.k8s.io"],"resources":["subjectaccessreviews"],"verbs":["create"]}]"#;

/// A cluster with the accounts `proxy`, `ada` and `bob`; a proxy that asks it before a web server:
/// `/` for a right on a service, `/any` for whoever has a token, `/path` for a right on a path,
/// `/role` for a role, `/late` as `/` but without patience for an API server that is away.
struct Place {
    api: KubeApi,
    serve: Serve,
    port: Port,
    ada: String,
    bob: String,
    _node: Node,
}

fn config(port: &Port, node: &Node, kubeconfig: &Path) -> String {
    let (listen, node, kubeconfig) = (port.addr(), node.addr(), kubeconfig.display());
    let login = |more: &str| {
        format!("{{ kubernetes: {{ authorized_ttl: 1s, unauthorized_ttl: 100ms, {more} }} }}")
    };
    let route = |path: &str, login: &str, more: &str| {
        format!(
            "    - {{ host: \"*\", path: {path}, rewrite: {{ path: / }}, upstream: \"http://{node}\", login: {login}{more} }}\n"
        )
    };
    let access = format!(", access: {{ kubernetes: {{ {ACCESS} }} }}");
    let path = ", access: { kubernetes: { verb: get, path: /comind } }";
    let groups =
        "roles: { account: [\"system:serviceaccounts:default\"], root: [\"system:masters\"] }";
    let routes = [
        route("/", "staff", &access),
        route("/any", "staff", ""),
        route("/path", "staff", path),
        route("/role", "staff", ", roles: [account]"),
        route("/root", "staff", ", roles: [root]"),
        route("/late", "late", &access),
        route("/ours", "ours", ""),
    ];
    format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {listen}\n  workers: 2\n  \
         access_log: json\n  tunnels: {{ kubeconfig: {kubeconfig} }}\n  logins:\n    staff: {}\n    late: {}\n    ours: {}\n  routes:\n{}",
        login(groups),
        login("grace: 0s"),
        login("audiences: [comind]"),
        routes.concat(),
    )
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl Place {
    async fn start() -> Result<Self> {
        Self::start_as(true).await
    }

    /// With a proxy that may ask, or may not.
    async fn start_as(may_ask: bool) -> Result<Self> {
        let (api, node, port) = (KubeApi::start().await?, Node::start().await?, Port::free()?);
        for account in ["proxy", "ada", "bob"] {
            api.make_account(account).await?;
        }
        if may_ask {
            api.allow_by("proxy", "reviews", OWN).await?;
        }
        api.allow_here("ada", "grafana", RULES).await?;
        let kubeconfig = api.kubeconfig_of("proxy").await?;
        let config = config(&port, &node, &kubeconfig);
        Ok(Self {
            ada: api.token_of("ada").await?,
            bob: api.token_of("bob").await?,
            api,
            serve: Serve::start_logging(&config, "debug").await?,
            port,
            _node: node,
        })
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Bytes>> {
        let mut request = Request::get(path).header("host", HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = send(self.port.addr(), request.body(Full::default())?).await;
        sent.map_err(|error| self.serve.blame(error))
    }

    async fn by(&self, token: &str, path: &str) -> Result<Response<Bytes>> {
        self.ask(path, &[("authorization", &bearer(token))]).await
    }

    /// Waits until it is answered so, within what answers of the API server may be remembered.
    async fn until(&self, token: &str, path: &str, status: u16) -> Result<String> {
        let what = format!("{path} to be answered with {status}");
        let waited = wait_for(&what, LATER, async || {
            let answer = self.by(token, path).await?;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            ensure!(answer.status() == status, "{}: {text}", answer.status());
            Ok(text)
        });
        waited.await.map_err(|error| self.serve.blame(error))
    }

    async fn socket(&self, token: &str, path: &str) -> Result<WebSocket> {
        let headers = [("authorization", bearer(token))];
        let headers = [(headers[0].0, headers[0].1.as_str())];
        let mut socket = WebSocket::open_with(self.port.addr(), path, &headers).await?;
        socket.send("hello").await?;
        ensure!(socket.receive().await? == "hello");
        Ok(socket)
    }

    /// None of these stands anywhere that we write to.
    async fn hides(&self, more: &[&str]) -> Result<()> {
        let data = self.serve.data_dir().display().to_string();
        let (code, list) = run_to_end(&["--json", "sessions", "--data-dir", &data, "list"]).await?;
        ensure!(code == 0, "{list}");
        let metrics = self.serve.get("/metrics").await?;
        let all = [self.serve.log()?, audit(&self.serve)?, list, metrics].concat();
        let mut secrets = vec![self.ada.as_str(), self.bob.as_str()];
        secrets.extend(more);
        // The signature alone would be of no use, but nobody should have to think about that.
        let signed = |token: &&str| token.rsplit('.').next().unwrap_or_default().to_owned();
        let parts: Vec<String> = secrets.iter().map(signed).collect();
        secrets.extend(parts.iter().map(String::as_str));
        hides("a log, the audit log, a list or a figure", &all, &secrets)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_decides_who_comes_in_and_who_stays() -> Result<()> {
    let place = Place::start().await?;
    let nobody = place.ask("/who", &[]).await?;
    let how = nobody.headers().get("www-authenticate").cloned();
    ensure!(
        nobody.status() == 401 && how.context("not said how")?.to_str()?.starts_with("Bearer"),
        "{nobody:?}"
    );
    let broken = format!("{}x", place.ada);
    for wrong in ["nonsense", "a.b.c", broken.as_str()] {
        let refused = place.by(wrong, "/any/who").await?;
        ensure!(refused.status() == 401, "{wrong}: {refused:?}");
    }

    // Who may, and what the upstream hears of them, whatever they say of themselves.
    let forged = [
        ("authorization", bearer(&place.ada)),
        ("x-auth-request-user", "root".to_owned()),
        ("x-remote-user", "root".to_owned()),
        ("x_auth_request_groups", "root".to_owned()),
    ];
    let forged: Vec<(&str, &str)> = forged
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let let_in = place.ask("/who", &forged).await?;
    ensure!(let_in.status() == 200, "{let_in:?}");
    let seen: Value = serde_json::from_slice(let_in.body())?;
    let seen = &seen["headers"];
    ensure!(
        seen["x-auth-request-user"] == "system:serviceaccount:default:ada",
        "{seen}"
    );
    let groups = seen["x-auth-request-groups"]
        .as_str()
        .context("no groups")?;
    ensure!(groups.contains("system:serviceaccounts:default"), "{seen}");
    ensure!(
        seen.get("authorization").is_none() && !seen.to_string().contains("root"),
        "{seen}"
    );

    // Who may not, in words.
    let refused = place.by(&place.bob, "/who").await?;
    let text = String::from_utf8_lossy(refused.body()).into_owned();
    ensure!(
        refused.status() == 403
            && text.contains("lacks_right")
            && text.contains("system:serviceaccount:default:bob may not come here")
            && text.contains("get services/proxy grafana in namespace default"),
        "{text}"
    );
    ensure!(place.by(&place.bob, "/any/who").await?.status() == 200);
    ensure!(place.by(&place.bob, "/role/who").await?.status() == 200);
    ensure!(place.by(&place.bob, "/root/who").await?.status() == 403);
    ensure!(place.by(&place.bob, "/path/who").await?.status() == 403);
    let rules = r#"[{"nonResourceURLs":["/comind"],"verbs":["get"]}]"#;
    place.api.allow_by("bob", "path", rules).await?;
    place.until(&place.bob, "/path/who", 200).await?;

    // A right is taken away: what lives by it ends, and nothing else.
    let mut lost = place.socket(&place.ada, "/echo").await?;
    let mut kept = place.socket(&place.ada, "/any/echo").await?;
    let mut other = place.socket(&place.bob, "/path/echo").await?;
    place.api.forbid_here("grafana").await?;
    lost.ended()
        .await
        .map_err(|error| place.serve.blame(error))?;
    place.until(&place.ada, "/who", 403).await?;
    audited(&place.serve, "\"lost_right\"", 1).await?;
    for socket in [&mut kept, &mut other] {
        socket.send("still").await?;
        ensure!(socket.receive().await? == "still");
    }
    place.api.bind_here("ada", "grafana").await?;
    place.until(&place.ada, "/who", 200).await?;

    // The account is gone: its token is worth nothing, also to what lives by it.
    place.api.remove_account("ada").await?;
    kept.ended()
        .await
        .map_err(|error| place.serve.blame(error))?;
    place.until(&place.ada, "/any/who", 401).await?;
    other.send("still").await?;
    ensure!(other.receive().await? == "still");
    let text = audit(&place.serve)?;
    ensure!(text.contains("\"why\":\"unknown\""), "{text}");
    place.hides(&[&broken]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_lets_nobody_in() -> Result<()> {
    let mut place = Place::start().await?;
    let mut patient = place.socket(&place.ada, "/echo").await?;
    let mut hasty = place.socket(&place.ada, "/late/echo").await?;
    place.api.kill()?;
    // What is remembered counts for a second, and then nobody gets in, known or not.
    let text = place.until(&place.ada, "/who", 503).await?;
    ensure!(
        text.contains("cluster_away")
            && text.contains("cannot be asked")
            && text.contains("cannot be reached"),
        "{text}"
    );
    let stranger = place.by("nonsense", "/who").await?;
    ensure!(stranger.status() == 503, "{stranger:?}");
    // What is under way goes on for as long as its login says.
    hasty
        .ended()
        .await
        .map_err(|error| place.serve.blame(error))?;
    audited(&place.serve, "\"not_checked\"", 1).await?;
    patient.send("still").await?;
    ensure!(patient.receive().await? == "still");
    place.api.restart().await?;
    place.until(&place.ada, "/who", 200).await?;
    place.until("nonsense", "/who", 401).await?;
    patient.send("still").await?;
    ensure!(patient.receive().await? == "still");
    place.hides(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_the_right_to_ask_says_so() -> Result<()> {
    let place = Place::start_as(false).await?;
    let refused = place.by(&place.ada, "/any/who").await?;
    let text = String::from_utf8_lossy(refused.body()).into_owned();
    ensure!(
        refused.status() == 503 && text.contains("`create` on `tokenreviews`"),
        "{text}"
    );
    // One of the two is not enough.
    let rules = r#"[{"apiGroups":["authentication.k8s.io"],"resources":["tokenreviews"],"verbs":["create"]}]"#;
    place.api.allow_by("proxy", "tokens", rules).await?;
    place.until(&place.ada, "/any/who", 200).await?;
    let text = place.until(&place.ada, "/who", 503).await?;
    ensure!(
        text.contains("`create` on `subjectaccessreviews`"),
        "{text}"
    );
    place.api.allow_by("proxy", "reviews", OWN).await?;
    place.until(&place.ada, "/who", 200).await?;
    place.hides(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_others_is_none() -> Result<()> {
    let place = Place::start().await?;
    let ours = place.api.token_for("ada", r#"["comind","other"]"#).await?;
    let others = place.api.token_for("ada", r#"["other"]"#).await?;
    for (token, path, status) in [
        (&ours, "/ours/who", 200),
        (&others, "/ours/who", 401),
        (&place.ada, "/ours/who", 401),
        (&ours, "/any/who", 401),
        (&place.ada, "/any/who", 200),
    ] {
        let answer = place.by(token, path).await?;
        ensure!(answer.status() == status, "{path}, {status}: {answer:?}");
    }
    place.hides(&[&ours, &others]).await
}

impl Place {
    /// How often the API server has been asked about these.
    async fn asked(&self, plural: &str) -> Result<f64> {
        let figures = self.api.request(Method::GET, "/metrics", "").await?;
        let labels = [("resource", plural), ("verb", "POST"), ("code", "201")];
        Ok(value(&figures, "apiserver_request_total", &labels).unwrap_or(0.0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_make_few_questions() -> Result<()> {
    let place = Place::start().await?;
    let began = Instant::now();
    let all = (0..64).map(|_| place.by(&place.ada, "/who"));
    for answer in futures_util::future::try_join_all(all).await? {
        ensure!(answer.status() == 200, "{answer:?}");
    }
    // An answer counts for a second.
    let most = began.elapsed().as_secs() as f64 + 1.0;
    for plural in ["tokenreviews", "subjectaccessreviews"] {
        let asked = place.asked(plural).await?;
        ensure!(
            asked >= 1.0 && asked <= most,
            "{plural}: {asked}, not {most}"
        );
    }
    Ok(())
}

/// A browser at the page on which tokens are pasted.
impl Place {
    async fn paste(
        &self,
        page: &str,
        token: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Bytes>> {
        let mut request = Request::post(page)
            .header("host", HOST)
            .header("accept", "text/html")
            .header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Bytes::from(format!("token={token}"));
        send(self.port.addr(), request.body(Full::new(body))?).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_pasted_makes_a_session() -> Result<()> {
    let place = Place::start().await?;
    let html = ("accept", "text/html");
    let visit = place.ask("/who?x=1", &[html]).await?;
    let page = visit
        .headers()
        .get("location")
        .context("sent nowhere")?
        .to_str()?
        .to_owned();
    ensure!(
        visit.status() == 303 && page == "/.comind/login?login=staff&return=%2Fwho%3Fx%3D1",
        "{visit:?}"
    );
    let shown = place.ask(&page, &[html]).await?;
    let text = String::from_utf8_lossy(shown.body()).into_owned();
    let policy = shown
        .headers()
        .get("content-security-policy")
        .context("no policy")?;
    ensure!(
        shown.status() == 200
            && text.contains("type=\"password\"")
            && text.contains("method=\"post\"")
            && policy.to_str()?.contains("frame-ancestors 'none'")
            && shown.headers()["cache-control"] == "no-store",
        "{shown:?}"
    );

    // What does not fit begins nothing, and is not said again.
    let own = format!("http://{HOST}");
    let here = ("origin", own.as_str());
    let wrong = place
        .paste(&page, "wrong-token-0123456789", &[here])
        .await?;
    let text = String::from_utf8_lossy(wrong.body()).into_owned();
    ensure!(
        wrong.status() == 401
            && text.contains("does not know that token")
            && !text.contains("wrong-token")
            && wrong.headers().get("set-cookie").is_none(),
        "{wrong:?}"
    );
    let elsewhere = place
        .paste(&page, &place.ada, &[("origin", "http://evil.test")])
        .await?;
    ensure!(
        elsewhere.status() == 403 && elsewhere.headers().get("set-cookie").is_none(),
        "{elsewhere:?}"
    );
    let long = "x".repeat(64 * 1024);
    let long = place.paste(&page, &long, &[here]).await?;
    ensure!(long.status() == 400, "{long:?}");

    // Blanks and line breaks come with what is pasted.
    let token = format!("%20{}%0D%0A", place.ada);
    let planted = ("cookie", "comind-session=planted");
    let came = place.paste(&page, &token, &[here, planted]).await?;
    ensure!(
        came.status() == 303 && came.headers()["location"] == "/who?x=1",
        "{came:?}"
    );
    let cookie = came
        .headers()
        .get("set-cookie")
        .context("no cookie")?
        .to_str()?;
    ensure!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    ensure!(
        cookie.starts_with(COOKIE) && !cookie.contains("planted") && !cookie.contains(&place.ada),
        "{cookie}"
    );
    let mine = ("cookie", cookie.as_str());
    let who = place.ask("/who", &[mine]).await?;
    ensure!(who.status() == 200, "{who:?}");
    let seen = String::from_utf8_lossy(who.body()).into_owned();
    ensure!(
        seen.contains("system:serviceaccount:default:ada")
            && !seen.contains(&place.ada)
            && !seen.contains(COOKIE),
        "{seen}"
    );
    let session = place.ask("/.comind/session", &[mine]).await?;
    let session = String::from_utf8_lossy(session.body()).into_owned();
    ensure!(
        session.contains("default:ada") && !session.contains(&place.ada),
        "{session}"
    );

    // A WebSocket by cookie, for pages of this host alone, for as long as the right lasts.
    let with = |origin: &'static str| {
        [
            ("host", HOST),
            ("cookie", cookie.as_str()),
            ("origin", origin),
        ]
    };
    let stolen =
        WebSocket::open_with(place.port.addr(), "/echo", &with("http://evil.app.test")).await;
    ensure!(stolen.is_err());
    let mut socket =
        WebSocket::open_with(place.port.addr(), "/echo", &with("http://app.test")).await?;
    socket.send("hello").await?;
    ensure!(socket.receive().await? == "hello");
    place.api.forbid_here("grafana").await?;
    socket
        .ended()
        .await
        .map_err(|error| place.serve.blame(error))?;
    // They are still somebody.
    let any = place.ask("/any/who", &[mine]).await?;
    ensure!(any.status() == 200, "{any:?}");
    place.api.remove_account("ada").await?;
    wait_for("the end of the session", LATER, async || {
        let gone = place.ask("/any/who", &[mine, html]).await?;
        ensure!(gone.status() == 303, "{gone:?}");
        Ok(())
    })
    .await?;
    place.hides(&["wrong-token-0123456789"]).await
}
