//! An open `comind-ops access`, asked as a browser asks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use comind_peers::http::send;
use comind_peers::kube::KubeApi;
use comind_peers::kube::services::Exposed;
use comind_peers::port::Port;
use comind_peers::process::{Launch, Process};
use comind_peers::wait::wait_for;
use fantoccini::{Client, Locator};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;

use crate::serve::{LATER, PROGRAM, SOON, Serve};

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Access {
    port: Port,
    process: Process,
    _dir: TempDir,
}

impl Access {
    /// With these arguments, and these variables in its environment.
    pub(super) fn open(args: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let port = Port::free()?;
        let dir = tempfile::Builder::new().prefix("access-").tempdir()?;
        let home = dir.path().join("home").display().to_string();
        let mut launch = Launch::new(PROGRAM.into(), dir.path())
            .arg("access")
            .args(args.iter().copied())
            .args(["--port", &port.number().to_string()])
            .env("COMIND_HOME", home)
            .env("NO_COLOR", "1");
        for (name, value) in env {
            launch = launch.env(name, *value);
        }
        Ok(Self {
            process: Process::spawn(&launch)?,
            port,
            _dir: dir,
        })
    }

    /// These services of the cluster that this kubeconfig leads to.
    pub(super) fn of(kubeconfig: &Path, services: &[&str]) -> Result<Self> {
        let kubeconfig = kubeconfig.display().to_string();
        let args: Vec<&str> = services
            .iter()
            .copied()
            .chain(["--kubeconfig", &kubeconfig])
            .collect();
        Self::open(&args, &[])
    }

    /// `HOST.localhost:PORT`.
    pub(super) fn host(&self, host: &str) -> String {
        format!("{host}.localhost:{}", self.port.number())
    }

    /// `localhost:PORT`.
    pub(super) fn itself(&self) -> String {
        format!("localhost:{}", self.port.number())
    }

    pub(super) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{}{path}", self.host(host))
    }

    pub(super) fn addr(&self) -> std::net::SocketAddr {
        self.port.addr()
    }

    /// Asks a host; one without a name of its own is the start page's.
    pub(super) async fn ask(
        &self,
        host: &str,
        request: http::request::Builder,
        body: &str,
    ) -> Result<Response<Bytes>> {
        let host = match host {
            "" => self.itself(),
            host => self.host(host),
        };
        let request: Request<Full<Bytes>> = request
            .header("host", host)
            .body(Full::from(body.to_owned()))?;
        send(self.addr(), request).await
    }

    pub(super) async fn get(&self, host: &str, path: &str) -> Result<Response<Bytes>> {
        self.ask(host, Request::get(path), "").await
    }

    /// What the start page says of a service, in a context where there are several.
    pub(super) async fn row(&self, name: &str, context: Option<&str>) -> Result<Value> {
        let answer = self.get("", "/state.json").await?;
        let board: Value = serde_json::from_slice(answer.body())?;
        let rows = board["rows"].as_array().context("no rows")?;
        let row = rows
            .iter()
            .find(|row| row["name"] == name && row["context"].as_str() == context);
        Ok(row
            .with_context(|| format!("no {name} in {board}"))?
            .clone())
    }

    /// Waits until a service is reached, or not, for this reason.
    pub(super) async fn until(
        &self,
        (name, context): (&str, Option<&str>),
        way: &Value,
        why: &str,
    ) -> Result<()> {
        let what = format!("{name} by {way}: {why}");
        let waited = wait_for(&what, PATIENCE, async || {
            let row = self.row(name, context).await?;
            let said = row["why"].as_str().unwrap_or_default();
            ensure!(row["way"] == *way && said.contains(why), "{row}");
            Ok(())
        });
        waited.await.map_err(|error| self.blame(error))
    }

    /// Waits until a service is reached by its address.
    pub(super) async fn until_direct(&self, name: &str) -> Result<()> {
        self.until((name, None), &"service".into(), "").await
    }

    /// An error with what the program has said meanwhile.
    pub(super) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        error.context(self.process.log_tail())
    }

    pub(super) fn log(&self) -> String {
        self.process.log_tail()
    }

    /// Ends it as Ctrl-C does.
    pub(super) fn close(mut self) -> Result<()> {
        let ended = self
            .process
            .end(rustix::process::Signal::INT, SOON + LATER)?;
        if !ended.success() {
            bail!("{ended}: {}", self.log());
        }
        Ok(())
    }
}

/// Before a proxy of ours with these routes, which is the ingress and the only way to this service.
pub(super) async fn behind(ingress: &Port, service: &str, routes: &str) -> Result<(Serve, Access)> {
    let config = format!(
        "api: {{ listen: LISTEN }}\ndata_dir: DATA\ntargets: []\nproxy:\n  listen: {}\n  routes: [{routes}]\n",
        ingress.addr(),
    );
    let serve = Serve::start_with(&config).await?;
    let at = ingress.addr().to_string();
    let args = [service, "--kubeconfig", "/nowhere", "--ingress", &at];
    let access = Access::open(&args, &[])?;
    access.until((service, None), &"ingress".into(), "").await?;
    Ok((serve, access))
}

/// A cluster whose Services can be reached, with these namespaces.
pub(super) async fn cluster(namespaces: &[&str]) -> Result<(KubeApi, Exposed)> {
    let api = KubeApi::start_reachable().await?;
    let exposed = api.expose_itself().await?;
    for namespace in namespaces {
        api.make_namespace(namespace).await?;
    }
    Ok((api, exposed))
}

/// Waits until a page shows something.
pub(super) async fn until_shown(client: &Client, selector: &str) -> Result<()> {
    wait_for(&format!("the page to show {selector}"), LATER, async || {
        client.find(Locator::Css(selector)).await?;
        Ok(())
    })
    .await
}

/// Waits until a page's text has this in it.
pub(super) async fn until_said(client: &Client, text: &str) -> Result<()> {
    wait_for(&format!("the page to say {text}"), LATER, async || {
        let script = "return document.body ? document.body.innerText : ''";
        let said = client.execute(script, vec![]).await?;
        let said = said.as_str().unwrap_or_default();
        let start: String = said.chars().take(600).collect();
        ensure!(said.contains(text), "it says {start:?}");
        Ok(())
    })
    .await
}

/// Runs a script in the page; it hands its value to `done`. An error becomes ours.
pub(super) async fn run(client: &Client, script: &str) -> Result<Value> {
    let script = format!(
        "const done = arguments[arguments.length - 1];
         (async () => {{ {script} }})().then(value => done({{ value }}), error => done({{ error: String(error) }}))"
    );
    let outcome = client.execute_async(&script, vec![]).await?;
    ensure!(
        outcome["error"].is_null(),
        "the page says {}",
        outcome["error"]
    );
    Ok(outcome["value"].clone())
}
