//! The step that makes the logins of the platform's services, once, and hands the collector those
//! that it looks with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use serde_json::Value;

use crate::cluster::env::Env;
use crate::cluster::host::steps::Known;
use crate::cluster::objects;
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Step};
use crate::platform::logins::{self, MINIO_USER, SECRET};
use crate::secret::Secret;
use crate::services::settings::Settings;

/// The services that have a login: its Secret, and which of its keys holds the password.
const SERVICES: [(&str, &str, &str); 3] = [
    ("postgresql", "postgresql-auth", "password"),
    ("minio", "minio-auth", "secret_key"),
    ("redis", "redis-auth", "password"),
];

/// The step.
pub struct Logins {
    known: Arc<Known>,
    /// Those of this machine's services.
    here: BTreeMap<&'static str, Secret>,
}

/// The passwords that there are, by their service, and the objects that hold them.
pub struct Seen {
    passwords: BTreeMap<&'static str, Secret>,
    objects: Vec<objects::Seen>,
}

impl Logins {
    /// For a cluster beside services with these settings.
    pub fn new(known: &Arc<Known>, settings: &Settings) -> Self {
        let of = &settings.services;
        // Where nobody watches them, nobody is to know them.
        let here = match known.ways.reach_this_machine() {
            true => BTreeMap::from([
                ("host-postgresql", of.postgresql.password.clone()),
                ("host-minio", of.minio.secret_key.clone()),
            ]),
            false => BTreeMap::new(),
        };
        Self {
            known: known.clone(),
            here,
        }
    }

    async fn client(&self) -> Result<Client> {
        objects::client(&self.known.place.kubeconfig()).await
    }
}

/// All Secrets, of passwords that are there. Pure.
fn secrets(env: Env, all: &BTreeMap<&str, Secret>, here: &BTreeMap<&str, Secret>) -> Vec<Value> {
    let mut made = Vec::new();
    for (service, name, key) in SERVICES {
        let Some(password) = all.get(service) else {
            continue;
        };
        let mut data = vec![(key, password.expose())];
        if service == "minio" {
            data.push(("access_key", MINIO_USER));
        }
        made.push(logins::secret(&namespace(env), name, &[], &data));
    }
    // The collector's is made when nothing is missing in it.
    if made.len() == SERVICES.len() {
        let data: Vec<(&str, &str)> = all
            .iter()
            .chain(here)
            .map(|(key, password)| (*key, password.expose()))
            .collect();
        made.push(logins::secret("monitoring", SECRET, &[], &data));
    }
    made
}

fn namespace(env: Env) -> String {
    format!("platform-{}", env.name())
}

impl Step for Logins {
    type Seen = Seen;

    fn id(&self) -> Id {
        "logins"
    }

    fn needs(&self) -> &'static [Id] {
        &["base"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn observe(&self) -> Result<Seen> {
        let client = self.client().await?;
        let env = self.known.place.env;
        let mut passwords = BTreeMap::new();
        for (service, name, key) in SERVICES {
            if let Some(password) = logins::look(&client, &namespace(env), name, key).await? {
                passwords.insert(service, password);
            }
        }
        let wanted = secrets(env, &passwords, &self.here);
        let objects = objects::look(&client, &wanted).await?;
        Ok(Seen { passwords, objects })
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let missing = SERVICES
            .iter()
            .filter(|(service, ..)| !seen.passwords.contains_key(service));
        let mut changes: Vec<Change> = missing
            .map(|(service, ..)| Change::new(format!("make a login for the platform's {service}")))
            .collect();
        changes.extend(objects::diff(&seen.objects));
        changes
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let mut passwords = seen.passwords;
        for (service, ..) in SERVICES {
            if !passwords.contains_key(service) {
                passwords.insert(service, logins::password()?);
            }
        }
        let client = self.client().await?;
        let wanted = secrets(self.known.place.env, &passwords, &self.here);
        let all = objects::look(&client, &wanted).await?;
        objects::apply(&client, &all)
            .await
            .context("cannot keep the logins")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collector_gets_all_or_nothing() {
        let one = BTreeMap::from([("redis", Secret::new("a"))]);
        let here = BTreeMap::from([("host-minio", Secret::new("b"))]);
        assert_eq!(secrets(Env::Dev, &one, &here).len(), 1);
        let all = BTreeMap::from(SERVICES.map(|(service, ..)| (service, Secret::new("a"))));
        let made = secrets(Env::Dev, &all, &here);
        let keys: Vec<&String> = made[3]["data"].as_object().expect("data").keys().collect();
        assert_eq!(keys, ["host-minio", "minio", "postgresql", "redis"]);
        assert!(made[1]["data"]["access_key"].is_string());
    }
}
