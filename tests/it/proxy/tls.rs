//! TLS in front of the proxy and behind it, PROXY headers, redirects, and h2spec's judgement.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use comind_peers::nginx::Nginx;
use comind_peers::node::Node;
use comind_peers::port::Port;
use comind_peers::tls::Certificate;
use comind_peers::tool::Tool;

use super::curl::curl;
use crate::secure::{Authority, replace};
use crate::serve::{LATER, Serve, run_to_end, value};

const OPENSSL: Tool = Tool::debian("openssl", "openssl");
const H2SPEC: Tool = Tool::built("h2spec");

/// A folder with what a config names.
pub(super) struct Place {
    dir: tempfile::TempDir,
    pub(super) authority: Authority,
    plain: Port,
    pub(super) tls: Port,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let authority = Authority::new()?;
        authority.write(dir.path())?;
        let place = Self {
            dir,
            authority,
            plain: Port::free()?,
            tls: Port::free()?,
        };
        place.certify("one", &["one.test"])?;
        place.certify("wild", &["*.wild.test"])?;
        Ok(place)
    }

    pub(super) fn certify(&self, name: &str, names: &[&str]) -> Result<()> {
        let pair = self.authority.sign(names)?;
        replace(&self.path(&format!("{name}.key")), &pair.key)?;
        replace(&self.path(&format!("{name}.crt")), &pair.certificate)
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// With `more` in the section `tls`, and these routes.
    pub(super) fn config(&self, more: &str, routes: &str) -> String {
        let (plain, tls, dir) = (
            self.plain.addr(),
            self.tls.addr(),
            self.dir.path().display(),
        );
        format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {plain}\n  tls:\n    listen: {tls}\n    certificates:\n      \
             - {{ cert_file: {dir}/one.crt, key_file: {dir}/one.key }}\n      \
             - {{ cert_file: {dir}/wild.crt, key_file: {dir}/wild.key }}\n{more}\n  routes:\n{routes}"
        )
    }

    async fn ask(&self, host: &str, path: &str, more: &[&str]) -> Result<super::curl::Seen> {
        let authority = self.path("ca.crt").display().to_string();
        let all = [&["--cacert", &authority], more].concat();
        curl(
            self.tls.addr(),
            &format!("https://{host}:{}{path}", self.tls.number()),
            &all,
        )
        .await
    }
}

pub(super) fn to(addr: std::net::SocketAddr) -> String {
    format!("    - {{ host: \"*\", upstream: \"http://{addr}\" }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_chosen_by_name_and_followed() -> Result<()> {
    let node = Node::start().await?;
    let place = Place::new()?;
    let serve = Serve::start_with(&place.config("    hsts: 1d", &to(node.addr()))).await?;
    for (host, version, flag) in [
        ("one.test", "2", "--http2"),
        ("one.test", "1.1", "--http1.1"),
        ("a.wild.test", "2", "--http2"),
    ] {
        let seen = place.ask(host, "/who", &[flag]).await?;
        ensure!(
            seen.status == 200 && seen.version == version,
            "{host}: {seen:?}"
        );
        ensure!(
            seen.head
                .contains("strict-transport-security: max-age=86400"),
            "{seen:?}"
        );
        ensure!(
            seen.body.contains("\"x-forwarded-proto\":\"https\""),
            "{seen:?}"
        );
        ensure!(
            seen.body.contains(&format!("\"host\":\"{host}")),
            "{seen:?}"
        );
    }
    let stranger = place.ask("other.test", "/who", &[]).await?;
    ensure!(
        stranger.status == 0 && stranger.error.contains("other.test"),
        "{stranger:?}"
    );

    // Another certificate counts from now on, a broken one does not.
    place.certify("one", &["one.test", "two.test"])?;
    let waited = comind_peers::wait::wait_for("the new certificate", LATER, async || {
        let seen = place.ask("two.test", "/who", &[]).await?;
        ensure!(seen.status == 200, "{seen:?}");
        Ok(())
    });
    waited.await.map_err(|error| serve.blame(error))?;
    replace(&place.path("one.crt"), "this is no certificate")?;
    let waited = comind_peers::wait::wait_for("the broken one", LATER, async || {
        let log = serve.log()?;
        ensure!(log.contains("the one before stays in force"), "{log}");
        Ok(())
    });
    waited.await?;
    let seen = place.ask("two.test", "/who", &[]).await?;
    ensure!(seen.status == 200, "{seen:?}");
    let metrics = serve.get("/metrics").await?;
    let ends = value(
        &metrics,
        "comind_proxy_certificate_expiry_timestamp_seconds",
        &[],
    );
    ensure!(ends > Some(1.7e9), "{ends:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_local_names_and_client_certificates() -> Result<()> {
    let node = Node::start().await?;
    let place = Place::new()?;
    let more = "    local_authority: true\n    redirect: true";
    let serve = Serve::start_with(&place.config(more, &to(node.addr()))).await?;
    let url = format!("http://one.test:{}/a?b=c", place.plain.number());
    let seen = curl(place.plain.addr(), &url, &[]).await?;
    let wanted = format!("location: https://one.test:{}/a?b=c", place.tls.number());
    ensure!(
        seen.status == 308 && seen.head.contains(&wanted),
        "{seen:?}"
    );

    // The authority of our own signs local names, and says how to believe it.
    let authority = serve
        .data_dir()
        .join("authority/authority.pem")
        .display()
        .to_string();
    let local = format!("https://grafana.localhost:{}/who", place.tls.number());
    let seen = curl(place.tls.addr(), &local, &["--cacert", &authority]).await?;
    ensure!(seen.status == 200, "{seen:?}");
    let (code, told) = run_to_end(&[
        "tls",
        "trust",
        "--data-dir",
        &serve.data_dir().display().to_string(),
    ])
    .await?;
    ensure!(
        code == 0 && told.contains("update-ca-certificates") && told.contains(&authority),
        "{told}"
    );
    let key = std::fs::metadata(serve.data_dir().join("authority/authority.key"))?;
    ensure!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o077 == 0);

    // Everybody must show a certificate of this authority.
    let place = Place::new()?;
    let more = format!("    client_ca_file: {}", place.path("ca.crt").display());
    let _serve = Serve::start_with(&place.config(&more, &to(node.addr()))).await?;
    let nobody = place.ask("one.test", "/who", &[]).await?;
    ensure!(nobody.status == 0, "{nobody:?}");
    place.certify("me", &["me"])?;
    let (cert, key) = (
        place.path("me.crt").display().to_string(),
        place.path("me.key").display().to_string(),
    );
    let me = place
        .ask("one.test", "/who", &["--cert", &cert, "--key", &key])
        .await?;
    ensure!(me.status == 200, "{me:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_headers_in_and_out() -> Result<()> {
    // nginx reads what we write …
    let more = |port: u16| {
        format!(
            "listen 127.0.0.1:{port} proxy_protocol; location /ip {{ return 200 $proxy_protocol_addr; }}"
        )
    };
    for version in [1, 2] {
        let behind = Port::free()?;
        let _nginx = Nginx::start(&[], &more(behind.number())).await?;
        let port = Port::free()?;
        let config = format!(
            "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  trusted: [127.0.0.0/8]\n  proxy_protocol: true\n  routes:\n    \
             - {{ host: \"*\", upstream: \"http://{}\", send_proxy: {version} }}\n",
            port.addr(),
            behind.addr(),
        );
        let _serve = Serve::start_with(&config).await?;
        // … and we read what curl writes.
        let url = format!("http://one.test:{}/ip", port.number());
        let seen = curl(
            port.addr(),
            &url,
            &["--haproxy-protocol", "--haproxy-clientip", "192.0.2.77"],
        )
        .await;
        let seen = match seen {
            Ok(seen) if seen.error.contains("haproxy-clientip") => {
                curl(port.addr(), &url, &["--haproxy-protocol"]).await?
            }
            other => other?,
        };
        ensure!(
            seen.status == 200 && (seen.body == "192.0.2.77" || seen.body == "127.0.0.1"),
            "{version}: {seen:?}"
        );
        let none = curl(port.addr(), &url, &[]).await?;
        ensure!(none.status == 0, "{none:?}");
        let raw = b"PROXY TCP4 192.0.2.9 127.0.0.1 5 6\r\nGET /ip HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = super::witness::exchange(port.addr(), raw).await?;
        ensure!(
            answer.ends_with(b"192.0.2.9"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_towards_upstreams() -> Result<()> {
    let certificate = Certificate::new()?;
    let dir = tempfile::tempdir()?;
    let files = certificate.write(dir.path(), None)?;
    let behind = Port::free()?;
    let server = format!(
        "listen 127.0.0.1:{} ssl http2; ssl_certificate {}; ssl_certificate_key {}; location /v {{ return 200 $server_protocol; }}",
        behind.number(),
        files.certificate.display(),
        files.key.display()
    );
    let _nginx = Nginx::start(&[], &server).await?;
    let port = Port::free()?;
    let at = behind.number();
    let ca = files.authority.display();
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\nproxy:\n  listen: {}\n  routes:\n    \
         - {{ host: good, upstream: \"https://127.0.0.1:{at}\", upstream_tls: {{ ca_file: {ca} }} }}\n    \
         - {{ host: named, upstream: \"https://127.0.0.1:{at}\", upstream_tls: {{ ca_file: {ca}, name: other.test }} }}\n    \
         - {{ host: system, upstream: \"https://127.0.0.1:{at}\" }}\n    \
         - {{ host: blind, upstream: \"https://127.0.0.1:{at}\", upstream_tls: {{ insecure: true }} }}\n",
        port.addr()
    );
    let _serve = Serve::start_with(&config).await?;
    for (host, wanted) in [
        ("good", 200),
        ("named", 502),
        ("system", 502),
        ("blind", 200),
    ] {
        let url = format!("http://{host}:{}/v", port.number());
        let seen = curl(port.addr(), &url, &[]).await?;
        ensure!(seen.status == wanted, "{host}: {seen:?}");
        let what = if wanted == 200 {
            "HTTP/2.0"
        } else {
            "\"reason\":\"tls\""
        };
        ensure!(seen.body.contains(what), "{host}: {seen:?}");
    }
    Ok(())
}

/// The second handshake of a client is a short one, also when the certificates were read anew.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed() -> Result<()> {
    let node = Node::start().await?;
    let place = Place::new()?;
    let serve = Serve::start_with(&place.config("", &to(node.addr()))).await?;
    let session = place.path("session").display().to_string();
    let shake = async |how: &str| {
        let output = tokio::process::Command::new(OPENSSL.find()?)
            .args([
                "s_client",
                "-connect",
                &place.tls.addr().to_string(),
                "-servername",
                "one.test",
            ])
            .args(["-no_tls1_3", how, &session])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let first = shake("-sess_out").await?;
    ensure!(first.contains("New, TLSv1.2"), "{first}");
    let second = shake("-sess_in").await?;
    ensure!(second.contains("Reused, TLSv1.2"), "{second}");
    place.certify("wild", &["*.wild.test", "*.more.test"])?;
    serve
        .until_value("comind_proxy_route_tables_total", &[], |count| count >= 2.0)
        .await?;
    let third = shake("-sess_in").await?;
    ensure!(third.contains("Reused, TLSv1.2"), "{third}");
    Ok(())
}

async fn h2spec(port: u16, more: &[&str], dir: &Path) -> Result<String> {
    let output = tokio::process::Command::new(H2SPEC.find()?)
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-o",
            "5",
            "--max-header-length",
            "16000",
        ])
        .args(more)
        .current_dir(dir)
        .kill_on_drop(true)
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn h2spec_passes() -> Result<()> {
    let nginx = Nginx::start(&[("index.html", b"hello")], "").await?;
    let place = Place::new()?;
    let _serve = Serve::start_with(&place.config("", &to(nginx.addr()))).await?;
    for (port, more) in [
        (place.plain.number(), &[][..]),
        (place.tls.number(), &["-t", "-k"][..]),
    ] {
        let told = h2spec(port, more, place.dir.path()).await?;
        let last = told.lines().rev().find(|line| line.contains("tests,"));
        let last = last.context("no summary")?;
        // Without TLS a preface that is none is HTTP/1, is answered 400 as that, and the connection
        // is closed; h2spec wants it closed without a word.
        let forgiven = told.contains("Sends invalid connection preface");
        let wanted = match more.is_empty() && forgiven {
            true => " 1 failed",
            false => " 0 failed",
        };
        ensure!(last.contains(wanted), "{told}");
    }
    Ok(())
}
