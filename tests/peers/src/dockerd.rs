//! A Docker daemon as a peer, beside any other on the machine; needs root.
//!
//! It lives in a process and a mount namespace of its own: when its first
//! process is killed, the kernel takes containerd, all containers and their
//! mounts along. The network is the machine's, so that published ports are on
//! loopback; `docker-proxy` carries them and no packet filter rule is written.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::stream::try_unfold;
use http::{Method, Request, header};
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::http::{exchange, text};
use crate::peer::{Peer, Plan, is_peer, own_file};
use crate::process::Launch;
use crate::tool::Tool;

const DOCKERD: Tool = Tool::debian("dockerd", "docker.io");
const UNSHARE: Tool = Tool::debian("unshare", "util-linux");
const IP: Tool = Tool::debian("ip", "iproute2");
const RUNC: Tool = Tool::debian("runc", "runc");
/// A memory file system hides the machine's containerd, so that ours is
/// started and used, and it holds what must not outlive the daemon: a process
/// id found again from a former namespace would look alive.
const INSIDE: &str =
    "mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd && exec \"$@\"";
/// Where that memory file system is.
const RUN: &str = "/run/containerd";
/// Bytes of an image sent at a time.
const CHUNK: usize = 256 * 1024;

/// A running Docker daemon.
#[derive(Debug)]
pub struct Dockerd {
    peer: Peer,
}

is_peer!(Dockerd);

impl Dockerd {
    /// Starts one without images, and without a default network: containers
    /// need a network made for them, or `none`, or `host`.
    pub async fn start() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "dockerd needs root: run these tests as root"
        );
        let make = async |dir: &Path, _| plan(dir, None);
        let peer = Peer::start("dockerd", None, make).await?;
        Ok(Self { peer })
    }

    /// One with a default network besides, and whose containers may be privileged. The network is the
    /// machine's only one of its kind: tests that have it take turns.
    pub async fn start_for_nodes() -> Result<Self> {
        let make = async |dir: &Path, _| plan(dir, Some(DEFAULT));
        let peer = Peer::start("dockerd", None, make).await?;
        Ok(Self { peer })
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The socket of its API.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("d.sock")
    }

    /// One request to the API, with a JSON body unless it is empty; an error
    /// unless it is answered with 2xx.
    pub async fn request(&self, method: Method, path: &str, body: &str) -> Result<String> {
        let what = format!("{method} {path}");
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)?;
        request_at(&self.socket(), request).await.context(what)
    }

    /// Makes an image of a tar with a root file system. `changes` are lines as
    /// in a Dockerfile (`ENTRYPOINT`, `CMD`, `ENV`, `VOLUME`, …).
    pub(crate) async fn import(&self, tar: &Path, name: &str, changes: &[String]) -> Result<()> {
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([("fromSrc", "-"), ("repo", repository), ("tag", tag)]);
        for change in changes {
            query.append_pair("changes", change);
        }
        let file = tokio::fs::File::open(tar)
            .await
            .with_context(|| format!("could not open {}", tar.display()))?;
        let chunks = try_unfold(file, async |mut file| {
            let mut chunk = vec![0; CHUNK];
            let length = file.read(&mut chunk).await?;
            chunk.truncate(length);
            let frame = Frame::data(Bytes::from(chunk));
            std::io::Result::Ok((length > 0).then_some((frame, file)))
        });
        let request = Request::post(format!("/images/create?{}", query.finish()))
            .header(header::CONTENT_TYPE, "application/x-tar")
            .body(StreamBody::new(Box::pin(chunks)))?;
        let answer = request_at(&self.socket(), request).await?;
        // A failure after the answer has begun is told in its stream only.
        ensure!(
            !answer.contains("\"error\""),
            "dockerd did not take {name}: {answer}"
        );
        Ok(())
    }

    /// Gives an image another name.
    pub async fn tag(&self, from: &str, to: &str) -> Result<()> {
        let (repository, tag) = to.rsplit_once(':').unwrap_or((to, "latest"));
        let path = format!("/images/{from}/tag?repo={repository}&tag={tag}");
        self.request(Method::POST, &path, "").await?;
        Ok(())
    }
}

/// A link of the machine, and its addresses.
const DEFAULT: (&str, &str) = ("comind-docker0", "10.231.250.1/24");

/// What may not be had here cannot be given to a container either; a daemon asks for all that the
/// kernel knows, and containers would not start.
const AS_FAR_AS_MAY_BE: &str = r#"#!/bin/sh
for arg; do
    case $last in --bundle) file=$arg/config.json ;; --process) file=$arg ;; esac
    last=$arg
done
[ -z "$file" ] || sed -i 's/"CAP_SYS_RESOURCE",//g' "$file"
exec RUNC "$@"
"#;

/// Whether this process could have `CAP_SYS_RESOURCE` (24, see capabilities(7)).
fn may_lift_limits() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bound = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bound = u64::from_str_radix(bound.unwrap_or_default().trim(), 16)?;
    Ok(bound & (1 << 24) != 0)
}

fn daemon_json(dir: &Path) -> Result<String> {
    if may_lift_limits()? {
        return Ok("{}".to_owned());
    }
    let runc = RUNC.find()?.display().to_string();
    let script = AS_FAR_AS_MAY_BE.replace("RUNC", &runc);
    let path = own_file(dir, "runc", None, &script)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    let path = path.display();
    Ok(format!(
        r#"{{"runtimes":{{"here":{{"path":"{path}"}}}},"default-runtime":"here"}}"#
    ))
}

fn plan(dir: &Path, default: Option<(&str, &str)>) -> Result<Plan> {
    let place = dir.display();
    let config = match default {
        Some(_) => daemon_json(dir)?,
        None => "{}".to_owned(),
    };
    let config = own_file(dir, "daemon.json", None, &config)?;
    let ip = IP.find()?.display().to_string();
    let bridge = default.map_or("none", |(link, _)| link);
    let before = default.map_or(String::new(), |(link, addresses)| {
        format!(
            "{ip} link delete {link} 2>/dev/null; {ip} link add {link} type bridge && \
             {ip} address add {addresses} dev {link} && {ip} link set {link} up && "
        )
    });
    let mut launch = Launch::new(UNSHARE.find()?, dir)
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", &format!("{before}{INSIDE}"), "dockerd-inside"])
        .arg(DOCKERD.find()?)
        .arg("--config-file")
        .arg(config)
        .arg(format!("--data-root={place}/data"))
        .arg(format!("--exec-root={RUN}/x"))
        .arg(format!("--pidfile={RUN}/pid"))
        .arg(format!("--host=unix://{place}/d.sock"))
        .arg(format!("--bridge={bridge}"))
        .args(["--iptables=false", "--ip6tables=false"])
        .args(["--ip-forward=false", "--ip-masq=false"])
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
        .arg("--log-level=warn");
    // Bridges, and links to containers that were just being made, belong to
    // the machine's network and outlive the daemon.
    let link = default.map_or("comind-none", |(link, _)| link);
    launch.cleanup = format!(
        "for bridge in $(grep -aoE 'br-[0-9a-f]{{12}}' {place}/data/network/files/local-kv.db \
         2>/dev/null | sort -u); do for link in $(ls /sys/class/net/$bridge/brif 2>/dev/null) \
         $bridge; do {ip} link delete $link 2>/dev/null; done; done; \
         {ip} link delete {link} 2>/dev/null; :"
    );
    let socket = dir.join("d.sock");
    Ok(Plan::new(launch, move || {
        let socket = socket.clone();
        async move {
            let request = Request::get("/_ping").body(Full::<Bytes>::default())?;
            request_at(&socket, request).await?;
            Ok(())
        }
    }))
}

async fn request_at<B>(socket: &Path, request: Request<B>) -> Result<String>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("could not connect to {}", socket.display()))?;
    text(&exchange(stream, "docker", request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_at_once_restart_and_gone_when_dropped() -> Result<()> {
        let (mut one, two) = tokio::try_join!(Dockerd::start(), Dockerd::start())?;
        let network = r#"{"Name":"n"}"#;
        for daemon in [&one, &two] {
            daemon
                .request(Method::POST, "/networks/create", network)
                .await?;
        }
        let answer = one.request(Method::GET, "/networks/n", "").await?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let id = answer["Id"].as_str().context("no id")?;
        let bridge = Path::new("/sys/class/net").join(format!("br-{}", &id[..12]));
        assert!(bridge.exists());
        one.kill()?;
        assert!(one.request(Method::GET, "/_ping", "").await.is_err());
        one.restart().await?;
        assert!(bridge.exists());
        one.request(Method::GET, "/networks/n", "").await?;
        let dir = one.dir().to_owned();
        drop(one);
        assert!(!bridge.exists());
        assert!(!dir.exists());
        two.request(Method::GET, "/_ping", "").await?;
        Ok(())
    }
}
