//! Chromium as a peer, steered by chromedriver over WebDriver.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::http::get;
use crate::peer::{Peer, Plan, is_peer};
use crate::process::Launch;
use crate::tool::Tool;

const DRIVER: Tool = Tool::debian("chromedriver", "chromium-driver");
const BROWSER: Tool = Tool::debian("chromium", "chromium");
/// Root may not use the sandbox; nothing else may leave the machine.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-features=OptimizationHints,MediaRouter,Translate",
];

/// A running chromedriver; each session has a browser and a profile of its own.
#[derive(Debug)]
pub struct Chromium {
    peer: Peer,
}

is_peer!(Chromium);

impl Chromium {
    /// Starts chromedriver. Browsers start with sessions.
    pub async fn start() -> Result<Self> {
        let make = async |dir: &Path, port: u16| {
            let launch = Launch::new(DRIVER.find()?, dir)
                .arg(format!("--port={port}"))
                // Profiles and caches go where they are removed with us.
                .env("HOME", dir.to_string_lossy())
                .env("TMPDIR", dir.to_string_lossy());
            let addr = ([127, 0, 0, 1], port).into();
            Ok(Plan::new(launch, move || async move {
                let status: Value = serde_json::from_str(&get(addr, "/status").await?)?;
                ensure!(status["value"]["ready"] == true, "{status}");
                Ok(())
            }))
        };
        let peer = Peer::start("chromium", None, make).await?;
        Ok(Self { peer })
    }

    /// URL of the WebDriver endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// A new browser with one window of this size, in CSS pixels.
    pub async fn session(&self, width: u32, height: u32) -> Result<Client> {
        self.session_with(&[&format!("--window-size={width},{height}")])
            .await
    }

    /// A new browser with more flags, as `--force-dark-mode`.
    pub async fn session_with(&self, more: &[&str]) -> Result<Client> {
        let flags: Vec<&str> = FLAGS.iter().chain(more).copied().collect();
        let options = json!({"args": flags, "binary": BROWSER.find()?});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}});
        let Value::Object(wanted) = wanted else {
            unreachable!("it is written as an object above");
        };
        ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&self.url())
            .await
            .with_context(|| format!("no browser; chromedriver said: {}", self.logs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::Alertmanager;

    #[tokio::test]
    async fn shows_a_page_and_is_gone_when_dropped() -> Result<()> {
        let (browser, server) = tokio::try_join!(Chromium::start(), Alertmanager::start_quiet())?;
        let client = browser.session(800, 600).await?;
        client.goto("data:text/html,<title>yes</title>").await?;
        assert_eq!(client.title().await?, "yes");
        client.goto(&server.url()).await?;
        let picture = client.screenshot().await?;
        assert_eq!(picture.get(1..4), Some(&b"PNG"[..]));
        let (addr, dir) = (browser.addr(), browser.dir().to_owned());
        drop(browser);
        assert!(crate::peer::accepts(addr).await.is_err());
        assert!(!dir.exists());
        Ok(())
    }
}
