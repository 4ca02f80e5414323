//! MinIO's console: who signs in there gets a cookie, and its lists of objects come by WebSocket, which
//! the console opens to its own origin only.

use anyhow::{Result, ensure};
use comind_peers::chromium::Chromium;
use comind_peers::minio::Minio;
use comind_peers::port::Port;
use fantoccini::{Client, Locator};
use futures_util::StreamExt as _;
use http::{Method, Request};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::open::{Access, behind, cluster, run, until_said, until_shown};

const USER: &str = "keeper";
const SECRET: &str = "correct-horse";

async fn minio() -> Result<Minio> {
    let minio = Minio::builder()
        .root(USER, SECRET)
        .bucket("box")
        .start()
        .await?;
    minio
        .request(Method::PUT, "/box/kept.txt", "what is kept")
        .await?;
    Ok(minio)
}

async fn sign_in(client: &Client) -> Result<()> {
    for (field, value) in [("#accessKey", USER), ("#secretKey", SECRET)] {
        until_shown(client, field).await?;
        client
            .find(Locator::Css(field))
            .await?
            .send_keys(value)
            .await?;
    }
    client
        .find(Locator::Css("#do-login"))
        .await?
        .click()
        .await?;
    until_said(client, "box").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_works_at_its_host() -> Result<()> {
    let (minio, browser) = tokio::try_join!(minio(), Chromium::start())?;
    let (api, mut exposed) = cluster(&["platform-dev"]).await?;
    let service = ("platform-dev", "minio", "console");
    api.expose(&mut exposed, service, 10, minio.console())
        .await?;
    let access = Access::of(api.kubeconfig(), &["minio"])?;
    access.until_direct("minio").await?;
    let client = browser.session(1100, 800).await?;
    used_by_a_person(&client, &access).await?;
    others_are_not_let_in(&client, &access).await?;
    client.close().await?;
    access.close()
}

/// One that believes to be below a path which a proxy takes away: its addresses begin with that.
#[tokio::test(flavor = "multi_thread")]
async fn the_console_works_below_a_path() -> Result<()> {
    let minio = Minio::builder().root(USER, SECRET).bucket("box").env(
        "MINIO_BROWSER_REDIRECT_URL",
        "http://minio.example.org/minio/ui",
    );
    let (minio, browser) = tokio::try_join!(minio.start(), Chromium::start())?;
    minio.request(Method::PUT, "/box/kept.txt", "v").await?;
    let (api, mut exposed) = cluster(&["platform-dev"]).await?;
    let service = ("platform-dev", "minio", "console");
    api.expose(&mut exposed, service, 10, minio.console())
        .await?;
    let access = Access::of(
        api.kubeconfig(),
        &["minio=platform-dev/minio:console/minio/ui"],
    )?;
    access.until_direct("minio").await?;
    let url = access.row("minio", None).await?["url"].clone();
    ensure!(url == access.url("minio", "/minio/ui/"), "{url}");
    let client = browser.session(1100, 800).await?;
    client.goto(&access.url("minio", "/minio/ui/")).await?;
    sign_in(&client).await?;
    client
        .goto(&access.url("minio", "/minio/ui/browser/box"))
        .await?;
    until_said(&client, "kept.txt").await?;
    client.close().await?;
    access.close()
}

/// The same with an ingress between, which is our own proxy: two of us in a row change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_console_works_behind_an_ingress() -> Result<()> {
    let (minio, browser) = tokio::try_join!(minio(), Chromium::start())?;
    let ingress = Port::free()?;
    let route = format!(
        "{{ host: minio.localhost, upstream: \"http://{}\" }}",
        minio.console()
    );
    let (_serve, access) = behind(&ingress, "minio", &route).await?;
    let client = browser.session(1100, 800).await?;
    used_by_a_person(&client, &access).await?;
    client.close().await?;
    access.close()
}

async fn used_by_a_person(client: &Client, access: &Access) -> Result<()> {
    client.goto(&access.url("minio", "/")).await?;
    sign_in(client).await?;
    // This list comes by WebSocket.
    client.goto(&access.url("minio", "/browser/box")).await?;
    until_said(client, "kept.txt").await?;
    let script = "const form = new FormData();
        // The console takes a part's name for its length.
        form.append('11', new File(['by the page'], 'new.txt'), 'new.txt');
        const sent = await fetch('/api/v1/buckets/box/objects/upload?prefix=new.txt', { method: 'POST', body: form });
        if (!sent.ok) throw new Error('upload: ' + sent.status);
        const got = await fetch('/api/v1/buckets/box/objects/download?prefix=new.txt');
        return got.text()";
    ensure!(run(client, script).await? == "by the page");
    let url = client.current_url().await?;
    ensure!(
        url.as_str().starts_with(&access.url("minio", "/")),
        "it is at {url}"
    );
    Ok(())
}

/// Who comes from a page of another host is refused by the console: we tell it the truth.
async fn others_are_not_let_in(client: &Client, access: &Access) -> Result<()> {
    let cookie = client.get_named_cookie("token").await?.value().to_owned();
    for (origin, is_in) in [
        (access.url("minio", ""), true),
        (access.url("other", ""), false),
    ] {
        let stream = TcpStream::connect(access.addr()).await?;
        let url = format!("ws://{}/ws/objectManager", access.host("minio"));
        let mut request = url.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse()?);
        headers.insert("cookie", format!("token={cookie}").parse()?);
        let opened = client_async(request, stream).await;
        ensure!(opened.is_ok() == is_in, "{origin}: {:?}", opened.err());
        if let Ok((mut socket, _)) = opened {
            socket.close(None).await?;
            while socket.next().await.is_some() {}
        }
    }
    let nobody = access
        .ask("minio", Request::get("/api/v1/session"), "")
        .await?;
    ensure!(nobody.status() == 403, "{}", nobody.status());
    Ok(())
}
