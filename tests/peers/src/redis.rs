//! Redis as a peer, with its append-only file on, so that data outlive a kill.
//!
//! Tests steer it over a Unix socket of its own.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use url::Url;

use crate::peer::{Peer, Plan, accepts, is_peer, own_file};
use crate::process::Launch;
use crate::tls::Certificate;
use crate::tool::Tool;

const REDIS: Tool = Tool::debian("redis-server", "redis-server");

/// A user without a password, so that tests may change the real one's.
const ADMIN: &str = "comind-peers";

/// What can be chosen before the start.
#[derive(Debug, Clone, Default)]
pub struct RedisBuilder {
    port: Option<u16>,
    password: Option<String>,
    settings: String,
    certificate: Option<Certificate>,
}

impl RedisBuilder {
    /// Listens on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Asks for this password (default: none).
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A line of `redis.conf`: `maxmemory`, `2mb`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.settings, "{name} {value}");
        self
    }

    /// Speaks TLS, and only TLS, on its port.
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Starts the server and waits until it answers a PING.
    pub async fn start(self) -> Result<Redis> {
        let make = async |dir: &Path, port| self.plan(dir, port);
        let peer = Peer::start("redis", self.port, make).await?;
        let (password, tls) = (self.password, self.certificate.is_some());
        Ok(Redis {
            peer,
            password,
            tls,
        })
    }

    fn plan(&self, dir: &Path, port: u16) -> Result<Plan> {
        let place = dir.display();
        let mut conf = format!(
            "bind 127.0.0.1\ndir {place}\nunixsocket {place}/s\nappendonly yes\n\
             appendfsync no\nauto-aof-rewrite-percentage 0\nsave \"\"\n\
             user {ADMIN} on nopass ~* &* +@all\n"
        );
        match &self.certificate {
            None => writeln!(conf, "port {port}")?,
            Some(certificate) => {
                let files = certificate.write(dir, None)?;
                writeln!(
                    conf,
                    "port 0\ntls-port {port}\ntls-auth-clients no\n\
                     tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
                    files.certificate.display(),
                    files.key.display(),
                    files.authority.display()
                )?;
            }
        }
        if let Some(password) = &self.password {
            let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(conf, "requirepass \"{quoted}\"")?;
        }
        conf.push_str(&self.settings);
        let conf = own_file(dir, "redis.conf", None, &conf)?;
        let launch = Launch::new(REDIS.find()?, dir).arg(conf);
        let dir = dir.to_owned();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Plan::new(launch, move || {
            let dir = dir.clone();
            async move {
                let mut connection = admin(&dir).await?;
                redis::cmd("PING")
                    .query_async::<String>(&mut connection)
                    .await?;
                accepts(addr).await
            }
        }))
    }
}

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    peer: Peer,
    password: Option<String>,
    tls: bool,
}

is_peer!(Redis);

impl Redis {
    /// Starts one without a password.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// What can be chosen before the start.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// URL with the password if there is one; `rediss` with TLS.
    pub fn url(&self) -> String {
        self.url_via(self.addr())
    }

    /// As [`url`](Self::url), by way of another address (a relay).
    pub fn url_via(&self, addr: SocketAddr) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let plain = format!("{scheme}://{addr}");
        let (Ok(mut url), Some(password)) = (Url::parse(&plain), &self.password) else {
            return plain;
        };
        let _ = url.set_password(Some(password));
        url.into()
    }

    /// A connection over the Unix socket, of a user with all rights whatever
    /// the password is.
    pub async fn admin(&self) -> Result<MultiplexedConnection> {
        admin(self.dir()).await
    }

    /// Runs one command as admin and drops its answer:
    /// `&["CONFIG", "SET", "maxmemory", "1mb"]`.
    pub async fn execute(&self, words: &[&str]) -> Result<()> {
        let mut connection = self.admin().await?;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command
            .exec_async(&mut connection)
            .await
            .context("a command was refused")
    }
}

async fn admin(dir: &Path) -> Result<MultiplexedConnection> {
    let account = RedisConnectionInfo::default()
        .set_username(ADMIN)
        .set_password("any");
    let info = ConnectionAddr::Unix(dir.join("s"))
        .into_connection_info()?
        .set_redis_settings(account);
    let client = Client::open(info)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(url: &str) -> Result<Option<String>> {
        let client = Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd("GET");
        Ok(command.arg("k").query_async(&mut connection).await?)
    }

    #[tokio::test]
    async fn answers_dies_and_comes_back_with_its_data() -> Result<()> {
        let mut server = Redis::start().await?;
        server.execute(&["SET", "k", "v"]).await?;
        server.kill()?;
        assert!(get(&server.url()).await.is_err());
        server.restart().await?;
        assert_eq!(get(&server.url()).await?.as_deref(), Some("v"));
        Ok(())
    }

    #[tokio::test]
    async fn two_at_once_and_gone_when_dropped() -> Result<()> {
        let (one, two) = tokio::try_join!(Redis::start(), Redis::start())?;
        let addr = one.addr();
        drop(one);
        assert!(accepts(addr).await.is_err());
        assert_eq!(get(&two.url()).await?, None);
        Ok(())
    }

    #[tokio::test]
    async fn a_port_and_a_password_of_ones_own() -> Result<()> {
        let port = crate::port::Port::free()?.number();
        let server = Redis::builder()
            .port(port)
            .password("a\"b@/")
            .start()
            .await?;
        assert_eq!(server.addr().port(), port);
        get(&server.url()).await?;
        assert!(get(&format!("redis://{}", server.addr())).await.is_err());
        let clash = Redis::builder().port(port).start().await;
        let text = format!("{:#}", clash.err().context("two on one port")?);
        assert!(text.contains("in use"), "{text}");
        Ok(())
    }

    #[tokio::test]
    async fn full_when_memory_is_bounded() -> Result<()> {
        let server = Redis::builder()
            .setting("maxmemory", "100kb") // less than an empty one uses
            .setting("maxmemory-policy", "noeviction")
            .start()
            .await?;
        let error = server.execute(&["SET", "k", "v"]).await.err();
        let text = format!("{:#}", error.context("a full server took a write")?);
        assert!(text.contains("OOM"), "{text}");
        Ok(())
    }

    #[tokio::test]
    async fn tls_only() -> Result<()> {
        let server = Redis::builder().tls(&Certificate::new()?).start().await?;
        assert!(server.url().starts_with("rediss://"));
        assert!(get(&format!("redis://{}", server.addr())).await.is_err());
        Ok(())
    }
}
