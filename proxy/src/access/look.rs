//! Looks at one way to a service, once. Every look has a limit and ends in a sentence. Must not judge.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use comind_model::ingress::Cluster;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, Config};
use tokio::net::TcpStream;

use super::choose::Seen;
use crate::tunnel::refusal::chain;
use crate::tunnel::watch;

/// For an answer of the ingress.
const ANSWER: Duration = Duration::from_millis(900);
/// For a connection to a Service: it is near, or not to be reached from here.
const NEAR: Duration = Duration::from_millis(300);
/// For the proof that a network is the cluster's.
const PROOF: Duration = Duration::from_secs(2);

/// Whether the ingress there serves the host.
pub async fn ingress(at: Option<SocketAddr>, host: &str) -> Seen {
    let Some(at) = at else {
        return Err("none is known; --ingress names one".to_owned());
    };
    let asked = tokio::time::timeout(ANSWER, ask(at, host)).await;
    let status = asked.map_err(|_| format!("{at} did not answer within {ANSWER:?}"))??;
    match status {
        // What nobody serves there, and what is served and has nobody behind it.
        StatusCode::NOT_FOUND
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Err(format!("{at} answers {} for {host}", status.as_u16()))
        }
        _ => Ok(format!("{at} serves {host}")),
    }
}

async fn ask(at: SocketAddr, host: &str) -> Result<StatusCode, String> {
    let stream = TcpStream::connect(at).await;
    let stream = stream.map_err(|error| format!("{at}: {error}"))?;
    let told = |error: hyper::Error| format!("{at} does not speak HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let request = Request::get("/")
        .header(HOST, host)
        .header(USER_AGENT, "comind-ops-access")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{host} is no host: {error}"))?;
    let asking = sender.send_request(request);
    tokio::select! {
        answer = asking => Ok(answer.map_err(told)?.status()),
        ended = connection => Err(match ended {
            Ok(()) => format!("{at} closed the connection"),
            Err(error) => told(error),
        }),
    }
}

/// Whether the network of Services is that of the cluster: another one may have the same addresses, and
/// answer there. The API server's address in it has to show a certificate of the cluster.
pub async fn network(cluster: &Cluster) -> Seen {
    let proved = tokio::time::timeout(PROOF, Box::pin(prove(cluster))).await;
    proved.unwrap_or_else(|_| Err("the cluster's network cannot be reached from here".to_owned()))
}

async fn prove(cluster: &Cluster) -> Seen {
    let mut config = watch::config(Some(cluster)).await?;
    if config.accept_invalid_certs {
        return Err(
            "the kubeconfig believes any certificate, so the network proves nothing".to_owned(),
        );
    }
    config.default_retry = false;
    config.connect_timeout = Some(NEAR);
    let client = |config: Config| Client::try_from(config).map_err(|error| chain(&error));
    let services = Api::<Service>::namespaced(client(config.clone())?, "default");
    let asked = services.get("kubernetes").await;
    let asked =
        asked.map_err(|error| format!("the cluster's network is not known: {}", chain(&error)))?;
    let address = asked.spec.and_then(|spec| spec.cluster_ip);
    let address: IpAddr = address
        .and_then(|address| address.parse().ok())
        .ok_or("the cluster's API server has no address inside")?;
    let inside = format!("https://{}/", SocketAddr::new(address, 443));
    config.cluster_url = inside
        .parse()
        .map_err(|error| format!("{inside}: {error}"))?;
    match client(config)?.apiserver_version().await {
        Ok(_) | Err(kube::Error::Api(_)) => Ok("the cluster's network can be reached".to_owned()),
        Err(error) => Err(format!(
            "the cluster's network cannot be reached from here: {}",
            chain(&error)
        )),
    }
}

/// Whether a Service's address can be reached from here, in the network as it was found.
pub async fn service(network: &Seen, address: Option<&(String, u16)>) -> Seen {
    network.clone()?;
    let Some((host, port)) = address else {
        return Err("it has no address of its own".to_owned());
    };
    let place = format!("{host}:{port}");
    match tokio::time::timeout(NEAR, TcpStream::connect((host.as_str(), *port))).await {
        Ok(Ok(_)) => Ok(format!("{place} can be reached from here")),
        Ok(Err(error)) => Err(format!("{place}: {error}")),
        Err(_) => Err(format!("{place} cannot be reached from here")),
    }
}
