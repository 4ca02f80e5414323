//! Looks at one way to a service, once. Every look has a limit and ends in a sentence. Must not judge.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comind_model::ingress::Cluster;
use http::header::{HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, Config};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::choose::Seen;
use crate::request::strict::split_port;
use crate::tunnel::refusal::chain;
use crate::tunnel::watch;

/// For an answer of the ingress.
const ANSWER: Duration = Duration::from_millis(900);
/// For a connection to a Service: it is near, or not to be reached from here.
const NEAR: Duration = Duration::from_millis(300);
/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// For the proof that a network is the cluster's.
const PROOF: Duration = Duration::from_secs(2);

/// Whether the ingress there serves the host.
pub async fn ingress(at: Option<SocketAddr>, host: &str) -> Seen {
    let Some(at) = at else {
        return Err("none is known; --ingress names one".to_owned());
    };
    let asked = tokio::time::timeout(ANSWER, ask(at, host)).await;
    let (status, headers) =
        asked.map_err(|_| format!("{at} did not answer within {ANSWER:?}"))??;
    match status {
        // What nobody serves there, and what is served and has nobody behind it.
        StatusCode::NOT_FOUND
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            Err(format!("{at} answers {} for {host}", status.as_u16()))
        }
        // A browser that went there would leave our port, and come to nobody.
        _ if leaves(&headers, host) => Err(format!("{at} sends {host} to HTTPS")),
        _ => Ok(format!("{at} serves {host}")),
    }
}

/// Whether an answer sends its client to HTTPS at the same host.
fn leaves(headers: &HeaderMap, host: &str) -> bool {
    let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
    let Some((scheme, rest)) = to.and_then(|to| to.split_once("://")) else {
        return false;
    };
    let there = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = |host| split_port(host).0;
    scheme.eq_ignore_ascii_case("https") && name(there).eq_ignore_ascii_case(name(host))
}

async fn ask(at: SocketAddr, host: &str) -> Result<(StatusCode, HeaderMap), String> {
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
        answer = asking => {
            let (head, _) = answer.map_err(told)?.into_parts();
            Ok((head.status, head.headers))
        }
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

/// Whether a Service's address can be reached from here, in the network as it was found. Gives the
/// connection.
///
/// # Errors
/// Why it cannot.
pub async fn service(
    network: &Seen,
    address: Option<&(String, u16)>,
) -> Result<(String, TcpStream), String> {
    network.clone()?;
    let Some((host, port)) = address else {
        return Err("it has no address of its own".to_owned());
    };
    let place = format!("{host}:{port}");
    match tokio::time::timeout(NEAR, TcpStream::connect((host.as_str(), *port))).await {
        Ok(Ok(stream)) => Ok((format!("{place} can be reached from here"), stream)),
        Ok(Err(error)) => Err(format!("{place}: {error}")),
        Err(_) => Err(format!("{place} cannot be reached from here")),
    }
}

/// Whether TLS is spoken at the other end; None where nobody has answered in time.
pub async fn speaks_tls(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    config: Arc<ClientConfig>,
) -> Option<bool> {
    let name = ServerName::try_from("localhost").ok()?;
    let shaken = TlsConnector::from(config).connect(name, stream);
    let shaken = tokio::time::timeout(HANDSHAKE, shaken).await.ok()?;
    Some(shaken.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_redirect_to_https_at_the_same_host_leaves() {
        let leaves = |to: &'static str| {
            let headers = [(LOCATION, to.parse().unwrap())].into_iter().collect();
            super::leaves(&headers, "argocd.localhost:8090")
        };
        for to in [
            "https://argocd.localhost/",
            "https://argocd.localhost:8090/x",
            "HTTPS://ArgoCD.localhost?x",
        ] {
            assert!(leaves(to), "{to}");
        }
        for to in [
            "/login",
            "http://argocd.localhost:8090/login",
            "https://login.example.org/?to=https://argocd.localhost/",
        ] {
            assert!(!leaves(to), "{to}");
        }
        assert!(!super::leaves(&HeaderMap::new(), "argocd.localhost"));
    }
}
