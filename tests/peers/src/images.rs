//! Images for a [`Dockerd`], made on the spot from this machine's own
//! programs: an image registry is neither needed nor asked.
//!
//! Each holds the real server, the libraries which it is linked to, and a
//! shell with a few programs, and takes environment and commands as the public
//! image of that name does. The tars are kept in `images` beside the tools,
//! named after what went into them, so that only a first run builds them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::dockerd::Dockerd;
use crate::elasticmq::jars;
use crate::rootfs::{Recipe, with_base};
use crate::tool::Tool;

/// `POSTGRES_USER`, `POSTGRES_PASSWORD` (needed), `POSTGRES_DB`, `PGDATA`; data
/// in `/var/lib/postgresql/data`; port 5432; `pg_isready`, `psql`. Ends on
/// SIGINT.
pub const POSTGRES: &str = "comind-ops-test/postgres:15";
/// `MINIO_ROOT_USER`, `MINIO_ROOT_PASSWORD`; command `server /data
/// --console-address :9001`; port 9000; has `curl`.
pub const MINIO: &str = "comind-ops-test/minio:latest";
/// Command `redis-server` with options; data in `/data`; port 6379; `redis-cli`.
pub const REDIS: &str = "comind-ops-test/redis:7";
/// Configuration in `/opt/elasticmq.conf`; data in `/data`; port 9324; has `wget`.
pub const ELASTICMQ: &str = "comind-ops-test/elasticmq:latest";

const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds what is missing and loads all four images.
pub async fn load_all(dockerd: &Dockerd) -> Result<[&'static str; 4]> {
    let names = [POSTGRES, MINIO, REDIS, ELASTICMQ];
    for name in names {
        load(dockerd, name).await?;
    }
    Ok(names)
}

/// Builds one image if it is missing, and loads it: one of the names above.
pub async fn load(dockerd: &Dockerd, name: &str) -> Result<()> {
    let recipe = match name {
        POSTGRES => postgres()?,
        MINIO => minio()?,
        REDIS => redis()?,
        ELASTICMQ => elasticmq()?,
        _ => bail!("there is no recipe for image {name}"),
    };
    let (changes, made) = (recipe.changes.clone(), move || recipe.build());
    let tar = tokio::task::spawn_blocking(made)
        .await?
        .with_context(|| format!("could not build image {name}"))?;
    dockerd.import(&tar, name, &changes).await
}

fn postgres() -> Result<Recipe> {
    let program = Tool::debian("postgres", "postgresql").find()?;
    let program = fs::canonicalize(program).context("postgres leads nowhere")?;
    let bin = program.parent().context("postgres lies in no directory")?;
    let root = bin.parent().context("PostgreSQL lies in no directory")?;
    let version = root.file_name().context("PostgreSQL has no version")?;
    let names = [
        "postgres",
        "initdb",
        "pg_ctl",
        "pg_isready",
        "psql",
        "pg_dump",
        "pg_restore",
    ];
    let mut linked: Vec<PathBuf> = names.iter().map(|name| bin.join(name)).collect();
    linked.extend(["dict_snowball.so", "plpgsql.so"].map(|l| root.join("lib").join(l)));
    Ok(Recipe {
        name: "postgres",
        linked: with_base(linked)?,
        plain: vec![
            Path::new("/usr/share/postgresql").join(version),
            "/usr/share/zoneinfo".into(),
        ],
        without: vec!["usr/share/postgresql/*/man", "usr/share/zoneinfo/right"],
        texts: vec![("entrypoint", POSTGRES_ENTRYPOINT.to_owned())],
        changes: vec![
            "ENTRYPOINT [\"/entrypoint\"]".into(),
            "CMD [\"postgres\"]".into(),
            format!("ENV PATH={}:{SEARCH}", bin.display()),
            "ENV PGDATA=/var/lib/postgresql/data".into(),
            "VOLUME /var/lib/postgresql/data".into(),
            "EXPOSE 5432/tcp".into(),
        ],
    })
}

fn minio() -> Result<Recipe> {
    let program = Tool::built("minio").find()?;
    let curl = Tool::debian("curl", "curl").find()?;
    Ok(Recipe {
        name: "minio",
        linked: with_base(vec![curl])?,
        plain: vec![program.clone()],
        texts: vec![("entrypoint", MINIO_ENTRYPOINT.to_owned())],
        changes: vec![
            "ENTRYPOINT [\"/entrypoint\"]".into(),
            "CMD [\"minio\"]".into(),
            format!(
                "ENV PATH={SEARCH}:{}",
                program.parent().unwrap_or(Path::new("/")).display()
            ),
            "VOLUME /data".into(),
            "EXPOSE 9000/tcp".into(),
        ],
        ..Recipe::default()
    })
}

fn redis() -> Result<Recipe> {
    let server = Tool::debian("redis-server", "redis-server").find()?;
    let client = Tool::debian("redis-cli", "redis-tools").find()?;
    Ok(Recipe {
        name: "redis",
        linked: with_base(vec![server, client])?,
        texts: vec![("entrypoint", REDIS_ENTRYPOINT.to_owned())],
        changes: vec![
            "ENTRYPOINT [\"/entrypoint\"]".into(),
            "CMD [\"redis-server\"]".into(),
            format!("ENV PATH={SEARCH}"),
            "WORKDIR /data".into(),
            "VOLUME /data".into(),
            "EXPOSE 6379/tcp".into(),
        ],
        ..Recipe::default()
    })
}

fn elasticmq() -> Result<Recipe> {
    let java = Tool::debian("java", "default-jre-headless").find()?;
    let java = fs::canonicalize(java).context("java leads nowhere")?;
    let home = java
        .parent()
        .and_then(Path::parent)
        .context("java lies in no directory")?;
    let mut linked = vec![
        java.clone(),
        home.join("lib/server/libjvm.so"),
        Tool::debian("wget", "wget").find()?,
    ];
    for name in [
        "libjava.so",
        "libnet.so",
        "libnio.so",
        "libzip.so",
        "libjimage.so",
    ] {
        linked.push(home.join("lib").join(name));
    }
    let script = format!(
        "#!/bin/sh\nexec {} -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
         -Dconfig.file=/opt/elasticmq.conf \"$@\" -cp '{}/*' org.elasticmq.server.Main\n",
        java.display(),
        jars()?.display()
    );
    Ok(Recipe {
        name: "elasticmq",
        linked: with_base(linked)?,
        plain: vec![home.join("lib"), home.join("conf"), jars()?],
        without: vec!["*/lib/src.zip", "*/lib/ct.sym", "*/classes_nocoops.jsa"],
        texts: vec![
            ("entrypoint", script),
            ("opt/elasticmq.conf", ELASTICMQ_CONF.to_owned()),
        ],
        changes: vec![
            "ENTRYPOINT [\"/entrypoint\"]".into(),
            format!("ENV PATH={SEARCH}"),
            "VOLUME /data".into(),
            "EXPOSE 9324/tcp".into(),
        ],
    })
}

const POSTGRES_ENTRYPOINT: &str = r#"#!/bin/sh
# Makes a data directory at the first start, then runs the server as uid 999.
set -e
case "${1:-}" in -*) set -- postgres "$@" ;; esac
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R 999:999 "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "Error: the database is not initialized and POSTGRES_PASSWORD is not set" >&2
        exit 1
    fi
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb -U "$user" --pwfile=/tmp/password -A scram-sha-256 --auth-local=trust -E UTF8 --no-sync
    rm /tmp/password
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    # The first server listens on its socket only, until all is made.
    pg_ctl -w -o "-c listen_addresses=''" start
    if [ "$database" != postgres ]; then
        psql -U "$user" -d postgres -v ON_ERROR_STOP=1 -v name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
    fi
    pg_ctl -w -m fast stop
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
"#;

const MINIO_ENTRYPOINT: &str = r#"#!/bin/sh
[ "$1" = minio ] || set -- minio "$@"
exec "$@"
"#;

const REDIS_ENTRYPOINT: &str = r#"#!/bin/sh
# Listens to all, as a container's own network is its fence.
set -e
case "$1" in -*) set -- redis-server "$@" ;; esac
[ "$1" = redis-server ] || exec "$@"
shift
if [ "$(id -u)" = 0 ]; then
    chown -R 999:999 /data
    exec setpriv --reuid=999 --regid=999 --clear-groups redis-server --protected-mode no "$@"
fi
exec redis-server --protected-mode no "$@"
"#;

const ELASTICMQ_CONF: &str = r#"include classpath("application.conf")
rest-sqs { bind-hostname = "0.0.0.0", bind-port = 9324 }
rest-stats { enabled = false }
"#;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::ensure;
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::get;
    use crate::port::Port;
    use crate::wait::wait_for;

    /// A container as `comind-ops services` makes it: a volume, a health
    /// command, a port on loopback.
    async fn run(
        dockerd: &Dockerd,
        image: &str,
        port: (u16, u16),
        mut body: Value,
        health: &str,
    ) -> Result<String> {
        let inside = format!("{}/tcp", port.0);
        body["Image"] = image.into();
        body["ExposedPorts"] = json!({ &inside: {} });
        body["Healthcheck"] = json!({"Test": ["CMD-SHELL", health], "Interval": 500_000_000,
            "Timeout": 3_000_000_000_u64, "Retries": 200});
        body["HostConfig"] = json!({"NetworkMode": "n", "PortBindings":
            { &inside: [{"HostIp": "127.0.0.1", "HostPort": port.1.to_string()}] }});
        let answer = dockerd
            .request(Method::POST, "/containers/create", &body.to_string())
            .await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let id = answer["Id"].as_str().context("no id")?.to_owned();
        let path = format!("/containers/{id}/start");
        dockerd.request(Method::POST, &path, "").await?;
        Ok(id)
    }

    async fn healthy(dockerd: &Dockerd, id: &str) -> Result<()> {
        wait_for("health", Duration::from_secs(60), async || {
            let path = format!("/containers/{id}/json");
            let answer = dockerd.request(Method::GET, &path, "").await?;
            let state: Value = serde_json::from_str(&answer)?;
            let state = &state["State"];
            ensure!(state["Health"]["Status"] == "healthy", "{state}");
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn all_four_run_and_answer_on_published_ports() -> Result<()> {
        let dockerd = Dockerd::start().await?;
        load_all(&dockerd).await?;
        let network = r#"{"Name":"n"}"#;
        dockerd
            .request(Method::POST, "/networks/create", network)
            .await?;
        let ports = [Port::free()?, Port::free()?, Port::free()?, Port::free()?];
        let [pg, mi, re, el] = [0, 1, 2, 3].map(|i: usize| ports[i].number());
        let env = json!({"Env": ["POSTGRES_PASSWORD=p", "POSTGRES_USER=u", "POSTGRES_DB=d-b"]});
        let ready = "pg_isready -h 127.0.0.1 -U u";
        let mut ids = vec![run(&dockerd, POSTGRES, (5432, pg), env, ready).await?];
        let body = json!({"Cmd": ["server", "/data", "--console-address", ":9001"]});
        let ready = "curl -fs http://127.0.0.1:9000/minio/health/ready";
        ids.push(run(&dockerd, MINIO, (9000, mi), body, ready).await?);
        let body = json!({"Cmd": ["redis-server", "--appendonly", "yes", "--dir", "/data"]});
        let ready = "redis-cli ping | grep -q PONG";
        ids.push(run(&dockerd, REDIS, (6379, re), body, ready).await?);
        let ready = "wget -q -O /dev/null 'http://127.0.0.1:9324/?Action=ListQueues'";
        ids.push(run(&dockerd, ELASTICMQ, (9324, el), json!({}), ready).await?);
        for id in &ids {
            healthy(&dockerd, id).await?;
        }
        let url = format!("postgres://u:p@127.0.0.1:{pg}/d-b");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.simple_query("SELECT 1").await?;
        let url = format!("redis://127.0.0.1:{re}");
        let mut redis = ::redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        let pong: String = ::redis::cmd("PING").query_async(&mut redis).await?;
        assert_eq!(pong, "PONG");
        get(ports[1].addr(), "/minio/health/live").await?;
        get(ports[3].addr(), "/?Action=ListQueues").await?;
        Ok(())
    }
}
