//! Upstreams that misbehave, and what the client, the metrics and the next request get.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use comind_peers::http::get;
use comind_peers::nginx::Nginx;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::process::{Launch, Process};
use comind_peers::relay::{Mode, Relay};
use comind_peers::wait::wait_for;

use super::witness::{exchange, proxy_before, status};
use crate::serve::{LATER, Serve, value};

const BRISK: &str = "  timeouts: { connect: 300ms, first_byte: 400ms, idle: 400ms }";

fn ask(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_does_wrong_is_told_as_that() -> Result<()> {
    let node = Node::start().await?;
    let (serve, port) = proxy_before(node.addr(), BRISK).await?;
    for (path, wanted, reason) in [
        ("/silent", 504, "first_byte_timeout"),
        ("/nonsense", 502, "protocol"),
    ] {
        let answer = exchange(port.addr(), &ask(path)).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        ensure!(status(&answer) == Some(wanted), "{path}: {text}");
        ensure!(
            text.contains(&format!("\"reason\":\"{reason}\""))
                && text.contains("\"failed\":\"upstream\""),
            "{path}: {text}"
        );
        let trace = text.split_once("\"trace\":\"").map_or("", |(_, rest)| rest);
        let id = trace.split('"').next().unwrap_or_default();
        ensure!(id.len() == 32, "{path}: its trace is not told: {text}");
        let metrics = serve.get("/metrics").await?;
        let counted = value(
            &metrics,
            "comind_proxy_upstream_errors_total",
            &[("reason", reason)],
        );
        ensure!(counted >= Some(1.0), "{path}: {metrics}");
    }
    // An answer that has begun can only break off: the client must not take it for whole.
    for path in ["/reset", "/short", "/stuck"] {
        let answer = exchange_to_the_end(&port, path).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        ensure!(status(&answer) == Some(200), "{path}: {text}");
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        ensure!(body.len() < 20, "{path}: {text}");
    }
    // What is slow but moves is no fault.
    let answer = exchange_to_the_end(&port, "/slow").await?;
    ensure!(
        answer.ends_with(b"xxxxxxxxxxxxxxxxxxxx"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    for path in ["/close", "/early", "/who"] {
        let answer = exchange(port.addr(), &ask(path)).await?;
        ensure!(
            status(&answer) == Some(200),
            "{path}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

/// Reads until the other side closes.
async fn exchange_to_the_end(port: &Port, path: &str) -> Result<Vec<u8>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(port.addr()).await?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(LATER, stream.read_to_end(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_black_holes_are_told_in_time() -> Result<()> {
    let free = Port::free()?;
    let (_serve, port) = proxy_before(free.addr(), BRISK).await?;
    let answer = exchange(port.addr(), &ask("/")).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    ensure!(
        status(&answer) == Some(502) && text.contains("\"reason\":\"connect\""),
        "{text}"
    );
    let page = exchange(
        port.addr(),
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n",
    )
    .await?;
    let page = String::from_utf8_lossy(&page).into_owned();
    ensure!(
        page.contains("<h1>502") && page.contains("Service"),
        "{page}"
    );

    let node = Node::start().await?;
    let relay = Relay::start(node.addr()).await?;
    let (_serve, port) = proxy_before(relay.addr(), BRISK).await?;
    let answer = exchange(port.addr(), &ask("/")).await?;
    ensure!(
        status(&answer) == Some(200),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    relay.set(Mode::Blackhole).await?;
    let began = Instant::now();
    let answer = exchange(port.addr(), &ask("/")).await?;
    ensure!(
        status(&answer) == Some(504) && began.elapsed() < Duration::from_secs(2),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// Two upstreams, of which one goes: no request fails that can be asked of the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_endpoint_takes_over() -> Result<()> {
    let mut first = Nginx::start(&[("file", b"one")], "").await?;
    let second = Nginx::start(&[("file", b"two")], "").await?;
    let port = Port::free()?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  workers: 1\n  routes:\n    \
         - {{ host: \"*\", name: pair, upstream: [{{ url: \"http://{}\" }}, {{ url: \"http://{}\" }}] }}\n",
        port.addr(),
        first.addr(),
        second.addr(),
    );
    let serve = Serve::start_with(&config).await?;
    let mut came = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..50 {
        *came.entry(get(port.addr(), "/file").await?).or_default() += 1;
    }
    ensure!(came.len() == 2, "{came:?}");
    first.kill()?;
    for number in 0..100 {
        let body = get(port.addr(), "/file").await?;
        ensure!(body == "two", "request {number}: {body}");
    }
    let place = first.addr().to_string();
    let labels = [("endpoint", place.as_str())];
    serve
        .until_value("comind_proxy_endpoint_usable", &labels, |usable| {
            usable == 0.0
        })
        .await?;
    let metrics = serve.get("/metrics").await?;
    ensure!(
        value(&metrics, "comind_proxy_retries_total", &[("route", "pair")]) > Some(0.0),
        "{metrics}"
    );
    first.restart().await?;
    wait_for("the first to be asked again", LATER, async || {
        let body = get(port.addr(), "/file").await?;
        ensure!(body == "one", "{body}");
        Ok(())
    })
    .await
}

/// The collector's look decides before any request has to fail.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_sees_steers() -> Result<()> {
    let mut first = Nginx::start(&[("file", b"one")], "").await?;
    let second = Nginx::start(&[("file", b"two")], "").await?;
    let port = Port::free()?;
    let (one, two) = (first.addr(), second.addr());
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ndefaults: {{ interval: 100ms, timeout: 1s }}\n\
         targets:\n  - {{ name: first, kind: http, url: \"http://{one}/ready\" }}\nproxy:\n  listen: {}\n  workers: 1\n  routes:\n    \
         - {{ host: \"*\", name: pair, upstream: [{{ url: \"http://{one}\", target: first }}, {{ url: \"http://{two}\" }}] }}\n",
        port.addr(),
    );
    let serve = Serve::start_with(&config).await?;
    serve.until_up("first").await?;
    first.kill()?;
    let place = one.to_string();
    let labels = [("endpoint", place.as_str())];
    serve
        .until_value("comind_proxy_endpoint_usable", &labels, |usable| {
            usable == 0.0
        })
        .await?;
    for _ in 0..50 {
        ensure!(get(port.addr(), "/file").await? == "two");
    }
    let metrics = serve.get("/metrics").await?;
    ensure!(
        value(&metrics, "comind_proxy_retries_total", &[("route", "pair")]) == Some(0.0),
        "{metrics}"
    );
    first.restart().await?;
    serve
        .until_value("comind_proxy_endpoint_usable", &labels, |usable| {
            usable == 1.0
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_are_closed() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let node = Node::start().await?;
    let more = "  patience: { head: 1s, idle: 2s, body: 1s, handshake: 1s }";
    let (serve, port) = proxy_before(node.addr(), more).await?;
    let mut slow = tokio::net::TcpStream::connect(port.addr()).await?;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await?;
    let mut idle = tokio::net::TcpStream::connect(port.addr()).await?;
    idle.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    let mut stuck = tokio::net::TcpStream::connect(port.addr()).await?;
    stuck
        .write_all(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        .await?;
    for (name, stream) in [
        ("slow head", &mut slow),
        ("idle", &mut idle),
        ("slow body", &mut stuck),
    ] {
        let mut read = Vec::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut read)).await;
        ensure!(
            ended.is_ok(),
            "{name} is still open; {}",
            String::from_utf8_lossy(&read)
        );
        if name == "slow body" {
            ensure!(
                status(&read) == Some(408),
                "{}",
                String::from_utf8_lossy(&read)
            );
        }
    }
    let metrics = serve.get("/metrics").await?;
    ensure!(
        value(
            &metrics,
            "comind_proxy_refused_total",
            &[("reason", "slow_head")]
        ) == Some(1.0),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() -> Result<()> {
    let node = Node::start().await?;
    let more = "  limits: { requests_per_second: 1, burst: 3, max_body_mib: 1, connections_per_client: 50 }";
    let (serve, port) = proxy_before(node.addr(), more).await?;
    let large = b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n";
    ensure!(status(&exchange(port.addr(), large).await?) == Some(413));
    let mut chunked =
        b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n".to_vec();
    chunked.extend(vec![b'x'; 0x0020_0000]);
    chunked.extend(b"\r\n0\r\n\r\n");
    let answer = exchange(port.addr(), &chunked).await?;
    ensure!(
        status(&answer) == Some(413),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(status(&exchange(port.addr(), &ask("/who")).await?));
    }
    ensure!(statuses.last() == Some(&Some(429)), "{statuses:?}");
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(tokio::net::TcpStream::connect(port.addr()).await?);
    }
    // They wait in the queues of two workers: the next counts once all of them were looked at.
    let of = [("reason", "connections_of_client")];
    serve
        .until_value("comind_proxy_refused_total", &of, |count| count == 10.0)
        .await?;
    let answer = exchange(port.addr(), &ask("/who")).await?;
    ensure!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// A second program on the same port must be told, not share it.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() -> Result<()> {
    let node = Node::start().await?;
    let (_serve, port) = proxy_before(node.addr(), "").await?;
    let dir = tempfile::tempdir()?;
    let other = Port::free()?;
    let file = dir.path().join("c.yaml");
    let config = format!(
        "api: {{ listen: {} }}\ndata_dir: {}\nproxy: {{ listen: {}, routes: [] }}\n",
        other.addr(),
        dir.path().display(),
        port.addr()
    );
    std::fs::write(&file, config)?;
    let launch = Launch::new(crate::serve::PROGRAM.into(), dir.path())
        .args(["serve", "--config"])
        .arg(&file);
    let mut second = Process::spawn(&launch)?;
    let ended = wait_for("its end", LATER, async || {
        second.exited()?.ok_or_else(|| anyhow::anyhow!("it runs"))
    });
    ensure!(ended.await?.code() == Some(1));
    let told = second.log_tail();
    ensure!(
        told.contains(&port.addr().to_string()) && told.contains("ss -ltnp"),
        "{told}"
    );
    Ok(())
}

/// One connection, one who waits: the next is told so at once, and that it may come back.
#[tokio::test(flavor = "multi_thread")]
async fn the_queue_has_an_end() -> Result<()> {
    let node = Node::start().await?;
    let port = Port::free()?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  workers: 1\n  \
         limits: {{ upstream_connections: 1, pending: 1 }}\n  routes:\n    - {{ host: \"*\", upstream: \"http://{}\" }}\n",
        port.addr(),
        node.addr()
    );
    let serve = Serve::start_with(&config).await?;
    let addr = port.addr();
    let ask = move |path: &'static str| {
        tokio::spawn(async move { exchange(addr, &self::ask(path)).await })
    };
    let slow = ask("/slow");
    serve
        .until_value(
            "comind_proxy_requests_in_flight",
            &[("route", "*/")],
            |count| count == 1.0,
        )
        .await?;
    let waits = ask("/who");
    serve
        .until_value(
            "comind_proxy_requests_in_flight",
            &[("route", "*/")],
            |count| count == 2.0,
        )
        .await?;
    let full = String::from_utf8_lossy(&exchange(addr, &self::ask("/who")).await?).into_owned();
    ensure!(
        full.starts_with("HTTP/1.1 503")
            && full.contains("retry-after: 1")
            && full.contains("\"reason\":\"full\""),
        "{full}"
    );
    ensure!(full.contains("\"failed\":\"proxy\""), "{full}");
    ensure!(status(&slow.await??) == Some(200));
    ensure!(status(&waits.await??) == Some(200));
    Ok(())
}

/// What a client does wrong is not held against the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn bad_clients_set_no_endpoint_aside() -> Result<()> {
    let node = Node::start().await?;
    let (serve, port) = proxy_before(node.addr(), "  limits: { max_body_mib: 1 }").await?;
    let mut large =
        b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n".to_vec();
    large.extend(vec![b'x'; 0x0020_0000]);
    for _ in 0..8 {
        let answer = exchange(port.addr(), &large).await?;
        ensure!(
            status(&answer) == Some(413),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let metrics = serve.get("/metrics").await?;
    ensure!(
        value(&metrics, "comind_proxy_endpoint_usable", &[]) == Some(1.0),
        "{metrics}"
    );
    ensure!(
        value(&metrics, "comind_proxy_upstream_errors_total", &[]).is_none(),
        "{metrics}"
    );
    Ok(())
}
