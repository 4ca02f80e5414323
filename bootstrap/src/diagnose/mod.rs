//! A bundle for whoever is to find out why something does not work: what is known here and in the
//! cluster, without secrets, as one file.
//!
//! A part that cannot be had, or not in time, is a file that says why. Secrets of the cluster are
//! never asked for; all text goes through [`redact`] on its way into the [`archive`].

pub mod redact;

mod archive;
mod cluster;
mod here;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::env::Env;
use crate::cluster::host::place::Place;
use crate::diagnose::archive::Archive;
use crate::diagnose::redact::Redactor;
use crate::services::session::Request;
use crate::store;

/// No part may take longer.
const LIMIT: Duration = Duration::from_secs(20);

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Who looks: the program's version.
    pub version: String,
    /// Where files and programs are.
    pub request: Request,
    /// The cluster.
    pub place: Place,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// Where it is.
    pub file: PathBuf,
    /// What is in it.
    pub files: Vec<String>,
    /// What could not be had.
    pub missing: Vec<String>,
    /// Its size, in bytes.
    pub bytes: usize,
}

/// One file in it, as it was found: with its secrets.
pub(in crate::diagnose) struct File {
    name: String,
    what: What,
}

/// What is in a file.
pub(in crate::diagnose) enum What {
    /// Text; of too long a one the end is kept.
    Text(String),
    /// A value.
    Json(Value),
}

impl File {
    fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            what: What::Text(text.into()),
        }
    }

    fn json(name: impl Into<String>, value: impl Serialize) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            what: What::Json(serde_json::to_value(value)?),
        })
    }
}

/// A part: its name, and how it is had.
type Part<'a> = (&'static str, BoxFuture<'a, Result<Vec<File>>>);

/// The name of a bundle's file.
pub fn usual_name(env: Env, now: Timestamp) -> String {
    let at = now.strftime("%Y%m%dT%H%M%SZ");
    format!("comind-ops-diagnosis-{}-{at}.tar.gz", env.name())
}

/// Gathers everything side by side and writes the bundle, for its owner only.
///
/// # Errors
/// When it cannot be written, or nothing can be said of what in it is secret.
pub async fn write(subject: &Subject, to: &Path) -> Result<Bundle> {
    let redactor = Redactor::new(&here::secrets(&subject.request)?)?;
    let parts = here::parts(subject)
        .into_iter()
        .chain(cluster::parts(&subject.place));
    let gathered = join_all(parts.map(|part| had(part, LIMIT))).await;
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    for gathered in gathered {
        match gathered {
            Ok(found) => files.extend(found),
            Err((name, why)) => {
                missing.push(name.to_owned());
                files.push(File::text(
                    format!("{name}.missing.txt"),
                    format!("{why:#}\n"),
                ));
            }
        }
    }
    // Taking secrets out of megabytes is work for a thread of its own.
    let packed = tokio::task::spawn_blocking(move || pack(&files, &redactor)).await;
    let (packed, files) = packed.context("the bundle could not be packed")??;
    store::write(to, &packed)?;
    Ok(Bundle {
        file: to.to_owned(),
        files,
        missing,
        bytes: packed.len(),
    })
}

async fn had(
    (name, part): Part<'_>,
    limit: Duration,
) -> Result<Vec<File>, (&'static str, anyhow::Error)> {
    let ended = tokio::time::timeout(limit, part).await;
    ended
        .unwrap_or_else(|_| Err(anyhow!("no answer within {limit:?}")))
        .map_err(|why| (name, why))
}

fn pack(files: &[File], redactor: &Redactor) -> Result<(Vec<u8>, Vec<String>)> {
    let mut archive = Archive::new();
    for File { name, what } in files {
        let text = match what {
            What::Text(text) => redactor.text(text),
            What::Json(value) => redactor.value(value.clone()),
        };
        archive.add(&redactor.text(name), &text)?;
    }
    archive.finish()
}

/// A part that needs no waiting.
fn at_once<'a>(
    name: &'static str,
    look: impl FnOnce() -> Result<Vec<File>> + Send + 'static,
) -> Part<'a> {
    let looked = tokio::task::spawn_blocking(look);
    let looked = async move { looked.await.context("the look broke off")? };
    (name, looked.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_or_fails_is_told() {
        let hangs: Part<'_> = ("hangs", std::future::pending().boxed());
        let (name, why) = had(hangs, Duration::from_millis(10))
            .await
            .err()
            .expect("it hangs");
        assert_eq!(
            (name, why.to_string().as_str()),
            ("hangs", "no answer within 10ms")
        );
        let fails = at_once("fails", || Err(anyhow!("no such file")));
        let (name, why) = had(fails, LIMIT).await.err().expect("it fails");
        assert_eq!((name, why.to_string().as_str()), ("fails", "no such file"));
    }

    #[test]
    fn names_have_the_environment_and_the_moment() {
        assert_eq!(
            usual_name(Env::Qa, Timestamp::UNIX_EPOCH),
            "comind-ops-diagnosis-qa-19700101T000000Z.tar.gz"
        );
    }
}
