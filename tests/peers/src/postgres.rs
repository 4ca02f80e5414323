//! PostgreSQL as a peer.
//!
//! `initdb` runs once per version and user; later starts copy what it made.
//! Tests steer the server over a Unix socket of its own, which is trusted and
//! is not touched by password, TLS or `pg_hba` settings of the TCP side.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_postgres::{Client, NoTls};
use url::Url;

use crate::peer::{Peer, Plan, accepts, give, is_peer, own_dir, own_file};
use crate::process::Launch;
use crate::tls::Certificate;
use crate::tool::{Tool, cache_dir};
use crate::user::User;

const POSTGRES: Tool = Tool::debian("postgres", "postgresql");
const INITDB: Tool = Tool::debian("initdb", "postgresql");
/// The password of user `postgres` in the template.
const PASSWORD: &str = "postgres";
/// The user who owns the server and everything in it.
const USER: &str = "postgres";
/// The database which is there besides `postgres`.
const DATABASE: &str = "dev";

/// What can be chosen before the start.
#[derive(Debug, Clone, Default)]
pub struct PostgresBuilder {
    port: Option<u16>,
    password: Option<String>,
    settings: Vec<(String, String)>,
    hba: String,
    certificate: Option<Certificate>,
}

impl PostgresBuilder {
    /// Listens on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The password of user `postgres` (default `postgres`).
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A server setting, as in `postgresql.conf`: `max_connections`, `8`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `pg_hba.conf` put before those for TCP.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push_str(line);
        self.hba.push('\n');
        self
    }

    /// Turns TLS on with this certificate; TCP without TLS stays allowed
    /// (forbid it with `.hba("hostnossl all all all reject")`).
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Starts the server and waits until it answers a query.
    pub async fn start(self) -> Result<Postgres> {
        let user = User::unprivileged("postgres")?;
        let template = tokio::task::spawn_blocking(move || template(user)).await??;
        let make = async |dir: &Path, port| self.plan(dir, port, user, &template);
        let peer = Peer::start("postgres", self.port, make).await?;
        let password = self.password.as_deref().unwrap_or(PASSWORD).to_owned();
        let postgres = Postgres { peer, password };
        if self.password.is_some() {
            let quoted = postgres.password.replace('\'', "''");
            let sql = format!("ALTER USER {USER} PASSWORD '{quoted}'");
            postgres.execute(&sql).await?;
        }
        Ok(postgres)
    }

    fn plan(&self, dir: &Path, port: u16, user: Option<User>, template: &Path) -> Result<Plan> {
        let data = dir.join("data");
        copy(template, &data)?;
        let socket = own_dir(dir, "s", user)?;
        let hba = format!(
            "local all all trust\n{}host all all 127.0.0.1/32 scram-sha-256\n",
            self.hba
        );
        let hba = own_file(dir, "pg_hba.conf", user, &hba)?;
        let mut launch = Launch::new(POSTGRES.find()?, dir)
            .arg("-D")
            .arg(data)
            .args(["-p", &port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", socket.display()))
            .arg("-c")
            .arg(format!("hba_file={}", hba.display()));
        if let Some(certificate) = &self.certificate {
            let files = certificate.write(dir, user)?;
            launch = launch
                .args(["-c", "ssl=on", "-c"])
                .arg(format!("ssl_cert_file={}", files.certificate.display()))
                .arg("-c")
                .arg(format!("ssl_key_file={}", files.key.display()));
        }
        for (name, value) in &self.settings {
            launch = launch.arg("-c").arg(format!("{name}={value}"));
        }
        launch.user = user;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Plan::new(launch, move || {
            let socket = socket.clone();
            async move {
                admin(&socket, port).await?.simple_query("SELECT 1").await?;
                accepts(addr).await
            }
        }))
    }
}

/// A running PostgreSQL with databases `postgres` and `dev`.
#[derive(Debug)]
pub struct Postgres {
    peer: Peer,
    password: String,
}

is_peer!(Postgres);

impl Postgres {
    /// Starts one with defaults: user and password `postgres`.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// What can be chosen before the start.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// URL of database `dev` with user and password.
    pub fn url(&self) -> String {
        self.url_via(self.addr())
    }

    /// As [`url`](Self::url), by way of another address (a relay).
    pub fn url_via(&self, addr: SocketAddr) -> String {
        url_of(addr, USER, &self.password, DATABASE)
    }

    /// As [`url`](Self::url), as somebody else.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        url_of(self.addr(), user, password, DATABASE)
    }

    /// The password of user `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A superuser's connection to database `dev` over the Unix socket, which
    /// works whatever is wrong on the TCP side, read-write by default.
    pub async fn admin(&self) -> Result<Client> {
        admin(&self.dir().join("s"), self.addr().port()).await
    }

    /// Runs statements as superuser, each in a transaction of its own if there
    /// is only one.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let client = self.admin().await?;
        client
            .batch_execute(sql)
            .await
            .context("a statement was refused")
    }
}

fn url_of(addr: SocketAddr, user: &str, password: &str, database: &str) -> String {
    let plain = format!("postgres://{addr}/{database}");
    let Ok(mut url) = Url::parse(&plain) else {
        return plain;
    };
    let _ = url.set_username(user);
    let _ = url.set_password(Some(password));
    url.into()
}

async fn admin(socket: &Path, port: u16) -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(socket)
        .port(port)
        .user(USER)
        .dbname(DATABASE)
        .application_name("comind-peers")
        .options("-c default_transaction_read_only=off")
        .connect_timeout(Duration::from_secs(2));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection); // ends when the client is dropped
    Ok(client)
}

/// A data directory as `initdb` leaves it, made once per version and user.
fn template(user: Option<User>) -> Result<PathBuf> {
    let output = Command::new(POSTGRES.find()?)
        .arg("--version")
        .output()
        .context("could not ask postgres for its version")?;
    let version: String = String::from_utf8_lossy(&output.stdout)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    let uid = user.map_or_else(|| "self".to_owned(), |u| u.uid.to_string());
    let place = cache_dir()?.join(format!("{version}-{uid}"));
    if !place.is_dir() {
        let work = tempfile::tempdir()?;
        give(work.path(), user)?;
        let made = make_template(work.path(), user)?;
        let near = tempfile::tempdir_in(cache_dir()?)?;
        let copied = near.path().join("data");
        copy(&made, &copied)?;
        // Another process may have been quicker; its template is as good.
        if let Err(error) = fs::rename(&copied, &place)
            && !place.is_dir()
        {
            return Err(error).context("could not put the template in place");
        }
    }
    Ok(place)
}

fn make_template(dir: &Path, user: Option<User>) -> Result<PathBuf> {
    let data = dir.join("data");
    let password = own_file(dir, "password", user, PASSWORD)?;
    let mut initdb = Launch::new(INITDB.find()?, dir)
        .args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8"])
        .args(["--locale", "C", "--no-sync", "--pwfile"])
        .arg(password)
        .arg("-D")
        .arg(&data);
    initdb.user = user;
    run(&mut initdb.command(), "initdb")?;
    let mut single = Launch::new(POSTGRES.find()?, dir)
        .args(["--single", "-F", "-D"])
        .arg(&data)
        .arg(USER);
    single.user = user;
    let sql = own_file(dir, "sql", user, &format!("CREATE DATABASE {DATABASE}\n"))?;
    let mut command = single.command();
    command.stdin(Stdio::from(fs::File::open(sql)?));
    run(&mut command, "postgres --single")?;
    Ok(data)
}

fn run(command: &mut Command, name: &str) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("could not run {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Copies a directory with owners and modes, sharing blocks where it can.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    run(&mut command, "cp")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn client(url: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    #[tokio::test]
    async fn answers_dies_and_comes_back_with_its_data() -> Result<()> {
        let mut server = Postgres::start().await?;
        let sql = "CREATE TABLE t (n int); INSERT INTO t VALUES (7)";
        client(&server.url()).await?.batch_execute(sql).await?;
        server.kill()?;
        assert!(client(&server.url()).await.is_err());
        assert!(accepts(server.addr()).await.is_err());
        server.restart().await?;
        let client = client(&server.url()).await?;
        let row = client.query_one("SELECT n FROM t", &[]).await?;
        assert_eq!(row.get::<_, i32>(0), 7);
        Ok(())
    }

    #[tokio::test]
    async fn two_at_once_and_gone_when_dropped() -> Result<()> {
        let (one, two) = tokio::try_join!(Postgres::start(), Postgres::start())?;
        assert_ne!(one.addr(), two.addr());
        let (addr, dir) = (one.addr(), one.dir().to_owned());
        drop(one);
        assert!(accepts(addr).await.is_err());
        assert!(!dir.exists());
        client(&two.url()).await?.simple_query("SELECT 1").await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_password_of_ones_own() -> Result<()> {
        let server = Postgres::builder().password("it's/@:%").start().await?;
        client(&server.url()).await?;
        assert!(client(&server.url_as(USER, PASSWORD)).await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn settings_hold_and_the_admin_is_above_them() -> Result<()> {
        let server = Postgres::builder()
            .setting("max_connections", "5")
            .setting("superuser_reserved_connections", "2")
            .setting("default_transaction_read_only", "on")
            .start()
            .await?;
        server.execute("CREATE USER u PASSWORD 'u'").await?;
        let url = server.url_as("u", "u");
        let _held = (
            client(&url).await?,
            client(&url).await?,
            client(&url).await?,
        );
        assert!(client(&url).await.is_err());
        server.execute("CREATE TABLE t (n int)").await?;
        Ok(())
    }

    #[tokio::test]
    async fn tls_and_hba() -> Result<()> {
        let server = Postgres::builder()
            .tls(&Certificate::new()?)
            .hba("hostnossl all all all reject")
            .start()
            .await?;
        assert!(client(&server.url()).await.is_err());
        let ssl = server.admin().await?.query_one("SHOW ssl", &[]).await?;
        assert_eq!(ssl.get::<_, String>(0), "on");
        Ok(())
    }
}
