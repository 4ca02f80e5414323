//! What a runtime has to be able to do, whatever it is made of.

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::About;
use crate::services::catalog::Service;

/// Which runtime.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Plain processes.
    Host,
    /// Containers.
    Docker,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Docker => "docker",
        }
    }
}

/// What a runtime sees of a service, before anybody asked the service itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Where it stands.
    pub phase: Phase,
    /// Its main process on this machine.
    pub pid: Option<i32>,
    /// Its container.
    pub container: Option<String>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

impl Seen {
    /// Nothing is there.
    pub fn absent() -> Self {
        Self {
            phase: Phase::Absent,
            pid: None,
            container: None,
            since: None,
            restarts: 0,
            reason: None,
        }
    }
}

/// Where a service stands in its runtime.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It was never set up, or was cleaned away.
    Absent,
    /// It is set up and does not run.
    Stopped,
    /// It runs; whether it answers is another question.
    Running,
    /// It crashed and is about to be started again.
    Restarting,
    /// Something that is not ours is in its place.
    Blocked,
}

/// What `clean` would remove, or has removed, in words.
pub type Removed = Vec<String>;

/// Runs services.
pub trait Runtime: Send + Sync {
    /// Which one this is.
    fn kind(&self) -> Kind;

    /// Makes ready what the start needs: programs or images, data directory or volume. Says what it changed.
    fn prepare<'a>(
        &'a self,
        service: Service,
        report: About<'a>,
    ) -> BoxFuture<'a, anyhow::Result<Vec<String>>>;

    /// Starts it, anew if it runs with other settings; does not wait for answers.
    /// Says what was done; `None` if it runs as wanted.
    fn start(&self, service: Service) -> BoxFuture<'_, anyhow::Result<Option<String>>>;

    /// What is to be seen of it.
    fn look(&self, service: Service) -> BoxFuture<'_, anyhow::Result<Seen>>;

    /// Stops it and keeps its data; says whether it ran.
    fn stop(&self, service: Service) -> BoxFuture<'_, anyhow::Result<bool>>;

    /// The last lines it wrote.
    fn tail(&self, service: Service, lines: usize) -> BoxFuture<'_, anyhow::Result<Vec<String>>>;

    /// Hands each further line it writes to `line`, until the future is dropped.
    fn follow<'a>(
        &'a self,
        service: Service,
        line: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, anyhow::Result<()>>;

    /// What `clean` would remove of it.
    fn belongings(&self, service: Service) -> BoxFuture<'_, anyhow::Result<Removed>>;

    /// Removes it with its data; only what is ours.
    fn clean(&self, service: Service) -> BoxFuture<'_, anyhow::Result<Removed>>;

    /// Removes what is left when no service is: the network. Called last.
    fn clean_shared(&self) -> BoxFuture<'_, anyhow::Result<Removed>>;
}
