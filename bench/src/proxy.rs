//! The ingress proxy beside nginx and HAProxy: one worker each, all pinned to one core; load and
//! backend share the other. On two cores only ratios mean something: the load's own core is as
//! full as the proxy's. Each rival is configured as its manual has it for speed: HTTP/1.1 and
//! keep-alive to the backend, no access log, forwarded headers set. Ours runs with routing,
//! limits and metrics on, as always.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::port::Port;
use comind_peers::tls::Certificate;
use comind_peers::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::figures::{Samples, cell, print};
use crate::subject::program;

/// The core of the proxies, and that of load and backend.
const PROXY_CORE: &str = "0";
const LOAD_CORE: &str = "1";
/// How often each measurement is made, the rivals in turn; the middle one counts.
const ROUNDS: usize = 3;

/// A body, by its name and its size in bytes.
const BODIES: [(&str, usize); 4] = [
    ("0", 0),
    ("1k", 1024),
    ("64k", 64 * 1024),
    ("10m", 10 * 1024 * 1024),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spoken {
    H1,
    H1Tls,
    H2Tls,
}

impl Spoken {
    fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H1Tls => "h1 TLS",
            Self::H2Tls => "h2 TLS",
        }
    }
}

/// A running server, ended with all that it has started when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // A worker of nginx outlives a parent that is killed.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A proxy under measurement.
struct Rival {
    name: &'static str,
    server: Server,
    plain: Port,
    tls: Port,
}

impl Rival {
    /// The process that works: of nginx the worker.
    fn pid(&self) -> Result<u32> {
        let parent = self.server.0.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        Ok(children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .unwrap_or(parent))
    }
}

/// What one measurement says.
#[derive(Clone, Copy, Debug)]
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    /// Of the proxy, in microseconds a request.
    cpu: f64,
}

/// Measures everything; `seconds` for each measurement.
pub(crate) async fn run(seconds: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let backend = start_backend(&dir).await?;
    let rivals = start_rivals(&dir, backend.1.addr()).await?;
    for connections in [16, 512] {
        for (body, size) in BODIES {
            for spoken in [Spoken::H1, Spoken::H1Tls, Spoken::H2Tls] {
                // 5 GiB under way at once would measure the machine's memory.
                if connections > 100 && size > 1024 * 1024 {
                    continue;
                }
                measure(&rivals, spoken, body, size, connections, seconds)?;
            }
        }
    }
    memory(&rivals)
}

fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", core])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn find(name: &str, package: &str) -> Result<std::path::PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];
    let found = places
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is missing: run `make setup-bench` or `apt-get install {package}`")
    })
}

fn spawn(command: &mut Command) -> Result<Server> {
    Ok(Server(
        command
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?,
    ))
}

async fn open(addr: SocketAddr, what: &str) -> Result<()> {
    wait_for(what, Duration::from_secs(20), async || {
        Ok(tokio::net::TcpStream::connect(addr).await.map(drop)?)
    })
    .await
}

fn temporary(dir: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.iter().fold(String::new(), |mut text, kind| {
        let _ = write!(text, "{kind}_temp_path {}/{kind}; ", dir.display());
        text
    })
}

async fn start_backend(dir: &TempDir) -> Result<(Server, Port)> {
    let (place, port) = (dir.path().join("backend"), Port::free()?);
    std::fs::create_dir_all(place.join("www"))?;
    for (name, size) in BODIES {
        std::fs::write(place.join("www").join(name), vec![b'x'; size])?;
    }
    let config = format!(
        "daemon off; worker_processes 1; user root; pid {place}/pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\nhttp {{ access_log off; {} sendfile on; open_file_cache max=100;\n\
         keepalive_timeout 300s; keepalive_requests 100000000;\n\
         server {{ listen {} backlog=4096; root {place}/www; }} }}\n",
        temporary(&place),
        port.addr(),
        place = place.display(),
    );
    let file = place.join("nginx.conf");
    std::fs::write(&file, config)?;
    let server = spawn(
        pinned(LOAD_CORE, &find("nginx", "nginx-light")?)
            .arg("-c")
            .arg(&file),
    )?;
    open(port.addr(), "the backend").await?;
    Ok((server, port))
}

async fn start_rivals(dir: &TempDir, backend: SocketAddr) -> Result<Vec<Rival>> {
    let certificate = Certificate::new()?;
    let files = certificate.write(dir.path(), None)?;
    let both = dir.path().join("both.pem");
    let text = std::fs::read_to_string(&files.certificate)? + &std::fs::read_to_string(&files.key)?;
    std::fs::write(&both, text)?;
    let (cert, key) = (
        files.certificate.display().to_string(),
        files.key.display().to_string(),
    );
    let mut rivals = Vec::new();
    for name in ["nginx", "HAProxy", "ours"] {
        let (plain, tls) = (Port::free()?, Port::free()?);
        let place = dir.path().join(name);
        std::fs::create_dir_all(&place)?;
        let server = match name {
            "nginx" => nginx(&place, backend, (&plain, &tls), (&cert, &key))?,
            "HAProxy" => haproxy(&place, backend, (&plain, &tls), &both)?,
            _ => ours(&place, backend, (&plain, &tls), (&cert, &key))?,
        };
        open(plain.addr(), name).await?;
        rivals.push(Rival {
            name,
            server,
            plain,
            tls,
        });
    }
    Ok(rivals)
}

fn nginx(
    place: &Path,
    backend: SocketAddr,
    (plain, tls): (&Port, &Port),
    (cert, key): (&str, &str),
) -> Result<Server> {
    let config = format!(
        "daemon off; worker_processes 1; user root; pid {place}/pid; error_log /dev/null;\n\
         events {{ worker_connections 8192; }}\nhttp {{ access_log off; {} keepalive_timeout 300s; keepalive_requests 100000000;\n\
         upstream b {{ server {backend}; keepalive 1024; keepalive_requests 100000000; }}\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n\
         ssl_certificate {cert}; ssl_certificate_key {key}; ssl_session_cache shared:s:10m;\n\
         server {{ listen {} backlog=4096; listen {} ssl http2 backlog=4096; location / {{ proxy_pass http://b; }} }} }}\n",
        temporary(place),
        plain.addr(),
        tls.addr(),
        place = place.display(),
    );
    let file = place.join("nginx.conf");
    std::fs::write(&file, config)?;
    spawn(
        pinned(PROXY_CORE, &find("nginx", "nginx-light")?)
            .arg("-c")
            .arg(&file),
    )
}

fn haproxy(
    place: &Path,
    backend: SocketAddr,
    (plain, tls): (&Port, &Port),
    both: &Path,
) -> Result<Server> {
    let config = format!(
        "global\n  nbthread 1\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 300s\n  option http-keep-alive\n  option forwardfor\n  http-reuse always\nfrontend f\n  bind {}\n  \
         bind {} ssl crt {} alpn h2,http/1.1\n  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n  \
         default_backend b\nbackend b\n  server s {backend}\n",
        plain.addr(),
        tls.addr(),
        both.display()
    );
    let file = place.join("haproxy.cfg");
    std::fs::write(&file, config)?;
    spawn(
        pinned(PROXY_CORE, &find("haproxy", "haproxy")?)
            .arg("-f")
            .arg(&file),
    )
}

fn ours(
    place: &Path,
    backend: SocketAddr,
    (plain, tls): (&Port, &Port),
    (cert, key): (&str, &str),
) -> Result<Server> {
    let config = format!(
        "api: {{ listen: {} }}\ndata_dir: {place}\nproxy:\n  listen: {}\n  workers: 1\n  \
         tls: {{ listen: {}, certificates: [{{ cert_file: {cert}, key_file: {key} }}] }}\n  \
         limits: {{ upstream_connections: 1024 }}\n  routes:\n    - {{ host: \"*\", upstream: \"http://{backend}\" }}\n",
        Port::free()?.addr(),
        plain.addr(),
        tls.addr(),
        place = place.display(),
    );
    let file = place.join("comind.yaml");
    std::fs::write(&file, config)?;
    spawn(
        pinned(PROXY_CORE, &program()?)
            .args(["serve", "--config"])
            .arg(&file),
    )
}

fn measure(
    rivals: &[Rival],
    spoken: Spoken,
    body: &str,
    size: usize,
    connections: usize,
    seconds: u64,
) -> Result<()> {
    let mut taken: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for rival in rivals {
            taken.entry(rival.name).or_default().push(once(
                rival,
                spoken,
                body,
                connections,
                seconds,
            )?);
        }
    }
    let middle = |name: &str, of: fn(&Figures) -> f64| {
        let mut samples = Samples::default();
        taken
            .get(name)
            .into_iter()
            .flatten()
            .for_each(|figures| samples.push(of(figures)));
        samples.p50()
    };
    let rows = rivals.iter().map(|rival| {
        let figure = |of: fn(&Figures) -> f64| middle(rival.name, of);
        let against = |of: fn(&Figures) -> f64| match (figure(of), middle("ours", of)) {
            (Some(theirs), Some(ours)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
            _ => "–".to_owned(),
        };
        vec![
            rival.name.to_owned(),
            cell(figure(|it| it.rate)),
            cell(figure(|it| it.p50)),
            cell(figure(|it| it.p99)),
            cell(figure(|it| it.p999)),
            cell(figure(|it| it.cpu)),
            against(|it| it.rate),
            against(|it| it.cpu),
            against(|it| it.p99),
        ]
    });
    let title = format!("{}, {size} bytes, {connections} connections", spoken.name());
    let header = [
        "",
        "requests/s",
        "p50 ms",
        "p99",
        "p99.9",
        "CPU µs/request",
        "ours/its requests/s",
        "ours/its CPU",
        "ours/its p99",
    ];
    print(&title, &header, &rows.collect::<Vec<_>>());
    Ok(())
}

fn once(
    rival: &Rival,
    spoken: Spoken,
    body: &str,
    connections: usize,
    seconds: u64,
) -> Result<Figures> {
    let pid = rival.pid()?;
    let before = cpu_micros(pid)?;
    let loaded = match spoken {
        Spoken::H1 => wrk(
            &format!("http://{}/{body}", rival.plain.addr()),
            connections,
            seconds,
        ),
        Spoken::H1Tls => wrk(
            &format!("https://{}/{body}", rival.tls.addr()),
            connections,
            seconds,
        ),
        Spoken::H2Tls => h2load(
            &format!("https://{}/{body}", rival.tls.addr()),
            connections,
            seconds,
        ),
    };
    let loaded = loaded.with_context(|| format!("{} {} {body}", rival.name, spoken.name()))?;
    let cpu = (cpu_micros(pid)? - before) / loaded.count;
    Ok(Figures {
        rate: loaded.rate,
        p50: loaded.p50,
        p99: loaded.p99,
        p999: loaded.p999,
        cpu,
    })
}

fn cpu_micros(pid: u32) -> Result<f64> {
    let stat = procfs::process::Process::new(i32::try_from(pid)?)?.stat()?;
    let ticks = (stat.utime + stat.stime) as f64;
    Ok(ticks * 1e6 / procfs::ticks_per_second() as f64)
}

/// What a generator of load says.
struct Loaded {
    count: f64,
    rate: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

/// Prints its figures by a script, so that p99.9 is there and failures are counted.
const SCRIPT: &str = "done = function(s, l, r) local e = s.errors; \
    io.write(string.format('FIGURES %d %d %f %f %f %d\\n', s.requests, s.duration, l:percentile(50), l:percentile(99), \
    l:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout)) end";

fn wrk(url: &str, connections: usize, seconds: u64) -> Result<Loaded> {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("done.lua");
    std::fs::write(&script, SCRIPT)?;
    let mut command = pinned(LOAD_CORE, &find("wrk", "wrk")?);
    command.args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        "--timeout",
        "10s",
        "-s",
    ]);
    let output = command
        .arg(&script)
        .arg(url)
        .stdout(Stdio::piped())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("FIGURES "))
        .with_context(|| text.clone())?;
    let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [count, micros, p50, p99, p999, failed] = numbers[..] else {
        anyhow::bail!("wrk said {line}");
    };
    ensure!(failed == 0.0, "{failed} of {count} requests failed");
    Ok(Loaded {
        count,
        rate: count * 1e6 / micros,
        p50: p50 / 1e3,
        p99: p99 / 1e3,
        p999: p999 / 1e3,
    })
}

/// Ten streams a connection where there are few and bodies are small; latencies from its log.
fn h2load(url: &str, connections: usize, seconds: u64) -> Result<Loaded> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let mut command = pinned(LOAD_CORE, &find("h2load", "nghttp2-client")?);
    let streams = if connections > 100 || url.ends_with("10m") {
        1
    } else {
        10
    };
    command.args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-m{streams}"),
        "-D",
        &seconds.to_string(),
    ]);
    command
        .arg(format!("--log-file={}", log.display()))
        .arg(url);
    let output = command.stdout(Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut samples = Samples::default();
    let mut failed = 0_usize;
    for line in std::fs::read_to_string(&log)?.lines() {
        // Start, status and duration, in microseconds.
        let mut words = line.split('\t').skip(1);
        match (
            words.next(),
            words.next().and_then(|micros| micros.parse::<f64>().ok()),
        ) {
            (Some("200"), Some(micros)) => samples.push(micros / 1e3),
            _ => failed += 1,
        }
    }
    ensure!(samples.len() > 0, "h2load made no request: {text}");
    ensure!(
        failed == 0,
        "{failed} of {} requests failed",
        samples.len() + failed
    );
    let count = samples.len() as f64;
    let of = |share: f64| samples.quantile(share).unwrap_or_default();
    Ok(Loaded {
        count,
        rate: count / seconds as f64,
        p50: of(0.5),
        p99: of(0.99),
        p999: of(0.999),
    })
}

fn memory(rivals: &[Rival]) -> Result<()> {
    let mut rows = Vec::new();
    for rival in rivals {
        let status = procfs::process::Process::new(i32::try_from(rival.pid()?)?)?.status()?;
        let mib = |kib: Option<u64>| kib.map(|kib| kib as f64 / 1024.0);
        rows.push(vec![
            rival.name.to_owned(),
            cell(mib(status.vmrss)),
            cell(mib(status.vmhwm)),
        ]);
    }
    print(
        "Resident memory after all of that (ours with the collector in it)",
        &["", "MiB", "peak"],
        &rows,
    );
    Ok(())
}
