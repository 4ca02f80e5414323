//! The collector's configuration as `up` writes it, and when it may be written again.
//!
//! The file says in its first line what we wrote. As long as that holds it is ours and follows the
//! settings; once a person has edited it, it is theirs and stays.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::fingerprint;
use crate::home::Home;
use crate::services::catalog::Service;
use crate::services::settings::Settings;
use crate::store;

/// What became of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// It was not there, or was ours and no longer fitted the settings.
    Fresh,
    /// It is as it should be.
    Same,
    /// A person edited it, so it stays as it is, though it differs from what the settings ask for.
    Theirs,
}

/// Writes the configuration where that is ours to do.
///
/// # Errors
/// When the file cannot be read or written.
pub fn ensure(home: &Home, settings: &Settings) -> Result<Written> {
    let path = home.serve_config();
    let wanted = signed(&text(settings, &home.path().join("serve")));
    let there = store::read(&path)?;
    match there {
        Some(there) if there == wanted => return Ok(Written::Same),
        Some(there) if !ours(&there) => return Ok(Written::Theirs),
        _ => {}
    }
    store::write(&path, wanted.as_bytes())?;
    Ok(Written::Fresh)
}

const SIGNATURE: &str = "# Written by `comind-ops up` ";

fn signed(body: &str) -> String {
    let print = fingerprint::of_bytes(body.as_bytes());
    format!("{SIGNATURE}({print}). Edit it and it is yours: it will not be written again.\n{body}")
}

/// Whether the text is as we once wrote it.
fn ours(text: &str) -> bool {
    text.split_once('\n')
        .is_some_and(|(_, body)| signed(body) == text)
}

/// One block for each service, in JSON strings, which are YAML strings too.
fn text(settings: &Settings, data_dir: &Path) -> String {
    let mut out = format!(
        "api: {{ listen: \"127.0.0.1:{}\" }}\ndata_dir: {}\ntargets:\n",
        settings.api.port,
        quoted(&data_dir.display().to_string())
    );
    for service in settings.wanted() {
        let url = quoted(&target_url(service, settings));
        // The buffer is a String: writing to it cannot fail.
        let _ = write!(
            out,
            "  - name: {name}\n    kind: {name}\n    required: {}\n    url: {url}\n    interval: 1s\n    timeout: 1s\n",
            service.required(),
            name = service.name(),
        );
        out.push_str(&more(service, settings));
    }
    out
}

fn target_url(service: Service, settings: &Settings) -> String {
    let of = &settings.services;
    match service {
        Service::Postgresql => format!(
            "postgres://{}:{}@127.0.0.1:{}/{}",
            escaped(&of.postgresql.user),
            escaped(of.postgresql.password.expose()),
            of.postgresql.port,
            escaped(&of.postgresql.database)
        ),
        Service::Minio => format!("http://127.0.0.1:{}", of.minio.port),
        Service::Redis => format!("redis://127.0.0.1:{}", of.redis.port),
        Service::Elasticmq => format!("http://127.0.0.1:{}", of.elasticmq.port),
    }
}

fn more(service: Service, settings: &Settings) -> String {
    let of = &settings.services;
    let list = |names: Vec<String>| {
        names
            .iter()
            .map(|name| quoted(name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match service {
        Service::Minio => format!(
            "    access_key: {}\n    secret_key: {}\n    buckets: [{}]\n",
            quoted(&of.minio.access_key),
            quoted(of.minio.secret_key.expose()),
            list(of.minio.buckets.clone())
        ),
        Service::Elasticmq => {
            let names = of.elasticmq.queues.iter().map(|queue| queue.name.clone());
            format!("    queues: [{}]\n", list(names.collect()))
        }
        Service::Postgresql | Service::Redis => String::new(),
    }
}

/// A YAML string which is also protected from `${…}`, as the collector reads it: `$$` is a dollar.
fn quoted(text: &str) -> String {
    format!("{:?}", text.replace('$', "$$"))
}

/// Percent-encoded for a part of a URL.
fn escaped(text: &str) -> String {
    crate::services::http::encode(text)
}

#[cfg(test)]
mod tests {
    use super::{Written, ensure, ours, signed, text};
    use crate::home::{Home, Surroundings};
    use crate::services::settings::Settings;

    #[test]
    fn the_default_configuration() {
        let data = std::path::Path::new("/home/data");
        insta::assert_snapshot!(text(&Settings::default(), data));
    }

    #[test]
    fn ours_follows_the_settings_theirs_stays() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let home = Home::choose(&Surroundings {
            asked: Some(dir.path().to_owned()),
            ..Surroundings::default()
        })?;
        let mut settings = Settings::default();
        assert_eq!(ensure(&home, &settings)?, Written::Fresh);
        assert_eq!(ensure(&home, &settings)?, Written::Same);
        settings.services.redis.port = 6380;
        assert_eq!(ensure(&home, &settings)?, Written::Fresh);
        let mut edited = std::fs::read_to_string(home.serve_config())?;
        edited.push_str("# mine\n");
        std::fs::write(home.serve_config(), &edited)?;
        settings.services.redis.port = 6381;
        assert_eq!(ensure(&home, &settings)?, Written::Theirs);
        assert_eq!(std::fs::read_to_string(home.serve_config())?, edited);
        Ok(())
    }

    #[test]
    fn a_signature_fits_its_text_only() {
        assert!(ours(&signed("a: 1\n")));
        assert!(!ours(&signed("a: 1\n").replace('1', "2")));
        assert!(!ours("a: 1\n"));
        assert!(!ours(""));
    }
}
