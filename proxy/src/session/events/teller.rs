//! Writes Events to a cluster, one after the other, from a bounded queue: what finds no room there, or
//! cannot be written, is lost and counted. Never makes a request wait.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use comind_model::login::{Events, Object};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::note::Note;
use crate::audit::entry::Entry;
use crate::tunnel::watch::config;

/// So many may wait.
const WAITING: usize = 1024;
/// How long one may take, and how long connecting may.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long until a client is tried again that could not be made.
const AGAIN: Duration = Duration::from_secs(5);
/// At the end, what waits has so long.
const END: Duration = Duration::from_secs(5);
/// Who tells.
const REPORTER: &str = "comind.pro/proxy";
/// The names of objects are at most 253 characters, of which the time takes some.
const NAME: usize = 200;

/// What became of Events.
#[derive(Debug, Default)]
pub struct Counts {
    /// Written.
    pub told: AtomicU64,
    /// Found no room in the queue.
    pub queue: AtomicU64,
    /// The cluster did not take them.
    pub failed: AtomicU64,
    /// More than are told.
    pub rate: AtomicU64,
}

/// Where entries are handed in.
#[derive(Debug)]
pub struct Hand {
    sender: mpsc::Sender<Entry>,
    counts: Arc<Counts>,
}

impl Hand {
    /// Hands one in; where there is no room it is lost and counted.
    pub fn put(&self, entry: &Entry) {
        if self.sender.try_send(entry.clone()).is_err() {
            self.counts.queue.fetch_add(1, Relaxed);
        }
    }
}

/// The one that writes.
#[derive(Debug)]
pub struct Teller {
    /// As it was told.
    pub told: Events,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Teller {
    /// Begins to write.
    pub fn start(told: Events, counts: Arc<Counts>) -> (Hand, Self) {
        let (sender, entries) = mpsc::channel(WAITING);
        let stop = CancellationToken::new();
        let hand = Hand {
            sender,
            counts: counts.clone(),
        };
        let writer = Writer {
            told: told.clone(),
            counts,
            cluster: None,
            tried: None,
            silent: false,
        };
        let task = tokio::spawn(tell(entries, writer, stop.clone()));
        (hand, Self { told, task, stop })
    }

    /// Ends it, once what waits has been told or a moment is over.
    pub async fn end(mut self) {
        self.stop.cancel();
        // What is not done by then ends with us.
        let _ = tokio::time::timeout(END, &mut self.task).await;
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell(mut entries: mpsc::Receiver<Entry>, mut writer: Writer, stop: CancellationToken) {
    let began = Instant::now();
    let mut book = Book::default();
    loop {
        let next = book.next();
        let due = async {
            match next {
                Some(next) => tokio::time::sleep(next.saturating_sub(began.elapsed())).await,
                None => std::future::pending().await,
            }
        };
        let notes = tokio::select! {
            () = stop.cancelled() => break,
            entry = entries.recv() => match entry {
                Some(entry) => Vec::from_iter(book.take(&entry, began.elapsed())),
                None => break,
            },
            () = due => book.due(began.elapsed()),
        };
        writer.write_all(notes, &mut book).await;
    }
    while let Ok(entry) = entries.try_recv() {
        let note = book.take(&entry, began.elapsed());
        writer.write_all(note, &mut book).await;
    }
    let rest = book.due(Duration::MAX);
    writer.write_all(rest, &mut book).await;
}

/// The cluster, and what Events there are about.
struct Writer {
    told: Events,
    counts: Arc<Counts>,
    cluster: Option<(Client, ObjectReference)>,
    tried: Option<Instant>,
    /// The last one failed, and that was said.
    silent: bool,
}

impl Writer {
    async fn write_all(&mut self, notes: impl IntoIterator<Item = Note>, book: &mut Book) {
        let passed_over = std::mem::take(&mut book.passed_over);
        self.counts.rate.fetch_add(passed_over, Relaxed);
        for note in notes {
            match self.write(note).await {
                Ok(()) => {
                    self.counts.told.fetch_add(1, Relaxed);
                    self.silent = false;
                }
                Err(error) => {
                    self.counts.failed.fetch_add(1, Relaxed);
                    if !std::mem::replace(&mut self.silent, true) {
                        tracing::warn!("Events of sessions cannot be written: {error}");
                    }
                }
            }
        }
    }

    async fn write(&mut self, note: Note) -> Result<(), String> {
        let (client, about) = self.cluster().await?;
        let namespace = about.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client, &namespace);
        let event = event(note, about);
        let how = PostParams::default();
        let created = events.create(&how, &event);
        match tokio::time::timeout(DEADLINE, created).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {DEADLINE:?}")),
        }
    }

    async fn cluster(&mut self) -> Result<(Client, ObjectReference), String> {
        if let Some((client, about)) = &self.cluster {
            return Ok((client.clone(), about.clone()));
        }
        if self.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return Err("there is no cluster to tell".to_owned());
        }
        self.tried = Some(Instant::now());
        let mut config = config(self.told.cluster.as_ref()).await?;
        config.connect_timeout = Some(DEADLINE);
        config.read_timeout = Some(DEADLINE);
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        let about = match &self.told.about {
            Some(object) => named(&client, object).await,
            None => pod(namespace)?,
        };
        self.cluster = Some((client.clone(), about.clone()));
        Ok((client, about))
    }
}

/// The pod that this runs in, as its environment names it.
fn pod(namespace: String) -> Result<ObjectReference, String> {
    let name = env::var("POD_NAME").or_else(|_| env::var("HOSTNAME"));
    let name = name.map_err(
        |_| "it is not known which pod this is: set POD_NAME, or `about` in `proxy.session_events`",
    )?;
    Ok(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name),
        namespace: Some(namespace),
        uid: env::var("POD_UID").ok(),
        ..ObjectReference::default()
    })
}

/// An object by its name. Its uid has `kubectl describe` find the Events; who may not read the object
/// tells without.
async fn named(client: &Client, object: &Object) -> ObjectReference {
    let (group, version) = object
        .version
        .split_once('/')
        .unwrap_or(("", &object.version));
    let kind = GroupVersionKind::gvk(group, version, &object.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        &object.namespace,
        &ApiResource::from_gvk(&kind),
    );
    let found = tokio::time::timeout(DEADLINE, api.get_metadata(&object.name)).await;
    let uid = match found {
        Ok(Ok(found)) => found.metadata.uid,
        _ => None,
    };
    if uid.is_none() {
        tracing::info!(
            "{} {} cannot be read, so its Events name no uid",
            object.kind,
            object.name
        );
    }
    ObjectReference {
        api_version: Some(object.version.clone()),
        kind: Some(object.kind.clone()),
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()),
        uid,
        ..ObjectReference::default()
    }
}

/// Not by kube's `Recorder`: that takes two of one reason for one, and keeps the words of the first.
fn event(note: Note, about: ObjectReference) -> Event {
    let now = jiff::Timestamp::now();
    let name: String = about
        .name
        .iter()
        .flat_map(|name| name.chars())
        .take(NAME)
        .collect();
    let instance = env::var("POD_NAME").or_else(|_| env::var("HOSTNAME"));
    let instance = instance.unwrap_or_else(|_| REPORTER.to_owned());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some(note.action.to_owned()),
        reason: Some(note.reason.to_owned()),
        note: Some(note.text),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(about),
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(instance.chars().take(128).collect()),
        ..Event::default()
    }
}
