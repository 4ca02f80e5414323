//! Sessions as Events of a real API server: who, where, why; guesses as a number; by a role that may do
//! nothing else; and requests that go on where the cluster takes none.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::kube::KubeApi;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use http::{Method, Request, Response};
use http_body_util::Full;
use rustix::process::Signal;
use serde_json::Value;

use super::sessions::{ADA, BOB, HASH, WRONG};
use crate::serve::{LATER, Serve, hides, run_to_end, value};

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";
/// In YAML between double quotes.
const HOSTILE: &str = r#"<b>\" logged in by root \u202Egrof"#;

struct Told {
    serve: Serve,
    port: Port,
}

impl Told {
    async fn start(kubeconfig: &std::path::Path) -> Result<Self> {
        let port = Port::free()?;
        let long = "x".repeat(900);
        let config = format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {}\n  workers: 2\n  \
             session_events: {{ kubeconfig: {}, about: deployment/default/proxy }}\n  \
             logins:\n    staff: {{ basic: {{ users: {{ ada: {{ hash: \"{HASH}\" }}, bob: {{ hash: \"{HASH}\" }}, \
             \"{HOSTILE}\": {{ hash: \"{HASH}\" }}, {long}: {{ hash: \"{HASH}\" }} }} }} }}\n  routes:\n    \
             - {{ name: hello, host: \"*\", respond: {{ body: hello }}, login: staff }}\n",
            port.addr(),
            kubeconfig.display(),
        );
        let serve = Serve::start_with(&config).await?;
        Ok(Self { serve, port })
    }

    async fn ask(&self, host: &str, authorization: &str) -> Result<Response<Bytes>> {
        let request = Request::get("/")
            .header("host", host)
            .header("authorization", authorization);
        send(self.port.addr(), request.body(Full::default())?).await
    }

    async fn lost(&self, reason: &str) -> Result<f64> {
        let text = self.serve.get("/metrics").await?;
        let name = "comind_proxy_session_events_lost_total";
        value(&text, name, &[("reason", reason)]).context("no such series")
    }
}

/// All Events about our deployment: their reason and note, in the order of their time.
async fn events(api: &KubeApi) -> Result<Vec<Value>> {
    let text = api.request(Method::GET, EVENTS, "").await?;
    let told: Value = serde_json::from_str(&text)?;
    let mut all = told["items"].as_array().context("no list")?.clone();
    all.retain(|event| event["regarding"]["name"] == "proxy");
    all.sort_by_key(|event| event["eventTime"].to_string());
    Ok(all)
}

/// Waits for one with this reason whose note has all of these in it.
async fn until(api: &KubeApi, reason: &str, words: &[&str]) -> Result<Value> {
    wait_for(
        &format!("an Event {reason} with {words:?}"),
        LATER,
        async || {
            let all = events(api).await?;
            let fits = |event: &&Value| {
                let note = event["note"].as_str().unwrap_or_default();
                event["reason"] == reason && words.iter().all(|word| note.contains(word))
            };
            let found = all.iter().find(fits).cloned();
            found.with_context(|| format!("{all:#?}"))
        },
    )
    .await
}

async fn make_deployment(api: &KubeApi) -> Result<String> {
    let object = r#"{"metadata":{"name":"proxy"},"spec":{"selector":{"matchLabels":{"app":"proxy"}},
        "template":{"metadata":{"labels":{"app":"proxy"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}"#;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made: Value = serde_json::from_str(&api.request(Method::POST, path, object).await?)?;
    Ok(made["metadata"]["uid"]
        .as_str()
        .context("no uid")?
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_events_of_our_deployment() -> Result<()> {
    let api = KubeApi::start().await?;
    let uid = make_deployment(&api).await?;
    let told = Told::start(api.kubeconfig()).await?;
    ensure!(told.ask("one.test", ADA).await?.status() == 200);
    let words = ["\"ada\" logged in by staff at \"one.test\"", "127.0.0.1"];
    let event = until(&api, "SessionBegan", &words).await?;
    ensure!(event["regarding"]["uid"] == uid.as_str(), "{event}");
    ensure!(event["regarding"]["kind"] == "Deployment", "{event}");
    ensure!(event["type"] == "Normal", "{event}");

    // Guesses: the first by itself, the others not each.
    for _ in 0..15 {
        ensure!(told.ask("one.test", WRONG).await?.status() == 401);
    }
    let event = until(&api, "LoginRefused", &["login staff", ": wrong"]).await?;
    ensure!(event["type"] == "Warning", "{event}");

    let data = told.serve.data_dir().display().to_string();
    let revoke = ["sessions", "--data-dir", &data, "revoke", "--user", "ada"];
    ensure!(run_to_end(&revoke).await?.0 == 0);
    until(
        &api,
        "SessionEnded",
        &["\"ada\"", "revoked by \"comind-ops sessions\""],
    )
    .await?;

    // Names that would be more than names.
    let named = |name: &str| {
        let pair = format!("{name}:fakepassword");
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Basic {pair}")
    };
    let hostile = "<b>\" logged in by root \u{202e}grof";
    ensure!(told.ask("two.test", &named(hostile)).await?.status() == 200);
    until(
        &api,
        "SessionBegan",
        &["\"<b>' logged in by root \u{fffd}grof\" logged in by staff"],
    )
    .await?;
    let long = "x".repeat(900);
    ensure!(told.ask("two.test", &named(&long)).await?.status() == 200);
    until(&api, "SessionBegan", &[&format!("\"{}…\"", &long[..63])]).await?;

    // The end of the program ends all that are left, and says so: the first, and how many more.
    let mut told = told;
    ensure!(told.ask("three.test", BOB).await?.status() == 200);
    until(&api, "SessionBegan", &["\"bob\""]).await?;
    told.serve.signal(Signal::TERM)?;
    told.serve.until_ended().await?;
    let all = events(&api).await?;
    let with = |reason: &str, word: &str| {
        let all = all.iter().filter(|event| event["reason"] == reason);
        all.filter(|event| {
            event["note"]
                .as_str()
                .is_some_and(|note| note.contains(word))
        })
        .count()
    };
    ensure!(
        with("SessionEnded", "ended: stopped; session") == 1,
        "{all:#?}"
    );
    ensure!(
        with(
            "SessionEnded",
            "2 more sessions of login staff ended: stopped"
        ) == 1,
        "{all:#?}"
    );
    ensure!(
        with(
            "LoginRefused",
            "14 more were not let in by login staff: wrong"
        ) == 1,
        "{all:#?}"
    );
    ensure!(with("LoginRefused", "") == 2, "{all:#?}");
    let text = serde_json::to_string(&all)?;
    hides(
        "the Events",
        &text,
        &["fakepassword", &ADA[6..], &BOB[6..], &WRONG[6..], HASH],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_write_events_is_enough_and_none_harms_nobody() -> Result<()> {
    let api = KubeApi::start().await?;
    make_deployment(&api).await?;
    for account in ["teller", "nobody"] {
        api.make_account(account).await?;
    }
    let nobody = Told::start(&api.kubeconfig_of("nobody").await?).await?;
    ensure!(nobody.ask("one.test", ADA).await?.status() == 200);
    wait_for("the loss to be counted", LATER, async || {
        let lost = nobody.lost("failed").await?;
        ensure!(lost == 1.0, "{lost}");
        Ok(())
    })
    .await?;
    ensure!(events(&api).await?.is_empty());
    ensure!(
        nobody
            .serve
            .log()?
            .contains("Events of sessions cannot be written")
    );

    // As the chart has it.
    let role = r#"{"metadata":{"name":"teller"},
        "rules":[{"apiGroups":["events.k8s.io"],"resources":["events"],"verbs":["create"]}]}"#;
    let path = format!("{ROLES}/namespaces/default/roles");
    api.request(Method::POST, &path, role).await?;
    let binding = r#"{"metadata":{"name":"teller"},
        "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"teller"},
        "subjects":[{"kind":"ServiceAccount","name":"teller","namespace":"default"}]}"#;
    let path = format!("{ROLES}/namespaces/default/rolebindings");
    api.request(Method::POST, &path, binding).await?;
    let teller = Told::start(&api.kubeconfig_of("teller").await?).await?;
    ensure!(teller.ask("one.test", BOB).await?.status() == 200);
    let event = until(&api, "SessionBegan", &["\"bob\""]).await?;
    ensure!(event["regarding"]["uid"].is_null(), "{event}");
    ensure!(teller.lost("failed").await? == 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_makes_no_request_wait() -> Result<()> {
    let mut api = KubeApi::start().await?;
    make_deployment(&api).await?;
    let told = Told::start(api.kubeconfig()).await?;
    ensure!(told.ask("one.test", ADA).await?.status() == 200);
    until(&api, "SessionBegan", &["\"ada\"", "one.test"]).await?;
    api.kill()?;
    for number in 0..5 {
        let host = format!("later-{number}.test");
        ensure!(told.ask(&host, ADA).await?.status() == 200);
    }
    wait_for("the losses to be counted", LATER, async || {
        let lost = told.lost("failed").await?;
        ensure!(lost == 5.0, "{lost}");
        Ok(())
    })
    .await
}
