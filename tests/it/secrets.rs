//! No secret is told: not in the log at its most talkative, nor in any answer, whether the
//! secret is right or wrong.

use anyhow::Result;
use comind_peers::elasticmq::ElasticMq;
use comind_peers::minio::Minio;
use comind_peers::postgres::Postgres;
use comind_peers::redis::Redis;

use crate::serve::{BRISK, SOON, Serve, config, hides};
use crate::web::Web;

const RIGHT: &str = "Iechoo7quahr";
const WRONG: &str = "Xaeph3Iequae";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_tells_a_secret() -> Result<()> {
    let (postgres, redis, minio, mq, web) = tokio::try_join!(
        Postgres::builder().password(RIGHT).start(),
        Redis::builder().password(RIGHT).start(),
        Minio::builder().root("keeper", RIGHT).start(),
        ElasticMq::start(),
        Web::start(None),
    )?;
    web.answer(|answer| answer.status = 401);
    let (pg, cache) = (postgres.addr(), redis.addr());
    let (store, mq, web) = (minio.url(), mq.url(), web.addr());
    let mut items = Vec::new();
    for (name, secret) in [("right", RIGHT), ("wrong", WRONG)] {
        items.extend([
            format!("name: pg-{name}, kind: postgresql, url: \"postgres://postgres:{secret}@{pg}/dev\""),
            format!("name: redis-{name}, kind: redis, url: \"redis://:{secret}@{cache}\""),
            format!("name: minio-{name}, kind: minio, url: \"{store}\", access_key: keeper, secret_key: {secret}"),
            format!("name: mq-{name}, kind: elasticmq, url: \"{mq}\", secret_key: {secret}"),
            format!("name: web-{name}, kind: http, url: \"http://me:{secret}@{web}\", headers: {{ X-Token: {secret} }}"),
            format!("name: gone-{name}, kind: http, url: \"http://me:{secret}@127.0.0.1:1/?key={secret}\""),
        ]);
    }
    let mut serve = Serve::start_logging(&config(BRISK, &items), "trace").await?;
    let mut events = serve.events().await?;
    events.snapshot(SOON).await?;
    for kind in ["pg", "redis", "minio"] {
        serve.until_up(&format!("{kind}-right")).await?;
        let wrong = format!("{kind}-wrong");
        serve.until_is(&wrong, "down", "wrong_password").await?;
    }
    for name in ["right", "wrong"] {
        // It takes any key.
        serve.until_up(&format!("mq-{name}")).await?;
        let web = format!("web-{name}");
        serve.until_is(&web, "down", "wrong_password").await?;
        let gone = format!("gone-{name}");
        serve.until_is(&gone, "down", "refused").await?;
    }

    let secrets = [RIGHT, WRONG];
    for path in [
        "/",
        "/page/live",
        "/metrics",
        "/api/v1/state",
        "/readyz",
        "/api/v1/alerts",
        "/api/v1/history",
        "/target/pg-wrong",
        "/target/gone-wrong",
        "/feed.atom",
    ] {
        hides(path, &serve.get(path).await?, &secrets)?;
    }
    hides("the event stream", &format!("{:?}", events.all()), &secrets)?;
    serve.stop()?;
    hides("the log", &serve.log()?, &secrets)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_does_not_tell_them_either() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bad.yaml");
    let bad = [
        format!("name: a, kind: postgresql, url: \"pg://me:{RIGHT}@127.0.0.1/dev\""),
        format!("name: b, kind: redis, url: \"redis://:{RIGHT}@127.0.0.1:x\""),
        format!(
            "name: c, kind: minio, url: \"http://127.0.0.1:1\", access_key: a, secret_kye: {RIGHT}"
        ),
        format!(
            "name: d, kind: http, url: \"http://127.0.0.1:1\", headers: {{ X-Token: [{RIGHT}] }}"
        ),
        format!("name: e, kind: tcp, url: \"tcp://127.0.0.1:1\", colour: \"{RIGHT}\""),
    ];
    let text = config(BRISK, &bad).replace("LISTEN", "127.0.0.1:1");
    std::fs::write(&file, text)?;
    let file = file.to_string_lossy();
    for args in [
        &["serve", "--config"][..],
        &["config", "check"],
        &["--json", "config", "check"],
    ] {
        let (code, said) = crate::serve::run_to_end(&[args, &[&*file]].concat()).await?;
        anyhow::ensure!(code == 78, "{args:?} ended with {code}: {said}");
        hides(&format!("{args:?}"), &said, &[RIGHT])?;
    }
    Ok(())
}
