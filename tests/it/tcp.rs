//! Kind `tcp` against a real Redis, which answers in plain text.

use anyhow::Result;
use comind_peers::port::Port;
use comind_peers::redis::Redis;
use comind_peers::relay::{Mode, Relay};

use crate::serve::{BRISK, Serve};

#[tokio::test(flavor = "multi_thread")]
async fn banners() -> Result<()> {
    let redis = Redis::start().await?;
    let relay = Relay::start(redis.addr()).await?;
    let (addr, by_relay, nobody) = (redis.addr(), relay.addr(), Port::free()?);
    let items = [
        format!("name: open, kind: tcp, url: \"tcp://{by_relay}\""),
        format!(
            "name: pong, kind: tcp, url: \"tcp://{addr}\", send: \"PING\\r\\n\", expect: \"+PONG\""
        ),
        format!(
            "name: other, kind: tcp, url: \"tcp://{addr}\", send: \"QUIT\\r\\n\", expect: \"+PONG\""
        ),
        format!("name: mute, kind: tcp, url: \"tcp://{addr}\", expect: \"+PONG\""),
        format!("name: nobody, kind: tcp, url: \"tcp://{}\"", nobody.addr()),
        "name: nowhere, kind: tcp, url: \"tcp://nowhere.invalid:80\"".to_owned(),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("open").await?;
    serve.until_up("pong").await?;
    serve.until_is("other", "down", "unexpected_answer").await?;
    serve.until_is("mute", "down", "timeout").await?;
    serve.until_is("nobody", "down", "refused").await?;
    serve.until_is("nowhere", "down", "dns_failure").await?;
    relay.set(Mode::Refuse).await?;
    serve.until_is("open", "down", "refused").await?;
    relay.set(Mode::Pass).await?;
    serve.until_up("open").await?;
    Ok(())
}
