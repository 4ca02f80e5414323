//! Docker: containers, each a state of its own, told by the daemon's events; what happens to a
//! container is a hint for the target inside it. The look asks the daemon for a sign of life.
//! Must not know what runs in a container.

mod judge;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use comind_model::observation::Hint;
use comind_model::reason::Reason;
use comind_model::target::Target;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::glob::glob;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session};
use crate::source::watch::{Teller, WATCH, WATCH_BROKEN, Watch};

/// The kind `docker`.
pub const KIND: Kind = Kind::of::<DockerSettings>();
/// The kind of the part that one container is.
pub const CONTAINER: &str = "docker_container";
/// The hint that something happened to the container of a target.
pub const CONTAINER_EVENT: &str = "container_event";

/// The label with which a container names the target inside it.
const TARGET: &str = "comind.pro/target";
/// How long the daemon may take for one answer, in seconds.
const ANSWER: u64 = 10;
/// All containers are looked through this often: it proves that the daemon still tells, and
/// finds what the events may have missed.
const RELIST: Duration = Duration::from_secs(15);
/// Containers that one target may have.
const MOST: usize = 1_000;

/// Settings of kind `docker`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "docker")]
pub struct DockerSettings {
    /// The daemon's socket.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    /// Names of containers that are watched; `*` stands for any text. All by default.
    #[serde(default = "all")]
    pub containers: Vec<String>,
    /// Only containers with these labels, `NAME` or `NAME=VALUE`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Containers that the platform is down without; `*` stands for any text.
    #[serde(default)]
    pub require: Vec<String>,
    /// For a container, the target inside it, which is looked at as soon as something happens to the
    /// container. The container's label `comind.pro/target` says the same.
    #[serde(default)]
    pub hints: BTreeMap<String, String>,
}

fn socket() -> PathBuf {
    PathBuf::from("/var/run/docker.sock")
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Settings for DockerSettings {
    const NAME: &'static str = "docker";
    const ABOUT: &'static str = "A watch of containers, each a state of its own (running, healthy), and a hint for the target inside. The look pings the daemon.";
    const METRICS: &'static [FactMetric] = &[
        FactMetric {
            name: "containers",
            help: "Containers that are watched",
        },
        FactMetric {
            name: "containers_down",
            help: "Those that do not run, or are not healthy",
        },
    ];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        Ok(Box::new(Docker { settings: self }))
    }
}

#[derive(Clone)]
struct Docker {
    settings: DockerSettings,
}

impl Docker {
    async fn client(&self) -> Result<Client, Failure> {
        let socket = self.settings.socket.display().to_string();
        // Its own message for a missing socket tells nothing of what to do.
        tokio::net::UnixStream::connect(&self.settings.socket)
            .await
            .map_err(|error| reach(&socket, &error))?;
        let client = Client::connect_with_unix(&socket, ANSWER, bollard::API_DEFAULT_VERSION)
            .map_err(|error| of("connect to the daemon", &error))?;
        client
            .negotiate_version()
            .await
            .map_err(|error| of("agree on a version with the daemon", &error))
    }
}

fn reach(socket: &str, error: &std::io::Error) -> Failure {
    let tried = format!("connect to {socket}");
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(
            Reason::Refused,
            format!("failed to {tried}: there is no such socket"),
        ),
        std::io::ErrorKind::PermissionDenied => Failure::new(
            Reason::PermissionDenied,
            format!("failed to {tried}: our user may not; add it to the socket's group"),
        ),
        _ => Failure::io(&tried, error),
    }
}

fn of(tried: &str, error: &Error) -> Failure {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => Failure::new(
            Reason::ServerError,
            format!(
                "failed to {tried}: the daemon answered {status_code}: {}",
                message.trim()
            ),
        ),
        Error::RequestTimeoutError => Failure::new(
            Reason::Timeout,
            format!("failed to {tried}: no answer within {ANSWER} s"),
        ),
        error => Failure::chained(tried, error, Reason::ConnectionClosed),
    }
}

impl Probe for Docker {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async { Ok(Box::new(DockerSession(self.client().await?)) as Box<dyn Session>) })
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        Some(Box::new(self.clone()))
    }
}

struct DockerSession(Client);

impl Session for DockerSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let pinged = self.0.ping().await;
            pinged
                .map(|_| Seen::default())
                .map_err(|error| of("ping the daemon", &error))
        })
    }
}

impl Watch for Docker {
    fn run<'a>(&'a mut self, teller: &'a mut Teller) -> BoxFuture<'a, Failure> {
        Box::pin(async {
            let client = match self.client().await {
                Ok(client) => client,
                Err(failure) => return failure,
            };
            let watching = Watching {
                settings: &self.settings,
                client,
                known: HashMap::new(),
            };
            watching.run(teller).await
        })
    }

    fn patience(&self) -> Duration {
        3 * RELIST
    }
}

/// One watch, from its beginning to its end.
struct Watching<'a> {
    settings: &'a DockerSettings,
    client: Client,
    /// Whether each known container works.
    known: HashMap<String, bool>,
}

impl Watching<'_> {
    async fn run(mut self, teller: &mut Teller) -> Failure {
        // Before the list, so that nothing falls between the two.
        let filters = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let mut events = self.client.events(Some(options)).boxed();
        let mut relist = tokio::time::interval(RELIST);
        loop {
            let told = tokio::select! {
                _ = relist.tick() => self.list(teller).await,
                event = events.next() => match event {
                    Some(Ok(event)) => self.heard(&event, teller).await,
                    Some(Err(error)) => Err(of("hear the daemon's events", &error)),
                    None => Err(Failure::new(
                        Reason::ConnectionClosed,
                        "the daemon ended the stream of events",
                    )),
                },
            };
            if let Err(failure) = told {
                teller.hint(&teller.target().name.clone(), WATCH_BROKEN);
                return failure;
            }
        }
    }

    async fn list(&mut self, teller: &mut Teller) -> Result<(), Failure> {
        let mut options = ListContainersOptionsBuilder::default().all(true);
        let labels = self.settings.labels.clone();
        let filters = HashMap::from([("label", labels)]);
        if !self.settings.labels.is_empty() {
            options = options.filters(&filters);
        }
        let listed = self.client.list_containers(Some(options.build())).await;
        let listed = listed.map_err(|error| of("list containers", &error))?;
        teller.begin();
        self.known.clear();
        for container in listed.into_iter().take(MOST) {
            if let Some(id) = container.id {
                self.tell(&id, None, teller).await?;
            }
        }
        teller.finish().await;
        teller.alive(self.seen()).await;
        Ok(())
    }

    async fn heard(&mut self, event: &EventMessage, teller: &mut Teller) -> Result<(), Failure> {
        let actor = event.actor.as_ref();
        let Some(id) = actor.and_then(|actor| actor.id.clone()) else {
            return Ok(());
        };
        let attribute = |name: &str| {
            let attributes = actor.and_then(|actor| actor.attributes.as_ref());
            attributes
                .and_then(|attributes| attributes.get(name))
                .cloned()
        };
        let name = attribute("name").unwrap_or_default();
        if !self.chosen(&name) {
            return Ok(());
        }
        // Those of commands inside a container come with every health check.
        let action = event.action.as_deref().unwrap_or_default();
        if action.starts_with("exec_") || action == "top" || action == "attach" {
            return Ok(());
        }
        let inside = attribute(TARGET).or_else(|| self.settings.hints.get(&name).cloned());
        if let Some(target) = inside {
            teller.hint(&target, CONTAINER_EVENT);
        }
        let hint = teller.now(WATCH);
        match action {
            "destroy" => {
                self.known.remove(&name);
                teller.gone(&part_name(teller, &name)).await;
            }
            "rename" => return self.list(teller).await,
            _ => self.tell(&id, Some(hint), teller).await?,
        }
        teller.alive(self.seen()).await;
        Ok(())
    }

    /// Looks into a container and tells how it is. One that is gone meanwhile is told by an event.
    async fn tell(
        &mut self,
        id: &str,
        hint: Option<Hint>,
        teller: &mut Teller,
    ) -> Result<(), Failure> {
        let container = match self.client.inspect_container(id, None).await {
            Ok(container) => container,
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(()),
            Err(error) => return Err(of("inspect a container", &error)),
        };
        let name = name(&container);
        if !self.chosen(&name) || !self.labelled(&container) {
            return Ok(());
        }
        let (outcome, facts) = judge::container(&container);
        let works = matches!(outcome, comind_model::observation::Outcome::Good { .. });
        let mut part = Target::part(
            &teller.target().name.clone(),
            part_name(teller, &name),
            CONTAINER,
        );
        part.required = self
            .settings
            .require
            .iter()
            .any(|pattern| glob(pattern, &name));
        self.known.insert(name, works);
        teller.part(part, outcome, facts, hint).await;
        Ok(())
    }

    fn chosen(&self, name: &str) -> bool {
        let mut patterns = self.settings.containers.iter();
        !name.is_empty() && patterns.any(|pattern| glob(pattern, name))
    }

    /// The daemon filters lists by label, but events of all containers come.
    fn labelled(&self, container: &ContainerInspectResponse) -> bool {
        let labels = container
            .config
            .as_ref()
            .and_then(|config| config.labels.as_ref());
        self.settings.labels.iter().all(|wanted| {
            let (name, value) = match wanted.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (wanted.as_str(), None),
            };
            let found = labels.and_then(|labels| labels.get(name));
            found.is_some_and(|found| value.is_none_or(|value| value == found))
        })
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        let down = self.known.values().filter(|works| !**works).count();
        seen.facts.set("containers", self.known.len() as f64);
        seen.facts.set("containers_down", down as f64);
        seen
    }
}

fn name(container: &ContainerInspectResponse) -> String {
    let name = container.name.as_deref().unwrap_or_default();
    name.trim_start_matches('/').to_owned()
}

fn part_name(teller: &Teller, name: &str) -> Arc<str> {
    format!("{}/{name}", teller.target().name).into()
}
