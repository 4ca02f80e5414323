//! TLS, logins and limits of the API: against Prometheus as a client, against promtool as a
//! reader of web config files, and against those who mean no good.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use comind_peers::prometheus::Prometheus;
use comind_peers::wait::wait_for;
use http::{Request, header};
use http_body_util::Full;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::secure::{Authority, Client, replace};
use crate::serve::{LATER, SOON, Serve, run_with_input, value};

/// bcrypt of "fakepassword", cost 10: the example of the exporter toolkit.
const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
/// alice:fakepassword
const ALICE: &str = "Basic YWxpY2U6ZmFrZXBhc3N3b3Jk";
/// alice:wrong
const WRONG: &str = "Basic YWxpY2U6d3Jvbmc=";
const TOKEN: &str = "0123456789abcdef-plumb-line";
const BEARER: &str = "Bearer 0123456789abcdef-plumb-line";

/// A server by TLS with one user and one token, its authority and the folder of its files.
struct Secured {
    serve: Serve,
    authority: Authority,
    dir: TempDir,
    config: String,
}

async fn secured(more: &str, more_tls: &str) -> Result<Secured> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    authority.write(dir.path())?;
    authority.sign(&["127.0.0.1"])?.write(dir.path())?;
    std::fs::write(dir.path().join("token"), TOKEN)?;
    let at = dir.path().display();
    let config = format!(
        "api:\n  listen: \"LISTEN\"\n  \
         tls: {{ cert_file: \"{at}/server.crt\", key_file: \"{at}/server.key\"{more_tls} }}\n  \
         users: {{ alice: \"{HASH}\" }}\n  \
         tokens: [{{ name: robot, token_file: \"{at}/token\" }}]\n{more}\
         targets: []\n"
    );
    let config = config.replace("DIR", &at.to_string());
    let serve = Serve::start_secure(&config).await?;
    Ok(Secured {
        serve,
        authority,
        dir,
        config,
    })
}

impl Secured {
    fn client(&self) -> Result<Client> {
        Client::new(self.serve.addr(), &self.authority, None)
    }

    async fn metrics(&self) -> Result<String> {
        let answer = self.client()?.ask("/metrics", BEARER).await?;
        comind_peers::http::text(&answer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_by_tls_with_a_password_and_with_a_token() -> Result<()> {
    let secured = secured("", "").await?;
    let addr = secured.serve.addr();
    let ca = secured.dir.path().join("ca.crt");
    let job = |name: &str, how: &str| {
        format!(
            "- {{job_name: {name}, scheme: https, tls_config: {{ca_file: '{}'}}, {how}, \
             static_configs: [{{targets: ['{addr}']}}]}}\n",
            ca.display()
        )
    };
    let config = format!(
        "global: {{scrape_interval: 500ms}}\nscrape_configs:\n{}{}{}{}",
        job(
            "password",
            "basic_auth: {username: alice, password: fakepassword}"
        ),
        job(
            "token",
            &format!("authorization: {{credentials: '{TOKEN}'}}")
        ),
        job("wrong", "basic_auth: {username: alice, password: guess}"),
        job("stranger", "honor_labels: false"),
    );
    let prometheus = Prometheus::start(&config, &[]).await?;
    let scraped = wait_for("both to be scraped", LATER, async || {
        for job in ["password", "token"] {
            let samples = format!("scrape_samples_scraped{{job='{job}'}}");
            ensure!(
                prometheus.value(&samples).await? > 10.0,
                "{job}: few samples"
            );
            ensure!(
                prometheus.value(&format!("up{{job='{job}'}}")).await? == 1.0,
                "{job}"
            );
        }
        for job in ["wrong", "stranger"] {
            ensure!(
                prometheus.value(&format!("up{{job='{job}'}}")).await? == 0.0,
                "{job}"
            );
        }
        Ok(())
    });
    scraped.await.map_err(|error| secured.serve.blame(error))?;
    // A scrape that was given up is `up == 0` too, so that who was refused is waited for.
    let metrics = wait_for("what was counted", LATER, async || {
        let metrics = secured.metrics().await?;
        let labels = [("path", "/metrics"), ("status", "2xx")];
        ensure!(
            value(&metrics, "comind_api_requests_total", &labels) > Some(1.0),
            "{metrics}"
        );
        for reason in ["wrong", "missing"] {
            let labels = [("reason", reason)];
            let counted = value(&metrics, "comind_api_auth_failures_total", &labels);
            ensure!(counted >= Some(1.0), "{reason}: {counted:?}");
        }
        Ok(metrics)
    })
    .await?;
    let end = value(
        &metrics,
        "comind_api_certificate_expiry_timestamp_seconds",
        &[],
    );
    ensure!(end > Some(1.8e9), "{end:?}");
    crate::serve::hides(
        "the log",
        &secured.serve.log()?,
        &[TOKEN, HASH, "fakepassword"],
    )?;
    crate::serve::hides(
        "the metrics",
        &metrics,
        &[TOKEN, HASH, "fakepassword", "guess"],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_health_is_told_without_login() -> Result<()> {
    let secured = secured("", "").await?;
    let client = secured.client()?;
    for path in ["/livez", "/readyz"] {
        let answer = client.ask(path, "").await?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
    }
    for path in comind_collector::api::PATHS
        .iter()
        .chain(&["/assets/page.css", "/nothing"])
    {
        if matches!(*path, "/livez" | "/readyz") {
            continue;
        }
        let answer = client.ask(path, "").await?;
        ensure!(answer.status() == 401, "{path}: {}", answer.status());
        let offers: Vec<_> = answer
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .collect();
        ensure!(offers.len() == 2, "{path}: {offers:?}");
    }
    for authorization in [ALICE, BEARER] {
        let answer = client.ask("/api/v1/state", authorization).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let hsts = answer.headers().get(header::STRICT_TRANSPORT_SECURITY);
        ensure!(hsts.is_some(), "no HSTS");
    }
    let answer = client.ask("/api/v1/state", WRONG).await?;
    ensure!(answer.status() == 401, "{}", answer.status());
    // By plain HTTP nothing is told at all.
    let plain = secured.serve.ask("/livez", &[]).await;
    ensure!(plain.is_err(), "answers plain HTTP: {plain:?}");
    // Who is taken out of the config is out at once.
    let without = secured.config.replace("alice", "bob");
    secured.serve.write_config(&without)?;
    wait_for("alice to be out", LATER, async || {
        let answer = client.ask("/api/v1/state", ALICE).await?;
        ensure!(
            answer.status() == 401 || answer.status() == 429,
            "{}",
            answer.status()
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_swapped_under_load_without_a_failed_request() -> Result<()> {
    // The load is as fast as it can be: the limit is not what is tried here.
    let limit = "  rate_limit: { per_second: 1000000, burst: 1000000 }\n";
    let secured = secured(limit, "").await?;
    let client = secured.client()?;
    let stop = Arc::new(AtomicBool::new(false));
    let good = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = [ALICE, BEARER, BEARER]
        .into_iter()
        .map(|authorization| {
            let (client, stop, good) = (client.clone(), stop.clone(), good.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.ask("/api/v1/state", authorization).await?;
                    match answer.status().as_u16() {
                        200 => good.fetch_add(1, Ordering::Relaxed),
                        status => return Err(anyhow!("answered {status}")),
                    };
                    tokio::task::yield_now().await;
                }
                Ok(())
            })
        })
        .collect();
    for swap in 0..20 {
        let before = good.load(Ordering::Relaxed);
        let next = secured.authority.sign(&["127.0.0.1"])?;
        next.write(secured.dir.path())?;
        let wanted = CertificateDer::from_pem_slice(next.certificate.as_bytes())?;
        wait_for("the new certificate and load on it", LATER, async || {
            ensure!(
                client.shown().await? == wanted.as_ref(),
                "swap {swap}: still the old one"
            );
            ensure!(good.load(Ordering::Relaxed) > before + 3, "no load");
            Ok(())
        })
        .await
        .map_err(|error| secured.serve.blame(error))?;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await?.map_err(|error| secured.serve.blame(error))?;
    }
    ensure!(good.load(Ordering::Relaxed) > 100, "little load: {good:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_changes_nothing_and_says_so() -> Result<()> {
    let secured = secured("", "").await?;
    let client = secured.client()?;
    let successful = async |wanted: f64| {
        wait_for("the verdict on the certificate", LATER, async || {
            let metrics = secured.metrics().await?;
            let name = "comind_config_last_reload_successful";
            ensure!(value(&metrics, name, &[]) == Some(wanted), "not {wanted}");
            Ok(())
        })
        .await
        .map_err(|error| secured.serve.blame(error))
    };
    for broken in ["nonsense", "", &secured.authority.pem()] {
        let before = client.shown().await?;
        replace(&secured.dir.path().join("server.crt"), broken)?;
        successful(0.0).await?;
        ensure!(client.shown().await? == before, "the last good one is gone");
        secured
            .authority
            .sign(&["127.0.0.1"])?
            .write(secured.dir.path())?;
        successful(1.0).await?;
        ensure!(
            client.shown().await? != before,
            "the new one is not in force"
        );
    }
    let log = secured.serve.log()?;
    ensure!(log.contains("stays in force"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_their_certificate_are_not_let_in() -> Result<()> {
    let tls = ", client_ca_file: \"DIR/ca.crt\", client_auth: require";
    let secured = secured("", tls).await?;
    let addr = secured.serve.addr();
    let mine = secured.authority.sign(&["robot.test"])?;
    let foreign = Authority::new()?.sign(&["robot.test"])?;
    for (whose, shows) in [("no", None), ("a foreign", Some(&foreign))] {
        let client = Client::new(addr, &secured.authority, shows)?;
        let answer = client.ask("/livez", BEARER).await;
        ensure!(answer.is_err(), "{whose} certificate is good enough");
    }
    let client = Client::new(addr, &secured.authority, Some(&mine))?;
    ensure!(
        client.ask("/api/v1/state", BEARER).await?.status() == 200,
        "not let in"
    );
    // The certificate does not take the place of the login that is asked for as well.
    ensure!(
        client.ask("/api/v1/state", "").await?.status() == 401,
        "let in without login"
    );
    let metrics = comind_peers::http::text(&client.ask("/metrics", BEARER).await?)?;
    let failed = value(
        &metrics,
        "comind_api_handshake_failures_total",
        &[("reason", "failed")],
    );
    ensure!(failed >= Some(2.0), "{failed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_mean_no_good_hold_up_nobody() -> Result<()> {
    let secured = secured("", "").await?;
    let addr = secured.serve.addr();
    let client = secured.client()?;
    // Handshakes that never come.
    let mut stalled = Vec::new();
    for _ in 0..300 {
        stalled.push(TcpStream::connect(addr).await?);
    }
    ensure!(
        client.ask("/api/v1/state", ALICE).await?.status() == 200,
        "held up by silence"
    );
    // Handshakes that are none.
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let mut said = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await;
        ensure!(read.is_ok(), "nonsense is kept waiting");
    }
    // The silent ones are cut off.
    for mut stream in stalled {
        let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 1])).await;
        ensure!(matches!(ended, Ok(Ok(0) | Err(_))), "silence is kept open");
    }
    // Heads and bodies that are too large.
    let head = Request::get("/").header("x-bomb", "x".repeat(64 << 10));
    let (answer, _) = client.send(head.body(Full::default())?).await?;
    ensure!(answer.status() == 431, "{}", answer.status());
    let mut head = Request::get("/");
    for number in 0..200 {
        head = head.header(format!("x-{number}"), "x");
    }
    let (answer, _) = client.send(head.body(Full::default())?).await?;
    ensure!(answer.status() == 431, "{}", answer.status());
    let body = Request::get("/api/v1/state")
        .header(header::HOST, "h")
        .header(header::AUTHORIZATION, BEARER)
        .body(Full::new(Bytes::from(vec![0; 100 << 10])))?;
    // The refusal may come while the body is still written, and then the writing fails first.
    match client.send(body).await {
        Ok((answer, _)) => ensure!(answer.status() == 413, "{}", answer.status()),
        Err(error) => ensure!(format!("{error:#}").contains("Broken pipe"), "{error:#}"),
    }
    // Whoever was let in stays in while others guess. (Asked here, as a reading of the config in
    // between, such as one right after the start, forgets who was let in.)
    ensure!(
        client.ask("/api/v1/state", ALICE).await?.status() == 200,
        "alice is not let in"
    );
    // Guesses.
    let mut statuses = Vec::new();
    for guess in 0..30 {
        let authorization = format!("Bearer guess-number-{guess}");
        let answer = client.ask("/", &authorization).await?;
        if answer.status() == 429 {
            ensure!(
                answer.headers().contains_key(header::RETRY_AFTER),
                "no Retry-After"
            );
        }
        statuses.push(answer.status().as_u16());
    }
    ensure!(
        statuses.contains(&401) && statuses.contains(&429),
        "{statuses:?}"
    );
    ensure!(
        client.ask("/api/v1/state", ALICE).await?.status() == 200,
        "alice is locked out"
    );
    let metrics = secured.metrics().await?;
    let slow = value(
        &metrics,
        "comind_api_handshake_failures_total",
        &[("reason", "too_slow")],
    );
    ensure!(slow >= Some(300.0), "{slow:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_back() -> Result<()> {
    let config =
        "api: { listen: \"LISTEN\", rate_limit: { per_second: 1, burst: 20 } }\ntargets: []\n";
    let serve = Serve::start_with(config).await?;
    let mut last = None;
    for _ in 0..40 {
        last = Some(serve.ask("/api/v1/state", &[]).await?);
    }
    let last = last.context("not asked")?;
    ensure!(last.status() == 429, "{}", last.status());
    let wait = last
        .headers()
        .get(header::RETRY_AFTER)
        .context("no Retry-After")?;
    let wait: u64 = wait.to_str()?.parse()?;
    ensure!((1..=3).contains(&wait), "{wait}");
    // A kubelet is never told to come back.
    for _ in 0..40 {
        ensure!(serve.ask("/livez", &[]).await?.status() == 200, "not alive");
    }
    wait_for("a second to pass", LATER, async || {
        serve.get("/api/v1/state").await
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_config_file_of_prometheus_is_read_as_promtool_reads_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    authority.write(dir.path())?;
    authority.sign(&["127.0.0.1"])?.write(dir.path())?;
    let tls = "cert_file: server.crt, key_file: server.key";
    let good = [
        format!("basic_auth_users: {{ alice: {HASH} }}\n"),
        format!("tls_server_config: {{ {tls} }}\nhttp_server_config: {{ http2: false }}\n"),
        format!(
            "tls_server_config: {{ {tls}, min_version: TLS13, curve_preferences: [X25519, CurveP256] }}\n"
        ),
        format!(
            "tls_server_config: {{ {tls}, max_version: TLS12, prefer_server_cipher_suites: false, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256] }}\n"
        ),
        format!(
            "tls_server_config: {{ {tls}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt }}\n"
        ),
        format!(
            "tls_server_config: {{ {tls} }}\nhttp_server_config: {{ headers: {{ X-Frame-Options: deny, Strict-Transport-Security: max-age=1 }} }}\n"
        ),
    ];
    let bad = [
        "basic_auth_user: {}\n".to_owned(),
        "tls_server_config: { cert_file: server.crt }\n".to_owned(),
        "tls_server_config: { cert_file: none.crt, key_file: server.key }\n".to_owned(),
        "tls_server_config: { cert_file: server.key, key_file: server.crt }\n".to_owned(),
        format!("tls_server_config: {{ {tls}, client_ca_file: ca.crt }}\n"),
        format!("tls_server_config: {{ {tls}, client_auth_type: Maybe }}\n"),
        format!("tls_server_config: {{ {tls}, min_version: TLS9 }}\n"),
        format!("tls_server_config: {{ {tls}, curve_preferences: [CurveP1] }}\n"),
        format!(
            "tls_server_config: {{ {tls} }}\nhttp_server_config: {{ headers: {{ Server: x }} }}\n"
        ),
    ];
    let cases = good.iter().map(|text| (text, true));
    for (text, takes) in cases.chain(bad.iter().map(|text| (text, false))) {
        let theirs = promtool_takes(dir.path(), text).await?;
        ensure!(theirs == takes, "promtool says {theirs}: {text}");
        let config = dir.path().join("comind.yaml");
        std::fs::write(&config, "api: { web_config_file: web.yml }\ntargets: []\n")?;
        let config = config.display().to_string();
        let (code, said) = crate::serve::run_to_end(&["config", "check", &config]).await?;
        ensure!((code == 0) == takes, "we say {code}: {text}{said}");
        ensure!(takes || said.contains("web.yml"), "no place: {text}{said}");
    }
    // And one of them serves, with what it demands.
    std::fs::write(
        dir.path().join("web.yml"),
        format!("{}{}", good[0], good[5]),
    )?;
    let config = format!(
        "api: {{ listen: \"LISTEN\", web_config_file: \"{}/web.yml\" }}\ntargets: []\n",
        dir.path().display()
    );
    let serve = Serve::start_secure(&config).await?;
    let client = Client::new(serve.addr(), &authority, None)?;
    ensure!(client.ask("/", "").await?.status() == 401, "no login");
    let answer = client.ask("/", ALICE).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    ensure!(
        answer.headers()[header::STRICT_TRANSPORT_SECURITY] == "max-age=1",
        "{answer:?}"
    );
    ensure!(
        answer.headers()[header::X_FRAME_OPTIONS] == "deny",
        "{answer:?}"
    );
    Ok(())
}

async fn promtool_takes(dir: &Path, text: &str) -> Result<bool> {
    let file = dir.join("web.yml");
    std::fs::write(&file, text)?;
    let mut promtool = tokio::process::Command::new("promtool");
    promtool
        .args(["check", "web-config"])
        .arg(&file)
        .kill_on_drop(true);
    let ended = tokio::time::timeout(LATER, promtool.output()).await;
    let output = ended
        .context("promtool did not end")?
        .context("promtool is missing: apt-get install prometheus")?;
    Ok(output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_that_are_made_let_in() -> Result<()> {
    for args in [&["hash-password"][..], &["hash-password", "--argon2"]] {
        let (code, hash) = run_with_input(args, "fakepassword\n").await?;
        ensure!(code == 0, "{hash}");
        let hash = hash.trim();
        ensure!(!hash.contains("fakepassword"), "{hash}");
        let config =
            format!("api: {{ listen: \"LISTEN\", users: {{ alice: '{hash}' }} }}\ntargets: []\n");
        let serve = Serve::start_with(&config).await?;
        let asked = async |authorization: &str| {
            let answer = serve.ask("/", &[("authorization", authorization)]).await?;
            Ok::<_, anyhow::Error>(answer.status().as_u16())
        };
        ensure!(asked(ALICE).await? == 200, "{args:?}: not let in");
        ensure!(asked(WRONG).await? == 401, "{args:?}: anybody is let in");
    }
    let (code, said) = run_with_input(&["hash-password"], "").await?;
    ensure!(code == 1 && said.contains("empty"), "{code}: {said}");
    Ok(())
}
