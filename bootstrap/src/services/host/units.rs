//! The command lines of the servers: settings in, units out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::fingerprint;
use crate::home::Home;
use crate::programs::Programs;
use crate::services::catalog::Service;
use crate::services::host::user;
use crate::services::settings::Settings;
use crate::store;
use crate::supervise::unit::{StopSignal, Unit};

/// What units are made from.
pub struct Maker<'a> {
    /// Where files are.
    pub home: &'a Home,
    /// Where programs are.
    pub programs: &'a Programs,
    /// What is wanted.
    pub settings: &'a Settings,
}

impl Maker<'_> {
    /// The unit of a service. Also writes the configuration file that it reads, if it reads one.
    ///
    /// # Errors
    /// When its program is missing.
    pub fn unit(&self, service: Service) -> Result<Unit> {
        match service {
            Service::Postgresql => self.postgresql(),
            Service::Minio => self.minio(),
            Service::Redis => self.redis(),
            Service::Elasticmq => self.elasticmq(),
        }
    }

    fn postgresql(&self) -> Result<Unit> {
        let data = self.home.data(Service::Postgresql.name());
        let mut unit = self.plain(
            Service::Postgresql,
            self.programs.postgresql()?.join("postgres"),
            data.clone(),
        )?;
        unit.args = vec![
            "-D".into(),
            text(&data),
            "-c".into(),
            "listen_addresses=127.0.0.1".into(),
            "-c".into(),
            format!("port={}", self.settings.services.postgresql.port),
            // A socket file's path may not exceed 107 bytes, and loopback is enough.
            "-c".into(),
            "unix_socket_directories=".into(),
        ];
        // SIGINT: roll back, disconnect everybody, write all down. SIGTERM would wait for clients.
        unit.stop_signal = StopSignal::Int;
        unit.run_as = user::unprivileged()?;
        Ok(unit)
    }

    fn minio(&self) -> Result<Unit> {
        let of = &self.settings.services.minio;
        let data = self.home.data(Service::Minio.name());
        let program = self.programs.find("minio", "run `make setup`")?;
        let mut unit = self.plain(Service::Minio, program, data.clone())?;
        let certificates = unit.run_dir.join("certs");
        unit.args = vec![
            "server".into(),
            "--address".into(),
            format!("127.0.0.1:{}", of.port),
            "--console-address".into(),
            format!("127.0.0.1:{}", of.console_port),
            "--certs-dir".into(),
            text(&certificates),
            text(&data),
        ];
        for (key, value) in [
            ("MINIO_ROOT_USER", of.access_key.as_str()),
            ("MINIO_ROOT_PASSWORD", of.secret_key.expose()),
            // It asks nobody on the internet for newer releases.
            ("MINIO_UPDATE", "off"),
        ] {
            unit.env.insert(key.into(), value.into());
        }
        Ok(unit)
    }

    fn redis(&self) -> Result<Unit> {
        let data = self.home.data(Service::Redis.name());
        let install = "run `make setup`, or: apt-get install redis-server";
        let program = self.programs.find("redis-server", install)?;
        let mut unit = self.plain(Service::Redis, program, data.clone())?;
        unit.args = [
            "--port",
            &self.settings.services.redis.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--daemonize",
            "no",
            "--appendonly",
            "yes",
            "--dir",
            &text(&data),
        ]
        .map(str::to_owned)
        .to_vec();
        Ok(unit)
    }

    fn elasticmq(&self) -> Result<Unit> {
        let data = self.home.data(Service::Elasticmq.name());
        let install = "run `make setup`, or: apt-get install default-jre-headless";
        let java = self.programs.find("java", install)?;
        let jars = self.programs.elasticmq()?;
        let mut unit = self.plain(Service::Elasticmq, java, data.clone())?;
        let port = self.settings.services.elasticmq.port;
        let config = elasticmq_config("127.0.0.1", port, port, &data);
        let file = unit.run_dir.join("elasticmq.conf");
        store::write(&file, config.as_bytes())?;
        unit.args = vec![
            "-Xmx64m".into(),
            "-XX:+UseSerialGC".into(),
            // A server for a laptop's queues: a start in half the time is worth more than peak speed.
            "-XX:TieredStopAtLevel=1".into(),
            format!("-Dconfig.file={}", file.display()),
            "-cp".into(),
            format!("{}/*", jars.display()),
            "org.elasticmq.server.Main".into(),
        ];
        unit.reads = fingerprint::of_bytes(config.as_bytes());
        Ok(unit)
    }

    /// What all units have in common. Makes the directories.
    fn plain(&self, service: Service, program: PathBuf, data: PathBuf) -> Result<Unit> {
        let run_dir = self.home.run(service.name());
        fs::create_dir_all(&run_dir)
            .with_context(|| format!("cannot make {}", run_dir.display()))?;
        if service != Service::Postgresql {
            fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        }
        Ok(Unit {
            name: service.name().to_owned(),
            program,
            args: Vec::new(),
            env: environment(&run_dir),
            directory: data,
            run_as: None,
            stop_signal: StopSignal::Term,
            stop_grace_ms: u64::try_from(service.stop_grace().as_millis())?,
            log: self.home.log(service.name()),
            reads: String::new(),
            network: None,
            run_dir,
        })
    }
}

/// ElasticMQ's configuration (HOCON): loopback, queues and messages kept on disk, no second port
/// for statistics. Keys as in its own reference configuration, release 1.6.
///
/// `bind` and `bind_port` are where it listens, `port` is what clients are told to connect to.
pub fn elasticmq_config(bind: &str, bind_port: u16, port: u16, data: &Path) -> String {
    let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
    let queues = quoted(data.join("queues.conf"));
    let messages = format!(
        "{:?}",
        format!("jdbc:h2:{}", data.join("messages").display())
    );
    format!(
        "include classpath(\"application.conf\")\n\
         node-address {{ protocol = http, host = \"127.0.0.1\", port = {port}, context-path = \"\" }}\n\
         rest-sqs {{ enabled = true, bind-hostname = \"{bind}\", bind-port = {bind_port} }}\n\
         rest-stats {{ enabled = false }}\n\
         queues-storage {{ enabled = true, path = {queues} }}\n\
         messages-storage {{ enabled = true, uri = {messages} }}\n"
    )
}

/// A server gets nothing of our own environment but where programs are and what time it is.
fn environment(home: &Path) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("HOME".to_owned(), text(home)),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    for key in ["PATH", "TZ"] {
        if let Ok(value) = std::env::var(key) {
            env.insert(key.to_owned(), value);
        }
    }
    env
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::elasticmq_config;

    #[test]
    fn elasticmq_is_told_all_it_needs() {
        let data = std::path::Path::new("/d");
        insta::assert_snapshot!(elasticmq_config("127.0.0.1", 9324, 9324, data));
    }
}
