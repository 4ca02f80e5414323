//! Kind `dns` against a small name server.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use comind_peers::port::Port;

use crate::names::Names;
use crate::serve::{BRISK, LATER, Serve};

#[tokio::test(flavor = "multi_thread")]
async fn answers() -> Result<()> {
    let names = Names::start().await?;
    let (addr, nobody) = (names.addr(), Port::free()?);
    let items = [
        format!("name: any, kind: dns, url: \"dns://{addr}\", query: shop.test"),
        format!(
            "name: right, kind: dns, url: \"dns://{addr}\", query: shop.test, expect: 192.0.2.7"
        ),
        format!("name: missing, kind: dns, url: \"dns://{addr}\", query: stall.test"),
        format!(
            "name: nobody, kind: dns, url: \"dns://{}\", query: shop.test",
            nobody.addr()
        ),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    let target = serve.until_up("any").await?;
    ensure!(target["facts"]["answer"] == "192.0.2.7", "{target}");
    serve.until_up("right").await?;
    serve
        .until_is("missing", "down", "unexpected_answer")
        .await?;
    let down = |target: &serde_json::Value| target["health"] == "down";
    serve.until("nobody", "down", LATER, down).await?;
    names.set(Ipv4Addr::new(192, 0, 2, 8));
    serve.until_is("right", "down", "unexpected_answer").await?;
    names.set(Ipv4Addr::new(192, 0, 2, 7));
    serve.until_up("right").await?;
    Ok(())
}
