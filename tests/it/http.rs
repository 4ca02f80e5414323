//! Kind `http` against a web server whose answers change, and against MinIO's health page.

use anyhow::{Result, ensure};
use comind_peers::minio::Minio;
use comind_peers::relay::Relay;

use crate::faults;
use crate::serve::{BRISK, SOON, Serve, USUAL};
use crate::web::Web;

#[tokio::test(flavor = "multi_thread")]
async fn statuses_bodies_and_logins() -> Result<()> {
    let web = Web::start(None).await?;
    let addr = web.addr();
    let items = [
        format!("name: any, kind: http, url: \"http://{addr}/health?deep=1\""),
        format!("name: teapot, kind: http, url: \"http://{addr}\", expect_status: [418]"),
        format!(
            "name: text, kind: http, url: \"http://probe:fathom@{addr}\", expect_body: hello, headers: {{ X-Token: lead }}"
        ),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    let target = serve.until_up("any").await?;
    ensure!(target["facts"]["status"] == 200.0, "{target}");
    serve.until_is("teapot", "down", "bad_status").await?;
    serve.until_up("text").await?;

    web.answer(|answer| answer.body = "good bye".to_owned());
    serve.until_is("text", "down", "unexpected_answer").await?;
    for (status, reason) in [
        (500, "bad_status"),
        (401, "wrong_password"),
        (403, "permission_denied"),
    ] {
        web.answer(|answer| answer.status = status);
        serve.until_is("any", "down", reason).await?;
    }
    web.answer(|answer| answer.status = 418);
    serve.until_up("teapot").await?;

    // A server that closes after each answer is no outage, look after look.
    web.answer(|answer| (answer.status, answer.close) = (200, true));
    serve.until_up("any").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    serve.until_looked("any", 5).await?;
    let flaps: Vec<_> = events
        .since()
        .into_iter()
        .filter(|seen| seen.data["target"] == "any")
        .collect();
    ensure!(flaps.is_empty(), "{flaps:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_what_the_config_says() -> Result<()> {
    let web = Web::start(None).await?;
    let addr = web.addr();
    let item = format!(
        "name: text, kind: http, url: \"http://probe:fathom@{addr}\", headers: {{ X-Token: lead }}"
    );
    let serve = Serve::start(BRISK, &[item]).await?;
    serve.until_up("text").await?;
    let asked = web.asked();
    ensure!(
        asked.get("x-token").is_some_and(|value| value == "lead"),
        "{asked:?}"
    );
    let basic = "Basic cHJvYmU6ZmF0aG9t"; // probe:fathom in Base64
    ensure!(
        asked
            .get("authorization")
            .is_some_and(|value| value == basic),
        "{asked:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn faults() -> Result<()> {
    // MinIO's health page stands for any web application.
    let mut minio = Minio::start().await?;
    let relay = Relay::start(minio.addr()).await?;
    let path = "minio/health/live";
    let items = [
        format!(
            "name: direct, kind: http, url: \"http://{}/{path}\"",
            minio.addr()
        ),
        format!(
            "name: relayed, kind: http, url: \"http://{}/{path}\"",
            relay.addr()
        ),
    ];
    let serve = Serve::start(USUAL, &items).await?;
    faults::of_the_way(&serve, "relayed", &relay).await?;
    faults::of_process(&serve, "direct", &mut minio).await
}
