//! What a step of the plan has to be able to do. Must not know any particular step.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::event::About;
use crate::plan::graph::{Graph, Id};
use crate::wait::Look;

/// One difference between what is and what is wanted, in words: "make the namespace monitoring".
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Change(pub String);

impl Change {
    /// In these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// Those of several.
    pub fn words(changes: &[Self]) -> Vec<String> {
        changes.iter().map(|change| change.0.clone()).collect()
    }
}

/// A part of what is brought up. Looking changes nothing; what is done is done so that it can be
/// done again: a run may be killed anywhere.
pub trait Step: Send + Sync {
    /// What a look at the world saw.
    type Seen: Send + Sync;

    /// Its name, which others need it by.
    fn id(&self) -> &'static str;

    /// The steps that have to be ready before this one begins.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// How long it may take from its beginning until it is ready.
    fn limit(&self) -> Duration;

    /// Looks.
    ///
    /// # Errors
    /// When nothing can be seen, such as the objects of a cluster that is not there.
    fn observe(&self) -> impl Future<Output = Result<Self::Seen>> + Send;

    /// What would have to be done. Pure.
    fn diff(&self, seen: &Self::Seen) -> Vec<Change>;

    /// Does it.
    ///
    /// # Errors
    /// With what was tried, what came back, and what to do.
    fn apply(&self, seen: Self::Seen, about: About<'_>) -> impl Future<Output = Result<()>> + Send;

    /// Whether it works, and if not, why. Asked again and again, also when nothing was done. By
    /// default what is there works.
    fn ready(&self) -> impl Future<Output = Look<(), String>> + Send {
        std::future::ready(Look::Done(()))
    }

    /// The last lines that it wrote to its logs, for whoever has to find out why it failed.
    fn last_lines(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What comes when.
///
/// # Errors
/// When the steps do not fit together, which a test would have told.
pub fn graph(steps: &[Box<dyn Planned>]) -> Result<Graph> {
    Graph::new(steps.iter().map(|step| (step.id(), step.needs())))
}

/// The same, where what a step needs may be made by one of another name.
///
/// # Errors
/// As [`graph`].
pub fn graph_with(steps: &[Box<dyn Planned>], step_of: impl Fn(Id) -> Id) -> Result<Graph> {
    Graph::with(steps.iter().map(|step| (step.id(), step.needs())), step_of)
}

/// A step whose type is forgotten.
pub trait Planned: Send + Sync {
    /// See [`Step::id`].
    fn id(&self) -> &'static str;
    /// See [`Step::needs`].
    fn needs(&self) -> &'static [&'static str];
    /// See [`Step::limit`].
    fn limit(&self) -> Duration;
    /// What would have to be done.
    fn preview(&self) -> BoxFuture<'_, Result<Vec<Change>>>;
    /// Looks, and does what has to be done; adds what that was to `made`, also where it fails.
    fn bring<'a>(
        &'a self,
        about: About<'a>,
        made: &'a mut Vec<Change>,
    ) -> BoxFuture<'a, Result<()>>;
    /// See [`Step::ready`].
    fn ready(&self) -> BoxFuture<'_, Look<(), String>>;
    /// See [`Step::last_lines`].
    fn last_lines(&self) -> Vec<String>;
}

impl<S: Step> Planned for S {
    fn id(&self) -> &'static str {
        Step::id(self)
    }

    fn needs(&self) -> &'static [&'static str] {
        Step::needs(self)
    }

    fn limit(&self) -> Duration {
        Step::limit(self)
    }

    fn preview(&self) -> BoxFuture<'_, Result<Vec<Change>>> {
        async { Ok(self.diff(&self.observe().await?)) }.boxed()
    }

    fn bring<'a>(
        &'a self,
        about: About<'a>,
        made: &'a mut Vec<Change>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let seen = self.observe().await?;
            let changes = self.diff(&seen);
            if changes.is_empty() {
                return Ok(());
            }
            for change in changes {
                if !made.contains(&change) {
                    about.say(crate::event::Level::Doing, change.0.clone());
                    made.push(change);
                }
            }
            self.apply(seen, about).await
        }
        .boxed()
    }

    fn ready(&self) -> BoxFuture<'_, Look<(), String>> {
        Step::ready(self).boxed()
    }

    fn last_lines(&self) -> Vec<String> {
        Step::last_lines(self)
    }
}
