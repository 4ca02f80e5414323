//! The platform's own repository, served inside it: git's HTTP backend with a login.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cluster::env::Env;
use crate::cluster::known::Known;
use crate::cluster::objects;
use crate::cluster::ready::{self, Workload};
use crate::cluster::ways::Ways;
use crate::event::About;
use crate::plan::graph::Id;
use crate::plan::step::{Change, Planned, Step};
use crate::platform::source::{Login, Source};
use crate::platform::{applications, logins};
use crate::secret::Secret;
use crate::wait::Look;

/// Where it runs.
pub const NAMESPACE: &str = "platform";
/// Where Argo CD finds it.
pub const REPOSITORY: &str = "http://git.platform.svc.cluster.local/git/platform.git";
/// Its port on the node, as its manifest has it.
pub const NODE_PORT: u16 = 30418;
/// Who pushes and fetches.
pub const USER: &str = "comind";
const LOGIN: &str = "git-login";

/// The step that runs it on this image.
///
/// # Errors
/// When its manifest is wrong.
pub fn step(known: &Arc<Known>, image: &str) -> Result<Box<dyn Planned>> {
    let text = known.ways.adapted(include_str!("../../manifests/git.yaml"));
    let text = text.replace("@IMAGE@", image);
    Ok(Box::new(Git {
        kubeconfig: known.place.kubeconfig(),
        address: known.ways.node_port(NODE_PORT),
        wanted: objects::parse(&objects::with_edition(&text))?,
    }))
}

/// Where it is on this machine's loopback, where the cluster's nodes cannot be reached.
pub fn port(env: Env) -> u16 {
    match env {
        Env::Dev => 8181,
        Env::Stage => 8182,
        Env::Qa => 8183,
        Env::Prod => 8184,
    }
}

/// Where it is reached from this machine. Names of the cluster mean nothing here, and a proxy for the
/// world outside does not know its node.
pub fn url(ways: &Ways) -> String {
    let address = ways.node_port(NODE_PORT);
    format!("http://{address}/git/platform.git")
}

/// The password of the repository.
///
/// # Errors
/// When the cluster does not answer.
pub async fn login(kubeconfig: &std::path::Path) -> Result<Option<Secret>> {
    let client = objects::client(kubeconfig).await?;
    logins::look(&client, NAMESPACE, LOGIN, "password").await
}

struct Git {
    kubeconfig: PathBuf,
    address: SocketAddr,
    wanted: Vec<Value>,
}

struct Seen {
    login: Option<Secret>,
    objects: Vec<objects::Seen>,
}

/// The login, for the server and for Argo CD.
fn both(password: &Secret) -> [Value; 2] {
    let login = Login {
        user: USER.to_owned(),
        password: password.clone(),
    };
    let password = password.expose();
    let data = [
        ("username", USER),
        ("password", password),
        ("users", &format!("{USER}:{password}\n")),
    ];
    [
        logins::secret(NAMESPACE, LOGIN, &[], &data),
        Source::Own.secret(Some(&login)),
    ]
}

impl Step for Git {
    type Seen = Seen;

    fn id(&self) -> Id {
        "git"
    }

    fn needs(&self) -> &'static [Id] {
        &["base", "first-images", "dns", "volumes"]
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(120)
    }

    async fn observe(&self) -> Result<Seen> {
        let client = objects::client(&self.kubeconfig).await?;
        let login = logins::look(&client, NAMESPACE, LOGIN, "password").await?;
        let mut wanted = self.wanted.clone();
        if let Some(password) = &login {
            wanted.extend(both(password));
        }
        let objects = objects::look(&client, &wanted).await?;
        Ok(Seen { login, objects })
    }

    fn diff(&self, seen: &Seen) -> Vec<Change> {
        let mut changes = objects::diff(&seen.objects);
        if seen.login.is_none() {
            changes.push(Change::new("make a login for the repository"));
        }
        changes
    }

    async fn apply(&self, seen: Seen, _: About<'_>) -> Result<()> {
        let client = objects::client(&self.kubeconfig).await?;
        if seen.login.is_none() {
            let made = both(&logins::password()?);
            objects::apply(&client, &objects::look(&client, &made).await?).await?;
        }
        objects::apply(&client, &seen.objects).await?;
        // Whoever waits for the repository tries again now. At first there is nobody.
        let waiting = applications::list(&client).await.unwrap_or_default();
        applications::refresh(&client, &waiting).await
    }

    async fn ready(&self) -> Look<(), String> {
        let works = [Workload::Deployment(NAMESPACE, "git")];
        match ready::all(&self.kubeconfig, &works).await {
            Look::Done(()) => {}
            other => return other,
        }
        // The way to it is laid a moment later.
        match TcpStream::connect(self.address).await {
            Ok(_) => Look::Done(()),
            Err(error) => Look::NotYet(format!("{}: {error}", self.address)),
        }
    }
}
