//! `comind-ops serve` as a test runs it: on a free port, with a config of its own, watched
//! by its API alone, and gone with the test.
//!
//! Must not know which servers are watched.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::port::Port;
use comind_peers::process::{Launch, Process, log_tail};
use comind_peers::tool::Tool;
use comind_peers::wait::{Hopeless, wait_for};
use http::{Request, Response};
use http_body_util::Full;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::events::Events;

/// In a mount namespace of its own: the files of `$0` where a kubelet puts them, then the program.
const POD: &str = r#"mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$0" /run/secrets/kubernetes.io/serviceaccount
exec "$@""#;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_comind-ops");

/// How long a condition may take which depends on nothing slow.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long a condition may take which needs several looks or a server's start.
pub(crate) const LATER: Duration = Duration::from_secs(30);

/// Looks every second and deep looks every second: the rhythm of tests of single causes.
pub(crate) const BRISK: &str = "{ interval: 1s, timeout: 1s, deep_interval: 1s, deep_timeout: 3s }";
/// The project's own rhythm but for the looks, which come every second.
pub(crate) const USUAL: &str = "{ interval: 1s }";

/// A running program. Dropping it kills it.
pub(crate) struct Serve {
    dir: TempDir,
    port: Port,
    process: Process,
    launch: Launch,
}

impl Serve {
    /// Starts it with these `defaults` and these items of `targets` (one a line), and waits
    /// until it answers.
    pub(crate) async fn start(defaults: &str, targets: &[String]) -> Result<Self> {
        Self::start_with(&config(defaults, targets)).await
    }

    /// Starts it with this config, in which `LISTEN` stands for its address, and waits until
    /// it answers.
    pub(crate) async fn start_with(config: &str) -> Result<Self> {
        Self::start_logging(config, "info").await
    }

    /// As [`start_with`](Self::start_with), logging all from this level on.
    pub(crate) async fn start_logging(config: &str, level: &str) -> Result<Self> {
        Self::launch(config, |dir| {
            Launch::new(PROGRAM.into(), dir).env("COMIND_LOG", level)
        })
        .await
    }

    /// As [`start_with`](Self::start_with), with these variables in its environment.
    pub(crate) async fn start_in(config: &str, environment: &[(&str, &str)]) -> Result<Self> {
        Self::launch(config, |dir| {
            let launch = Launch::new(PROGRAM.into(), dir);
            environment
                .iter()
                .fold(launch, |launch, (name, value)| launch.env(name, *value))
        })
        .await
    }

    /// As [`start_with`](Self::start_with), for a config that has it speak TLS: waits until it
    /// takes connections.
    pub(crate) async fn start_secure(config: &str) -> Result<Self> {
        let launch = |dir: &Path| Launch::new(PROGRAM.into(), dir).env("COMIND_LOG", "info");
        let mut serve = Self::spawn(config, &[], launch)?;
        let addr = serve.addr();
        let open = wait_for("comind-ops to take connections", LATER, async || {
            if let Some(status) = serve.process.exited()? {
                return Err(Hopeless(format!("it exited with {status}")).into());
            }
            Ok(tokio::net::TcpStream::connect(addr).await.map(drop)?)
        });
        let open = open.await;
        open.map_err(|error| serve.blame(error))?;
        Ok(serve)
    }

    /// As [`start_with`](Self::start_with), with at most so many open files.
    pub(crate) async fn start_limited(config: &str, files: u32) -> Result<Self> {
        Self::launch(config, |dir| {
            Launch::new("/bin/sh".into(), dir)
                .args(["-c", "ulimit -n $0 && exec \"$@\""])
                .args([&files.to_string(), PROGRAM])
        })
        .await
    }

    /// As [`start_with`](Self::start_with), as one of several replicas that share a lease.
    pub(crate) async fn start_leased(config: &str, kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = kubeconfig.display().to_string();
        let more = ["--lease-kubeconfig", &kubeconfig];
        Self::launch_with(config, &more, |dir| {
            Launch::new(PROGRAM.into(), dir).env("COMIND_LEASE", "default/comind-ops")
        })
        .await
    }

    /// As [`start_with`](Self::start_with), by another program that starts it: our program with
    /// its arguments comes behind `args`.
    pub(crate) async fn start_by(config: &str, program: Tool, args: &[&str]) -> Result<Self> {
        let program = program.find()?;
        Self::launch(config, |dir| {
            Launch::new(program, dir)
                .args(args.iter().copied())
                .arg(PROGRAM)
        })
        .await
    }

    /// As [`start_with`](Self::start_with), as in a pod: the files in `given` are where a
    /// kubelet puts a service account's, and the API server is named by the environment.
    pub(crate) async fn start_in_pod(config: &str, given: &Path, api: SocketAddr) -> Result<Self> {
        Self::launch(config, |dir| {
            Launch::new("/usr/bin/unshare".into(), dir)
                .args(["--mount", "--propagation", "private", "/bin/sh", "-ec", POD])
                .args([&given.display().to_string(), PROGRAM])
                .env("KUBERNETES_SERVICE_HOST", api.ip().to_string())
                .env("KUBERNETES_SERVICE_PORT", api.port().to_string())
                .env("KUBECONFIG", "/nonexistent")
        })
        .await
    }

    async fn launch(config: &str, program: impl FnOnce(&Path) -> Launch) -> Result<Self> {
        Self::launch_with(config, &[], program).await
    }

    async fn launch_with(
        config: &str,
        more: &[&str],
        program: impl FnOnce(&Path) -> Launch,
    ) -> Result<Self> {
        let mut serve = Self::spawn(config, more, program)?;
        serve.answers().await?;
        Ok(serve)
    }

    fn spawn(config: &str, more: &[&str], program: impl FnOnce(&Path) -> Launch) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ops-").tempdir()?;
        let port = Port::free()?;
        let file = dir.path().join("comind.yaml");
        let config = config.replace("DATA", &dir.path().join("data").display().to_string());
        write(&file, &filled(&config, port.addr()))?;
        let launch = program(dir.path())
            .args(["serve", "--config"])
            .arg(&file)
            .args(more.iter().copied())
            .env("NO_COLOR", "1");
        let process = Process::spawn(&launch)?;
        Ok(Self {
            dir,
            port,
            process,
            launch,
        })
    }

    async fn answers(&mut self) -> Result<()> {
        let addr = self.addr();
        let answered = wait_for("comind-ops to answer", LATER, async || {
            if let Some(status) = self.process.exited()? {
                return Err(Hopeless(format!("it exited with {status}")).into());
            }
            send(addr, get("/livez")?).await.map(drop)
        });
        let answered = answered.await;
        answered.map_err(|error| self.blame(error))
    }

    /// Where its API listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Where `DATA` is.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The file of its config.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("comind.yaml")
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.dir.path().join("server.log")).context("no log")
    }

    /// Replaces its config, in one step as editors do; `LISTEN` stands for its address.
    pub(crate) fn write_config(&self, config: &str) -> Result<()> {
        let near = self.dir.path().join("comind.yaml.new");
        write(&near, &filled(config, self.addr()))?;
        std::fs::rename(&near, self.config_file()).context("could not replace the config")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid(), signal).context("could not signal comind-ops")
    }

    /// GET with further headers, whatever the status.
    pub(crate) async fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Bytes>> {
        let mut request = get(path)?;
        for (name, value) in headers {
            request.headers_mut().insert(
                http::HeaderName::try_from(*name)?,
                http::HeaderValue::from_bytes(value.as_bytes())?,
            );
        }
        send(self.addr(), request).await
    }

    /// GET of a text; an error unless the status is 2xx.
    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        comind_peers::http::text(&self.ask(path, &[]).await?).with_context(|| path.to_owned())
    }

    /// `/api/v1/state`.
    pub(crate) async fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/api/v1/state").await?)?)
    }

    /// One target as it stands in the state.
    pub(crate) async fn target(&self, name: &str) -> Result<Value> {
        let state = self.state().await?;
        let targets = state["targets"].as_array().context("no targets")?;
        let found = targets.iter().find(|target| target["name"] == name);
        found.cloned().with_context(|| format!("no target {name}"))
    }

    /// Waits until a target is as `good` wants it, and hands it out.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let what = format!("{name} to be {what}");
        let waited = wait_for(&what, deadline, async || {
            let target = self.target(name).await?;
            ensure!(good(&target), "{target}");
            Ok(target)
        });
        waited.await.map_err(|error| self.blame(error))
    }

    /// Waits until a target has this health and this reason, and hands it out.
    pub(crate) async fn until_is(&self, name: &str, health: &str, reason: &str) -> Result<Value> {
        let good = |target: &Value| target["health"] == health && target["reason"] == reason;
        let what = format!("{health} ({reason})");
        self.until(name, &what, LATER, good).await
    }

    /// Waits until a target is up, and hands it out.
    pub(crate) async fn until_up(&self, name: &str) -> Result<Value> {
        self.until_is(name, "up", "ok").await
    }

    /// Waits until the whole platform has this health.
    pub(crate) async fn until_platform(&self, health: &str) -> Result<()> {
        let what = format!("the platform to be {health}");
        let waited = wait_for(&what, LATER, async || {
            let state = self.state().await?;
            ensure!(state["health"] == health, "{state}");
            Ok(())
        });
        waited.await.map_err(|error| self.blame(error))
    }

    /// Waits until `count` more looks (deep ones too) at a target have ended.
    pub(crate) async fn until_looked(&self, name: &str, count: u32) -> Result<()> {
        self.until_counted("comind_probes_total", &[("target", name)], count)
            .await
    }

    /// Waits until a counter has grown by `count`.
    pub(crate) async fn until_counted(
        &self,
        counter: &str,
        labels: &[(&str, &str)],
        count: u32,
    ) -> Result<()> {
        let counted = async || {
            let text = self.get("/metrics").await?;
            value(&text, counter, labels).with_context(|| format!("no {counter}"))
        };
        let wanted = counted().await? + f64::from(count);
        let waited = wait_for(counter, LATER, async || {
            let now = counted().await?;
            ensure!(now >= wanted, "{now} of {wanted}");
            Ok(())
        });
        waited.await.map_err(|error| self.blame(error))
    }

    /// Waits until a series is as `good` wants it.
    pub(crate) async fn until_value(
        &self,
        series: &str,
        labels: &[(&str, &str)],
        good: impl Fn(f64) -> bool,
    ) -> Result<()> {
        let waited = wait_for(series, LATER, async || {
            let text = self.get("/metrics").await?;
            let now = value(&text, series, labels).with_context(|| format!("no {series}"))?;
            ensure!(good(now), "it is {now}");
            Ok(())
        });
        waited.await.map_err(|error| self.blame(error))
    }

    /// Opens the event stream.
    pub(crate) async fn events(&self) -> Result<Events> {
        Events::open(self.addr(), None).await
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.process.kill()).map(drop)
    }

    /// Starts it again after its end, and waits until it answers.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.process = Process::spawn(&self.launch)?;
        self.answers().await
    }

    /// Waits until it has ended by itself, with exit code 0.
    pub(crate) async fn until_ended(&mut self) -> Result<()> {
        let ended = wait_for("comind-ops to end", LATER, async || {
            let status = self.process.exited()?.context("it runs")?;
            match status.success() {
                true => Ok(()),
                false => Err(Hopeless(format!("it exited with {status}")).into()),
            }
        });
        ended.await.map_err(|error| self.blame(error))
    }

    /// Asks it to end, and waits until it has, with exit code 0.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let ended = tokio::task::block_in_place(|| self.process.end(Signal::TERM, LATER));
        let status = ended.map_err(|error| self.blame(error))?;
        ensure!(status.success(), "{}", self.blame(anyhow!("{status}")));
        Ok(())
    }

    /// The error with the end of the log, where one looks for the cause.
    pub(crate) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        let log = log_tail(&self.dir.path().join("server.log"));
        error.context(format!("the log of comind-ops ends with:\n{log}"))
    }
}

impl Drop for Serve {
    #[expect(
        clippy::print_stderr,
        reason = "a failed test's output is where one looks for the log"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#}", self.blame(anyhow!("the test panicked")));
        }
    }
}

/// A config with these `defaults` and these items of `targets`; `LISTEN` is filled in later.
pub(crate) fn config(defaults: &str, targets: &[String]) -> String {
    let mut text = format!("api: {{ listen: \"LISTEN\" }}\ndefaults: {defaults}\n");
    match targets {
        [] => text.push_str("targets: []\n"),
        _ => text.push_str("targets:\n"),
    }
    for target in targets {
        text.push_str(&format!("  - {{ {target} }}\n"));
    }
    text
}

/// Runs the program until it ends; its exit code and all its output.
pub(crate) async fn run_to_end(args: &[&str]) -> Result<(i32, String)> {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(args).env("NO_COLOR", "1").kill_on_drop(true);
    let ended = tokio::time::timeout(LATER, command.output()).await;
    let output = ended.context("the program did not end")??;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code().context("ended by a signal")?, text))
}

/// Runs the program with this on its standard input; its exit code and all its output.
pub(crate) async fn run_with_input(args: &[&str], input: &str) -> Result<(i32, String)> {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(args).env("NO_COLOR", "1").kill_on_drop(true);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let ended = tokio::time::timeout(LATER, child.wait_with_output()).await;
    let output = ended.context("the program did not end")??;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code().context("ended by a signal")?, text))
}

/// The value of the first series in a text exposition that has this name and these labels.
pub(crate) fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(name);
        let named = rest.is_some_and(|rest| rest.starts_with(['{', ' ']));
        let has = |(key, value): &(&str, &str)| line.contains(&format!("{key}=\"{value}\""));
        named && labels.iter().all(has)
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

fn get(path: &str) -> Result<Request<Full<Bytes>>> {
    Ok(Request::get(path).body(Full::default())?)
}

fn filled(config: &str, addr: SocketAddr) -> String {
    config.replace("LISTEN", &addr.to_string())
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("could not write {}", file.display()))
}

/// Fails unless `text` is free of all these secrets.
pub(crate) fn hides(place: &str, text: &str, secrets: &[&str]) -> Result<()> {
    for secret in secrets {
        if let Some(at) = text.find(secret) {
            let from = text[..at].char_indices().rev().nth(120);
            let around = &text[from.map_or(0, |(at, _)| at)..at];
            bail!("{place} shows a secret after: {around}");
        }
    }
    Ok(())
}
