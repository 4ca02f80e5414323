//! Several clusters at once: contexts of kubeconfigs as kubectl puts them together, each with its hosts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use comind_peers::kube::KubeApi;
use serde_json::Value;

use super::open::{Access, cluster};
use crate::serve::run_to_end;
use crate::web::Web;

/// The peer's kubeconfig with names of its own.
fn kubeconfig(api: &KubeApi, dir: &Path, name: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(api.kubeconfig())?;
    // The user first: a context's name may begin as the user's does.
    let text = text
        .replace("user: admin", &format!("user: {name}"))
        .replace("name: admin", &format!("name: {name}"))
        .replace("name: test", &format!("name: {name}"))
        .replace("cluster: test", &format!("cluster: {name}"))
        .replace("current-context: test", &format!("current-context: {name}"));
    let file = dir.join(format!("{}.kubeconfig", name.replace('/', "-")));
    std::fs::write(&file, text)?;
    Ok(file)
}

async fn serves(access: &Access, host: &str, body: &str) -> Result<()> {
    let answer = access.get(host, "/").await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    ensure!(
        answer.status() == 200 && text == body,
        "{host}: {} {text}",
        answer.status()
    );
    Ok(())
}

fn web_saying(web: &Web, text: &'static str) {
    web.answer(|answer| answer.body = text.to_owned());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_context_has_its_hosts_and_one_that_is_away_harms_no_other() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ((work, mut at_work), (home, mut at_home)) =
        tokio::try_join!(cluster(&["monitoring"]), cluster(&["monitoring"]))?;
    let (web_at_work, web_at_home) = (Web::start(None).await?, Web::start(None).await?);
    web_saying(&web_at_work, "at work");
    web_saying(&web_at_home, "at home");
    let service = ("monitoring", "grafana", "http");
    work.expose(&mut at_work, service, 10, web_at_work.addr())
        .await?;
    home.expose(&mut at_home, service, 10, web_at_home.addr())
        .await?;
    // A file of the list that is not there says nothing.
    let files = [
        dir.path().join("gone"),
        kubeconfig(&work, dir.path(), "admin@work")?,
        kubeconfig(&home, dir.path(), "home")?,
    ];
    let list = std::env::join_paths(&files)?;
    let list = list.to_str().context("an odd path")?;
    let contexts = [
        "--context",
        "admin@work",
        "--context",
        "home",
        "--context",
        "nowhere",
    ];
    let args: Vec<&str> = ["grafana", "prometheus"]
        .into_iter()
        .chain(contexts)
        .collect();
    let access = Access::open(&args, &[("KUBECONFIG", list)])?;
    let (there, none) = ("service".into(), Value::Null);
    access
        .until(("grafana", Some("admin@work")), &there, "")
        .await?;
    access.until(("grafana", Some("home")), &there, "").await?;
    serves(&access, "grafana.admin-work", "at work").await?;
    serves(&access, "grafana.home", "at home").await?;
    // What is not there says why, each in its own context.
    let missing = "there is no service monitoring/prometheus:http";
    access
        .until(("prometheus", Some("home")), &none, missing)
        .await?;
    access
        .until(("grafana", Some("nowhere")), &none, "nowhere")
        .await?;
    the_page_groups_by_context(&access).await?;
    one_goes_away(&access, &work).await?;
    let log = access.log();
    ensure!(log.contains("grafana in home"), "{log}");
    access.close()
}

async fn the_page_groups_by_context(access: &Access) -> Result<()> {
    let answer = access.get("", "/").await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let place = |what: &str| {
        text.find(what)
            .with_context(|| format!("no {what} in {text}"))
    };
    let order = [
        place("<h2>admin@work</h2>")?,
        place("grafana.admin-work.localhost")?,
        place("<h2>home</h2>")?,
        place("prometheus.home.localhost")?,
        place("<h2>nowhere</h2>")?,
    ];
    ensure!(order.is_sorted(), "{order:?}: {text}");
    // A name without its context is nobody's.
    let answer = access.get("grafana", "/").await?;
    ensure!(answer.status() == 404, "{}", answer.status());
    Ok(())
}

/// Its API server takes connections and says nothing any more: the worst way of being away.
async fn one_goes_away(access: &Access, work: &KubeApi) -> Result<()> {
    work.stop_signal()?;
    let away = "service: the cluster's network ";
    let row = ("grafana", Some("admin@work"));
    access.until(row, &Value::Null, away).await?;
    serves(access, "grafana.home", "at home").await?;
    let home = access.row("grafana", Some("home")).await?;
    ensure!(home["way"] == "service", "{home}");
    // What is looked at there goes on in its rhythm: a service that comes is found.
    work.continue_signal()?;
    access.until(row, &"service".into(), "").await?;
    serves(access, "grafana.admin-work", "at work").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_without_ready_pods_says_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (one, two) = tokio::try_join!(KubeApi::start(), KubeApi::start())?;
    for api in [&one, &two] {
        api.make_namespace("monitoring").await?;
    }
    let object = r#"{"metadata":{"name":"grafana"},"spec":{"ports":[{"name":"http","port":80}]}}"#;
    let path = "/api/v1/namespaces/monitoring/services";
    one.request(http::Method::POST, path, object).await?;
    let files = [
        kubeconfig(&one, dir.path(), "one")?,
        kubeconfig(&two, dir.path(), "two")?,
    ];
    let list = std::env::join_paths(&files)?;
    let list = list.to_str().context("an odd path")?;
    let args = ["grafana", "--context", "one", "--context", "two"];
    let access = Access::open(&args, &[("KUBECONFIG", list)])?;
    let none = Value::Null;
    access
        .until(("grafana", Some("one")), &none, "has no pod")
        .await?;
    access
        .until(("grafana", Some("two")), &none, "there is no service")
        .await?;
    let answer = access.get("grafana.one", "/").await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    ensure!(
        answer.status() == 503 && text.contains("has no pod"),
        "{} {text}",
        answer.status()
    );
    // An API server that is gone is said so, and the other one goes on being asked.
    let mut two = two;
    two.kill()?;
    let away = "as far as is known: ";
    access.until(("grafana", Some("two")), &none, away).await?;
    one.request(http::Method::DELETE, &format!("{path}/grafana"), "")
        .await?;
    access
        .until(("grafana", Some("one")), &none, "there is no service")
        .await?;
    access.close()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused() -> Result<()> {
    let twice = ["access", "grafana", "--context", "a", "--context", "a"];
    let whose = [
        "access",
        "--context",
        "a",
        "--context",
        "b",
        "--ingress",
        "127.0.0.1:80",
    ];
    let strange = ["access", "--context", "a", "--ingress", "b=127.0.0.1:80"];
    for (args, said) in [
        (&twice[..], "--context a is there twice"),
        (&whose, "write --ingress a=127.0.0.1:80"),
        (&strange, "name it with --context b as well"),
    ] {
        let (code, text) = run_to_end(args).await?;
        ensure!(code != 0 && text.contains(said), "{args:?}: {code} {text}");
    }
    let args = [
        "access",
        "grafana",
        "argocd",
        "--context",
        "A/b",
        "--context",
        "c",
        "--print-env",
    ];
    let (code, text) = run_to_end(&args).await?;
    let wanted = "GRAFANA_A_B_URL=http://grafana.a-b.localhost:8090/";
    ensure!(
        code == 0 && text.contains(wanted) && !text.contains("ARGOCD_SERVER"),
        "{text}"
    );
    let (_, text) = run_to_end(&["access", "argocd", "--print-env"]).await?;
    ensure!(text.contains("ARGOCD_SERVER=localhost:8090"), "{text}");
    Ok(())
}
