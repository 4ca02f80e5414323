//! The command line as a newcomer uses it: a home of its own, ports of its own, and all that it
//! started gone with the test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use comind_peers::port::Port;
use comind_peers::process::{Launch, Process};
use comind_peers::wait::wait_for;
use serde_json::Value;
use tempfile::TempDir;

use crate::serve::PROGRAM;

/// A server's first start on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(120);

/// Whatever is run has ended by then: a platform from nothing takes one minute on a quick disk and five on one
/// of 40 MB/s that others use too.
const END: Duration = Duration::from_secs(900);

/// A home with the services of one test. Dropping it stops and removes all of them.
pub(crate) struct Ops {
    /// Cleans up even if the test is killed. Dropped first: what it needs lies in `dir`.
    _janitor: Process,
    dir: TempDir,
    ports: Vec<(&'static str, Port)>,
    env: Vec<(String, String)>,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Everything that it said.
    pub(crate) fn said(&self) -> String {
        format!("exit {}\n{}\n{}", self.code, self.out, self.err)
    }
}

impl Ops {
    /// A home whose services run in `runtime`, with more environment.
    pub(crate) fn new(runtime: &str, env: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ops-").tempdir()?;
        // PostgreSQL runs as another user when we are root, and has to get in.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let home = dir.path().join("home");
        let keys = [
            "COMIND_POSTGRESQL_PORT",
            "COMIND_MINIO_PORT",
            "COMIND_MINIO_CONSOLE_PORT",
            "COMIND_REDIS_PORT",
            "COMIND_ELASTICMQ_PORT",
            "COMIND_API_PORT",
        ];
        let ports = keys
            .into_iter()
            .map(|key| Ok((key, Port::free()?)))
            .collect::<Result<Vec<_>>>()?;
        let mut env: Vec<(String, String)> = env
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        env.push(("COMIND_HOME".into(), home.display().to_string()));
        env.push(("COMIND_RUNTIME".into(), runtime.to_owned()));
        let words: String = env
            .iter()
            .map(|(key, value)| format!("{key}='{value}' "))
            .collect();
        let mut launch = Launch::new("/bin/sleep".into(), dir.path()).arg("infinity");
        launch.cleanup =
            format!("{words} {PROGRAM} -q down; {words} {PROGRAM} -qy destroy --volumes");
        Ok(Self {
            _janitor: Process::spawn(&launch)?,
            dir,
            ports,
            env,
        })
    }

    /// Its home directory.
    pub(crate) fn home(&self) -> std::path::PathBuf {
        self.dir.path().join("home")
    }

    /// The test's directory, for files of its own.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The port behind one of the program's variables.
    pub(crate) fn port(&self, key: &str) -> Result<u16> {
        let found = self.ports.iter().find(|(name, _)| *name == key);
        Ok(found
            .with_context(|| format!("there is no port {key}"))?
            .1
            .number())
    }

    /// Sets one more variable for the program.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// Runs the program and waits for its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<Done> {
        finish(self.command(args).into()).await
    }

    /// Starts the program and does not wait.
    pub(crate) fn spawn(&self, args: &[&str]) -> Result<Child> {
        let mut command = self.command(args);
        Ok(command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    }

    /// The program with its surroundings, ready to be started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1");
        for (key, value) in &self.env {
            command.env(key, value);
        }
        for (key, port) in &self.ports {
            command.env(key, port.number().to_string());
        }
        command
    }

    /// Runs the program, which has to succeed.
    pub(crate) async fn good(&self, args: &[&str]) -> Result<Done> {
        let done = self.run(args).await?;
        ensure!(done.code == 0, "{args:?}: {}", done.said());
        Ok(done)
    }

    /// The row of one service from `services status`.
    pub(crate) async fn row(&self, service: &str) -> Result<Value> {
        let done = self.good(&["--json", "services", "status"]).await?;
        let status: Value = serde_json::from_str(&done.out)?;
        let rows = status["services"].as_array().context("no services")?;
        let row = rows.iter().find(|row| row["service"] == service);
        Ok(row.with_context(|| format!("no row of {service}"))?.clone())
    }

    /// Waits until a service's row is as wanted.
    pub(crate) async fn until(
        &self,
        service: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait_for(service, START, async || {
            let row = self.row(service).await?;
            if wanted(&row) {
                return Ok(row);
            }
            bail!("{row}")
        })
        .await
    }

    /// A session with its Redis.
    pub(crate) async fn redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        let port = self.port("COMIND_REDIS_PORT")?;
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
        Ok(client.get_multiplexed_async_connection().await?)
    }
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: tokio::process::Command) -> Result<Done> {
    command.kill_on_drop(true);
    let ended = tokio::time::timeout(END, command.output()).await;
    let ended: Output = ended.context("it did not end")??;
    Ok(Done {
        code: ended.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&ended.stdout).into_owned(),
        err: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// The process of a row of services or components.
pub(crate) fn pid(row: &Value) -> Result<rustix::process::Pid> {
    let pid = row["pid"]
        .as_i64()
        .with_context(|| format!("no pid in {row}"))?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?);
    pid.context("no process has this pid")
}
