//! What a proxy has to carry, between real programs: WebSockets, events, gRPC, large bodies,
//! trailers, and what happens when one side goes.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use comind_peers::http::{get, send};
use comind_peers::kube::Etcd;
use comind_peers::minio::Minio;
use comind_peers::nginx::Nginx;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::prometheus::Prometheus;
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::sockets::WebSocket;
use super::witness::{exchange, proxy_before};
use crate::serve::{LATER, Serve, run_to_end, value};

const HEALTH_PROBE: Tool = Tool::built("grpc-health-probe");
const ETCDCTL: Tool = Tool::debian("etcdctl", "etcd-client");

async fn before(node: &Node) -> Result<(Serve, Port)> {
    proxy_before(node.addr(), "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_are_carried_as_bytes() -> Result<()> {
    let node = Node::start().await?;
    let (serve, port) = before(&node).await?;
    let mut socket = WebSocket::open(port.addr(), "/chat").await?;
    let long = "x".repeat(200_000);
    for text in ["hello", "", &long] {
        socket.send(text).await?;
        ensure!(
            socket.receive().await? == text,
            "{} bytes came back otherwise",
            text.len()
        );
    }
    let metrics = serve.get("/metrics").await?;
    ensure!(
        value(&metrics, "comind_proxy_tunnels", &[]) == Some(1.0),
        "{metrics}"
    );
    drop(socket);
    serve
        .until_value("comind_proxy_tunnels", &[], |open| open == 0.0)
        .await?;

    // What the upstream does not want, or answers with something else, is told as it is.
    let refused = exchange(port.addr(), &WebSocket::head("/refused")).await?;
    ensure!(
        refused.starts_with(b"HTTP/1.1 403"),
        "{}",
        String::from_utf8_lossy(&refused)
    );
    let other = exchange(port.addr(), &WebSocket::head("/other")).await?;
    ensure!(
        other.starts_with(b"HTTP/1.1 502"),
        "{}",
        String::from_utf8_lossy(&other)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_one_by_one_and_a_client_that_goes_ends_them() -> Result<()> {
    let node = Node::start().await?;
    let (_serve, port) = before(&node).await?;
    let mut stream = TcpStream::connect(port.addr()).await?;
    stream
        .write_all(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        .await?;
    let mut lines = BufReader::new(stream).lines();
    let mut came = Vec::new();
    while came.len() < 5 {
        let line = tokio::time::timeout(LATER, lines.next_line()).await??;
        let line = line.context("it ended")?;
        if let Some(number) = line.strip_prefix("data: ") {
            came.push(number.to_owned());
        }
    }
    ensure!(came == ["0", "1", "2", "3", "4"], "{came:?}");
    drop(lines);
    until_aborted(&node, 1).await
}

/// Waits until the upstream has noticed so many clients that went.
async fn until_aborted(node: &Node, count: u32) -> Result<()> {
    wait_for("the upstream to notice", LATER, async || {
        let aborted: u32 = get(node.addr(), "/aborted").await?.parse()?;
        ensure!(aborted >= count, "{aborted}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_ends_what_it_asked_for() -> Result<()> {
    let node = Node::start().await?;
    let (_serve, port) = before(&node).await?;
    // While the answer is waited for …
    let mut stream = TcpStream::connect(port.addr()).await?;
    stream
        .write_all(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    tokio::time::timeout(Duration::from_millis(200), stream.read_u8())
        .await
        .expect_err("nobody answers");
    drop(stream);
    until_aborted(&node, 1).await?;
    // … while it is read …
    let mut stream = TcpStream::connect(port.addr()).await?;
    stream
        .write_all(b"GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    stream.read_exact(&mut [0; 1000]).await?;
    drop(stream);
    until_aborted(&node, 2).await?;
    // … and while the body is sent.
    let mut stream = TcpStream::connect(port.addr()).await?;
    stream
        .write_all(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
        .await?;
    tokio::time::timeout(Duration::from_millis(200), stream.read_u8())
        .await
        .expect_err("nobody answers");
    drop(stream);
    until_aborted(&node, 3).await
}

async fn ask(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<http::Response<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "a");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(addr, request.body(Full::new(body))?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_stream_both_ways_in_little_memory() -> Result<()> {
    let node = Node::start().await?;
    let (serve, port) = before(&node).await?;
    let size = 50_000_000;
    let body = Bytes::from(vec![b'y'; size]);
    let answer = ask(
        port.addr(),
        Method::PUT,
        "/count",
        &[("expect", "100-continue")],
        body,
    )
    .await?;
    let counted: serde_json::Value = serde_json::from_slice(answer.body())?;
    ensure!(
        counted["length"] == size && counted["method"] == "PUT",
        "{counted}"
    );
    ensure!(counted["headers"]["expect"].is_null(), "{counted}");

    // A reader that does not read: what waits for it stays bounded.
    let resident = || memory(serve.pid().as_raw_nonzero().get());
    let before = resident()?;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(port.addr()).await?;
        stream
            .write_all(b"GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        stream.read_u8().await?;
        streams.push(stream);
    }
    let head = b"GET /bytes?n=20000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let read = exchange(port.addr(), head).await?.len();
    ensure!(read > 20_000_000, "{read}");
    let grown = resident()?.saturating_sub(before);
    ensure!(
        grown < 60 * 1024 * 1024,
        "{grown} bytes more for eight readers that do not read"
    );
    Ok(())
}

/// Resident memory in bytes.
fn memory(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = text.split(' ').nth(1).context("no second word")?.parse()?;
    Ok(pages * 4096)
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_ranges_trailers_and_identity() -> Result<()> {
    let node = Node::start().await?;
    let (_serve, port) = before(&node).await?;
    let head = ask(
        port.addr(),
        Method::HEAD,
        "/bytes?n=1234",
        &[],
        Bytes::new(),
    )
    .await?;
    ensure!(
        head.headers()["content-length"] == "1234" && head.body().is_empty(),
        "{head:?}"
    );

    let trailers = b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    let answer = String::from_utf8(exchange(port.addr(), trailers).await?)?;
    ensure!(answer.contains("\r\n0\r\nx-sum: 42\r\n"), "{answer}");

    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = ask(
        port.addr(),
        Method::GET,
        "/who?x=%2F",
        &[("traceparent", parent), ("x-forwarded-for", "6.6.6.6")],
        Bytes::new(),
    )
    .await?;
    let told: serde_json::Value = serde_json::from_slice(answer.body())?;
    let header = |name: &str| {
        told["headers"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    ensure!(told["url"] == "/who?x=%2F", "{told}");
    ensure!(
        header("x-forwarded-for") == "127.0.0.1" && header("x-forwarded-proto") == "http",
        "{told}"
    );
    ensure!(
        header("forwarded") == "for=127.0.0.1;proto=http" && header("host") == "a",
        "{told}"
    );
    ensure!(
        header("traceparent").starts_with(&parent[..36]) && header("traceparent") != parent,
        "{told}"
    );

    let nginx = Nginx::start(&[("file", b"0123456789")], "").await?;
    let (_serve, port) = proxy_before(nginx.addr(), "").await?;
    let part = ask(
        port.addr(),
        Method::GET,
        "/file",
        &[("range", "bytes=2-4")],
        Bytes::new(),
    )
    .await?;
    ensure!(
        part.status() == StatusCode::PARTIAL_CONTENT && part.body() == "234",
        "{part:?}"
    );
    let tag = part.headers()["etag"].to_str()?.to_owned();
    let same = ask(
        port.addr(),
        Method::GET,
        "/file",
        &[("if-none-match", &tag)],
        Bytes::new(),
    )
    .await?;
    ensure!(
        same.status() == StatusCode::NOT_MODIFIED && same.body().is_empty(),
        "{same:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_with_its_own_client() -> Result<()> {
    grpc_before("h2c").await.map(drop)
}

/// One port for both, as Argo CD has it: gRPC is HTTP/2 whatever the rest is.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_and_plain_requests_at_one_port() -> Result<()> {
    let (port, _kept) = grpc_before("http").await?;
    for _ in 0..3 {
        let health = get(port.addr(), "/health").await?;
        ensure!(health.contains("\"health\":\"true\""), "{health}");
    }
    Ok(())
}

/// A proxy before etcd that has carried its client's calls; it and etcd go on while they are kept.
async fn grpc_before(scheme: &str) -> Result<(Port, (Serve, Etcd))> {
    let etcd = Etcd::start().await?;
    let port = Port::free()?;
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  routes:\n    - {{ host: \"*\", upstream: \"{scheme}://{}\" }}\n",
        port.addr(),
        etcd.addr()
    );
    let serve = Serve::start_with(&config).await?;
    let etcdctl = ETCDCTL.find()?;
    let command = |args: &[&str]| {
        let mut command = tokio::process::Command::new(&etcdctl);
        let endpoint = format!("--endpoints=http://{}", port.addr());
        command
            .arg(endpoint)
            .args(args)
            .env("ETCDCTL_API", "3")
            .kill_on_drop(true)
            .stdin(Stdio::null());
        command
    };
    // The standard health service, as Kubernetes and load balancers ask it.
    let probe = tokio::process::Command::new(HEALTH_PROBE.find()?)
        .arg(format!("-addr={}", port.addr()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let told = String::from_utf8_lossy(&probe.stderr).into_owned();
    ensure!(
        probe.status.success() && told.contains("SERVING"),
        "{probe:?}"
    );
    // A stream of answers, which stays open while other calls are made.
    let mut watch = command(&["watch", "key"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
    let mut number = 0;
    let seen = wait_for("the watch", LATER, async || {
        number += 1;
        let put = command(&["put", "key", &format!("value-{number}")])
            .output()
            .await?;
        ensure!(put.status.success(), "{put:?}");
        let line = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await??;
        line.context("the watch ended")
    });
    ensure!(seen.await? == "PUT");
    let got = command(&["get", "key", "--print-value-only"])
        .output()
        .await?;
    ensure!(
        String::from_utf8_lossy(&got.stdout).starts_with("value-"),
        "{got:?}"
    );
    // An error comes as trailers alone.
    let wrong = command(&["lease", "revoke", "1234"]).output().await?;
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(
        !wrong.status.success() && told.contains("requested lease not found"),
        "{told}"
    );
    let health = command(&["endpoint", "health"]).output().await?;
    ensure!(health.status.success(), "{health:?}");
    Ok((port, (serve, etcd)))
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_and_prometheus_behind_it() -> Result<()> {
    let minio = Minio::builder().bucket("reports").start().await?;
    let (_serve, port) = proxy_before(minio.addr(), "").await?;
    // Signed for the host that was asked for, and so it must arrive.
    let url = format!("http://{}", port.addr());
    let (code, told) = run_to_end(&[
        "probe",
        "minio",
        &url,
        "--set",
        "access_key=minioadmin",
        "--set",
        "secret_key=minioadmin",
    ])
    .await?;
    ensure!(code == 0, "{told}");

    let prometheus = Prometheus::start("scrape_configs: []\n", &[]).await?;
    let (_serve, port) = proxy_before(prometheus.addr(), "").await?;
    let answer = get(port.addr(), "/api/v1/query?query=1%2B1").await?;
    ensure!(answer.contains("\"2\""), "{answer}");
    let page = get(port.addr(), "/classic/graph").await?;
    ensure!(page.contains("Prometheus"), "{page}");
    Ok(())
}
