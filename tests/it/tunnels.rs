//! Services of a real cluster from outside: tunnels, what they outlive, what they say; and
//! `comind-ops access`, which finds another way when one is gone.

mod access;
mod chaos;
mod cluster;
mod cut;
mod fallback;
mod load;
mod refused;
mod streams;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::port::Port;
use comind_peers::wait::wait_for;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use self::cluster::Cluster;
use self::load::Load;
use crate::ops::START;
use crate::serve::{LATER, Serve};

/// The program's proxy before the service `web`, by tunnels as this kubeconfig has them.
async fn proxy(port: &Port, kubeconfig: &std::path::Path) -> Result<Serve> {
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  workers: 2\n  \
         tunnels: {{ kubeconfig: {} }}\n  routes:\n    \
         - {{ host: \"*\", upstream: \"service://default/web:http\", rewrite: {{ response: {{ set: {{ x-by: ingress }} }} }}, timeouts: {{ connect: 10s }} }}\n    \
         - {{ host: gone.localhost, respond: {{ status: 404 }} }}\n    \
         - {{ host: \"*\", path: /closed, upstream: \"service://default/web:81\" }}\n    \
         - {{ host: \"*\", path: /nobody, upstream: \"service://default/nobody:80\" }}\n",
        port.addr(),
        kubeconfig.display(),
    );
    let serve = Serve::start_with(&config).await?;
    wait_for("the first answer through a tunnel", LATER, async || {
        good(port).await
    })
    .await?;
    Ok(serve)
}

async fn ask(port: &Port, path: &str) -> Result<Response<Bytes>> {
    send(port.addr(), for_host(path, "localhost")?).await
}

async fn good(port: &Port) -> Result<()> {
    let answer = ask(port, "/count").await?;
    ensure!(
        answer.status() == 200,
        "{}: {}",
        answer.status(),
        String::from_utf8_lossy(answer.body())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_a_cluster_are_reached_from_outside() -> Result<()> {
    let cluster = Cluster::create().await?;
    let port = Port::free()?;
    let serve = proxy(&port, &cluster.admin()).await?;
    for number in 0..200 {
        good(&port)
            .await
            .with_context(|| format!("request {number}"))?;
    }
    a_large_answer_beside_a_websocket(&port).await?;
    a_reset_harms_nobody_else(&port).await?;
    what_is_wrong_is_said(&port).await?;
    a_pod_is_replaced(&cluster, &port).await?;
    refused::without_rights(&cluster).await?;
    the_api_server_goes_and_comes(&cluster, &port).await?;
    chaos::nothing_is_lost(&cluster).await?;
    fallback::one_address_outlives_the_ingress(&cluster, serve, &port).await
}

async fn websocket(port: &Port) -> Result<tokio_tungstenite::WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(port.addr()).await?;
    let (socket, _) = client_async(format!("ws://{}/chat", port.addr()), stream).await?;
    Ok(socket)
}

async fn echoes(socket: &mut tokio_tungstenite::WebSocketStream<TcpStream>) -> Result<()> {
    socket.send(Message::text("hello")).await?;
    let next = tokio::time::timeout(LATER, socket.next()).await?;
    ensure!(next.context("it ended")?? == Message::text("hello"));
    Ok(())
}

/// How large, in bytes.
const LARGE: usize = 64 * 1024 * 1024;

async fn a_large_answer_beside_a_websocket(port: &Port) -> Result<()> {
    let mut socket = websocket(port).await?;
    echoes(&mut socket).await?;
    let addr = port.addr();
    let download = tokio::spawn(async move {
        let mut stream = TcpStream::connect(addr).await?;
        let asked =
            format!("GET /bytes?n={LARGE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        anyhow::Ok(all)
    });
    while !download.is_finished() {
        echoes(&mut socket).await?;
    }
    let all = download.await??;
    let head = all.windows(4).position(|four| four == b"\r\n\r\n");
    let body = &all[head.context("no head")? + 4..];
    ensure!(body.len() == LARGE, "{} bytes", body.len());
    ensure!(body.iter().all(|byte| *byte == b'x'));
    echoes(&mut socket).await
}

async fn a_reset_harms_nobody_else(port: &Port) -> Result<()> {
    let mut socket = websocket(port).await?;
    for _ in 0..20 {
        ensure!(ask(port, "/reset").await.is_err(), "half an answer is none");
        echoes(&mut socket).await?;
        good(port).await?;
    }
    Ok(())
}

async fn what_is_wrong_is_said(port: &Port) -> Result<()> {
    for (path, status, said) in [
        ("/closed", 502, "nothing in the pod listens"),
        ("/nobody", 503, "there is no service default/nobody:80"),
    ] {
        let answer = ask(port, path).await?;
        let text = String::from_utf8_lossy(answer.body());
        ensure!(
            answer.status() == status && text.contains(said),
            "{} {text}",
            answer.status()
        );
    }
    Ok(())
}

async fn a_pod_is_replaced(cluster: &Cluster, port: &Port) -> Result<()> {
    let load = Load::start(port.addr(), "localhost", 6);
    for round in 0..3 {
        let victim = cluster.pods().await?.swap_remove(round % 2);
        cluster
            .ask(&["delete", "pod", &victim, "--wait=true"])
            .await?;
        cluster.rolled_out().await?;
    }
    let asked = load.end().await?;
    ensure!(asked > 50, "only {asked} requests");
    Ok(())
}

async fn the_api_server_goes_and_comes(cluster: &Cluster, port: &Port) -> Result<()> {
    let before = cluster.kill_api_server().await?;
    cluster.another_api_server(&before).await?;
    wait_for("an answer through the new one", START, async || {
        good(port).await
    })
    .await?;
    // Its watches follow again as well.
    a_pod_is_replaced(cluster, port).await
}

/// A request of a browser for a host of ours.
fn for_host(path: &str, host: &str) -> Result<Request<Full<Bytes>>> {
    Ok(Request::get(path)
        .header("host", host)
        .body(Full::default())?)
}

/// How long a fall-back may take that nobody measures.
const PATIENCE: Duration = Duration::from_secs(60);
