//! ElasticMQ as a peer: queues and messages are kept in its own files, so that
//! they outlive a kill.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use url::form_urlencoded::Serializer;

use crate::http::{send, text};
use crate::peer::{Peer, Plan, is_peer, own_file};
use crate::port::Port;
use crate::process::Launch;
use crate::tool::{Tool, tools_dir};

const JAVA: Tool = Tool::debian("java", "default-jre-headless");
/// The account number under which ElasticMQ lists queues.
const ACCOUNT: &str = "000000000000";

/// What can be chosen before the start.
#[derive(Debug, Clone, Default)]
pub struct ElasticMqBuilder {
    port: Option<u16>,
    queues: String,
    names: Vec<String>,
}

impl ElasticMqBuilder {
    /// Listens on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// A queue to make.
    #[must_use]
    pub fn queue(mut self, name: &str) -> Self {
        let _ = writeln!(self.queues, "  \"{name}\" {{}}");
        self.names.push(name.to_owned());
        self
    }

    /// A queue to make, and one named `dead` for messages which were received
    /// more than `receives` times.
    #[must_use]
    pub fn queue_with_dead_letters(self, name: &str, dead: &str, receives: u32) -> Self {
        let mut builder = self.queue(dead);
        let _ = writeln!(
            builder.queues,
            "  \"{name}\" {{ deadLettersQueue {{ name = \"{dead}\", maxReceiveCount = {receives} }} }}"
        );
        builder.names.push(name.to_owned());
        builder
    }

    /// Starts the server and waits until it lists its queues.
    pub async fn start(self) -> Result<ElasticMq> {
        let statistics = Port::free()?;
        let make = async |dir: &Path, port| self.plan(dir, port, statistics.number());
        let peer = Peer::start("elasticmq", self.port, make).await?;
        Ok(ElasticMq { peer, statistics })
    }

    fn plan(&self, dir: &Path, port: u16, statistics: u16) -> Result<Plan> {
        let place = dir.display();
        let conf = format!(
            "include classpath(\"application.conf\")\n\
             node-address {{ protocol = http, host = \"127.0.0.1\", port = {port}, context-path = \"\" }}\n\
             rest-sqs {{ enabled = true, bind-hostname = \"127.0.0.1\", bind-port = {port}, sqs-limits = strict }}\n\
             rest-stats {{ enabled = true, bind-hostname = \"127.0.0.1\", bind-port = {statistics} }}\n\
             queues-storage {{ enabled = true, path = \"{place}/queues.conf\" }}\n\
             messages-storage {{ enabled = true, uri = \"jdbc:h2:{place}/messages;WRITE_DELAY=0\" }}\n\
             queues {{\n{}}}\n",
            self.queues
        );
        let conf = own_file(dir, "elasticmq.conf", None, &conf)?;
        let launch = Launch::new(JAVA.find()?, dir)
            .args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dconfig.file={}", conf.display()))
            .arg("-cp")
            .arg(format!("{}/*", jars()?.display()))
            .arg("org.elasticmq.server.Main");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let names = self.names.clone();
        Ok(Plan::new(launch, move || {
            let names = names.clone();
            async move {
                // It answers before it has made the queues of its configuration.
                let listed = call(addr, &[("Action", "ListQueues")]).await?;
                let missing = names
                    .iter()
                    .find(|name| !listed.contains(&format!("/{name}</")));
                match missing {
                    Some(name) => bail!("queue {name} is not made yet"),
                    None => Ok(()),
                }
            }
        }))
    }
}

/// A running ElasticMQ.
#[derive(Debug)]
pub struct ElasticMq {
    peer: Peer,
    statistics: Port,
}

is_peer!(ElasticMq);

impl ElasticMq {
    /// Starts one without queues.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// What can be chosen before the start.
    pub fn builder() -> ElasticMqBuilder {
        ElasticMqBuilder::default()
    }

    /// Where its page would be, and where what that shows can be asked for.
    pub fn statistics(&self) -> SocketAddr {
        self.statistics.addr()
    }

    /// URL of the SQS endpoint.
    pub fn url(&self) -> String {
        self.url_via(self.addr())
    }

    /// As [`url`](Self::url), by way of another address (a relay).
    pub fn url_via(&self, addr: SocketAddr) -> String {
        format!("http://{addr}")
    }

    /// URL of one queue.
    pub fn queue_url(&self, queue: &str) -> String {
        format!("{}/{ACCOUNT}/{queue}", self.url())
    }

    /// One action of the SQS query protocol, its answer in XML.
    pub async fn call(&self, parameters: &[(&str, &str)]) -> Result<String> {
        call(self.addr(), parameters).await
    }

    /// Makes a queue.
    pub async fn create_queue(&self, name: &str) -> Result<()> {
        self.call(&[("Action", "CreateQueue"), ("QueueName", name)])
            .await?;
        Ok(())
    }

    /// Removes a queue with its messages.
    pub async fn delete_queue(&self, name: &str) -> Result<()> {
        let url = self.queue_url(name);
        self.call(&[("Action", "DeleteQueue"), ("QueueUrl", &url)])
            .await?;
        Ok(())
    }

    /// Sends a message.
    pub async fn send(&self, queue: &str, message: &str) -> Result<()> {
        let url = self.queue_url(queue);
        let parameters = [
            ("Action", "SendMessage"),
            ("QueueUrl", &url),
            ("MessageBody", message),
        ];
        self.call(&parameters).await?;
        Ok(())
    }

    /// How many messages are visible in a queue.
    pub async fn visible(&self, queue: &str) -> Result<u64> {
        let url = self.queue_url(queue);
        let parameters = [
            ("Action", "GetQueueAttributes"),
            ("QueueUrl", &url),
            ("AttributeName.1", "ApproximateNumberOfMessages"),
        ];
        let xml = self.call(&parameters).await?;
        let value = xml
            .split_once("<Value>")
            .and_then(|(_, rest)| rest.split_once("</Value>"))
            .with_context(|| format!("no value in {xml}"))?;
        Ok(value.0.parse()?)
    }
}

async fn call(addr: SocketAddr, parameters: &[(&str, &str)]) -> Result<String> {
    let form = Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    let request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    text(&send(addr, request).await?)
}

/// The directory of the server's jars.
pub(crate) fn jars() -> Result<PathBuf> {
    let jars = tools_dir()?.join("elasticmq/lib");
    if !jars.is_dir() {
        bail!(
            "ElasticMQ is not on this machine (no {}): run `make setup-test`",
            jars.display()
        );
    }
    Ok(jars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::accepts;

    #[tokio::test]
    async fn answers_dies_and_comes_back_with_its_data() -> Result<()> {
        let mut server = ElasticMq::builder().queue("jobs").start().await?;
        server.create_queue("more").await?;
        server.send("jobs", "a message").await?;
        server.kill()?;
        assert!(accepts(server.addr()).await.is_err());
        server.restart().await?;
        assert_eq!(server.visible("jobs").await?, 1);
        assert_eq!(server.visible("more").await?, 0);
        Ok(())
    }

    #[tokio::test]
    async fn two_at_once_dead_letters_and_gone_when_dropped() -> Result<()> {
        let with_dead = ElasticMq::builder().queue_with_dead_letters("jobs", "jobs-dead", 3);
        let (one, two) = tokio::try_join!(ElasticMq::start(), with_dead.start())?;
        let addr = one.addr();
        drop(one);
        assert!(accepts(addr).await.is_err());
        assert_eq!(two.visible("jobs-dead").await?, 0);
        two.delete_queue("jobs").await?;
        assert!(two.visible("jobs").await.is_err());
        Ok(())
    }
}
