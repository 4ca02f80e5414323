//! Argo CD: page, stream of events, gRPC and its form for browsers at one port, with TLS of its own
//! making or without, by its real command line.

use anyhow::{Result, ensure};
use comind_peers::argocd::{ArgoCd, Cli, PASSWORD, USER};
use comind_peers::chromium::Chromium;
use comind_peers::kube::KubeApi;
use comind_peers::port::Port;
use fantoccini::Client;
use http::Request;

use super::open::{Access, behind, cluster, run};

async fn with_an_application() -> Result<(KubeApi, comind_peers::kube::services::Exposed)> {
    let (api, exposed) = cluster(&[]).await?;
    ArgoCd::prepare(&api).await?;
    api.make_application("shop", "{}").await?;
    Ok((api, exposed))
}

/// What stands in a page's stead: Argo CD's own is not in its Go module.
const PAGE: &str = "/swagger-ui";

#[tokio::test(flavor = "multi_thread")]
async fn its_page_and_its_command_line_work_at_one_port() -> Result<()> {
    all_of_it_works(false).await
}

/// As it comes, Argo CD speaks TLS with a certificate that nobody knows, sends plain requests to HTTPS,
/// and marks its cookie as one for HTTPS.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_it_speaks_tls() -> Result<()> {
    all_of_it_works(true).await
}

async fn all_of_it_works(secure: bool) -> Result<()> {
    let ((api, mut exposed), browser) = tokio::try_join!(with_an_application(), Chromium::start())?;
    let argocd = ArgoCd::start(&api, secure).await?;
    let service = ("argocd", "argocd-server", "http");
    api.expose(&mut exposed, service, 10, argocd.addr()).await?;
    let access = Access::of(api.kubeconfig(), &["argocd"])?;
    access.until_direct("argocd").await?;
    let client = browser.session(1100, 800).await?;
    used_by_a_person(&client, &access, &api).await?;
    client.close().await?;
    called_by_its_command_line(&access.itself()).await?;
    access.close()
}

/// An ingress that leads to it by TLS; who comes through it gets the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_behind_an_ingress() -> Result<()> {
    let (api, _exposed) = with_an_application().await?;
    let secure = ArgoCd::start(&api, true).await?;
    let routes = ["argocd.localhost", "localhost"].map(|host| {
        let upstream = format!("https://{}", secure.addr());
        format!("{{ host: {host}, upstream: \"{upstream}\", upstream_tls: {{ insecure: true }} }}")
    });
    let ingress = Port::free()?;
    let (_serve, access) = behind(&ingress, "argocd", &routes.join(", ")).await?;
    called_by_its_command_line(&access.itself()).await?;
    // The ingress alone, as others reach it.
    called_by_its_command_line(&format!("localhost:{}", ingress.number())).await?;
    let answer = access.get("argocd", "/api/version").await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    access.close()
}

async fn used_by_a_person(client: &Client, access: &Access, api: &KubeApi) -> Result<()> {
    client.goto(&access.url("argocd", PAGE)).await?;
    let url = client.current_url().await?;
    ensure!(
        url.as_str().starts_with(&access.url("argocd", PAGE)),
        "it is at {url}"
    );
    let sign_in = format!(
        "const answer = await fetch('/api/v1/session', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }},
           body: JSON.stringify({{ username: '{USER}', password: '{PASSWORD}' }}) }});
         if (!answer.ok) throw new Error('session: ' + answer.status);
         const who = await (await fetch('/api/v1/session/userinfo')).json();
         return who.loggedIn && who.username"
    );
    ensure!(
        run(client, &sign_in).await? == USER,
        "the cookie does not count"
    );
    // As its list of applications does: what is there, then what changes.
    let begin = "window.seen = [];
        const source = new EventSource('/api/v1/stream/applications');
        source.onmessage = event => seen.push(JSON.parse(event.data).result);
        const opened = new Promise((good, bad) => { source.onopen = good; source.onerror = bad });
        await opened";
    run(client, begin).await?;
    until_seen(client, "shop", "ADDED").await?;
    api.set_application("shop", "Synced", "Healthy").await?;
    until_seen(client, "shop", "MODIFIED").await
}

async fn until_seen(client: &Client, name: &str, kind: &str) -> Result<()> {
    let script = format!(
        "return seen.some(one => one.type === '{kind}' && one.application.metadata.name === '{name}')"
    );
    comind_peers::wait::wait_for(&format!("{name} {kind}"), crate::serve::LATER, async || {
        let seen = run(client, &script).await?;
        ensure!(seen == true, "not seen");
        Ok(())
    })
    .await
}

/// `localhost`, because not every machine's resolver knows the names below it.
async fn called_by_its_command_line(server: &str) -> Result<()> {
    for more in [&["--plaintext"][..], &["--plaintext", "--grpc-web"]] {
        let cli = Cli::new()?;
        let with = |args: &[&'static str]| -> Vec<&'static str> { [args, more].concat() };
        let mut login = vec!["login", server, "--username", USER, "--password", PASSWORD];
        login.extend(more);
        let (_, said) = cli.run(&login).await?;
        // It falls back by itself, and says so.
        ensure!(!said.contains("Failed to invoke grpc"), "{said}");
        let (who, _) = cli.run(&with(&["account", "get-user-info"])).await?;
        ensure!(who.contains("Username: admin"), "{who}");
        let (list, _) = cli.run(&with(&["app", "list", "-o", "name"])).await?;
        ensure!(list.trim() == "argocd/shop", "{list}");
        let (version, _) = cli.run(&with(&["version", "--short"])).await?;
        ensure!(version.contains("argocd-server: v"), "{version}");
    }
    Ok(())
}

/// Calls that lead nowhere get no page.
#[tokio::test(flavor = "multi_thread")]
async fn calls_to_an_access_without_argocd_are_refused() -> Result<()> {
    let access = Access::open(&["grafana", "--kubeconfig", "/nowhere"], &[])?;
    comind_peers::wait::wait_for("the start page", crate::serve::LATER, async || {
        access.get("", "/").await.map(drop)
    })
    .await?;
    let call = Request::post("/session.SessionService/Create");
    let call = call.header("content-type", "application/grpc-web+proto");
    let answer = access.ask("", call, "").await?;
    ensure!(answer.status() == 405, "{}", answer.status());
    access.close()
}
