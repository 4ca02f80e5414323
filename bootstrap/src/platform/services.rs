//! The data services as steps of the plan. What is done is `services::flow`'s.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::event::{About, Level};
use crate::plan::graph::Id;
use crate::plan::step::{Change, Planned};
use crate::services::catalog::Service;
use crate::services::flow;
use crate::services::ready;
use crate::services::runtime::Phase;
use crate::services::session::Session;
use crate::wait::Look;

/// Beyond what a service may take to start: making its data directory, pulling its image.
const PREPARE: Duration = Duration::from_secs(300);

/// One service.
pub struct ServiceStep {
    /// What runs it.
    pub session: Arc<Session>,
    /// Which one.
    pub service: Service,
}

impl ServiceStep {
    async fn previewed(&self) -> Result<Vec<Change>> {
        let name = self.service.name();
        let seen = self.session.runtime.look(self.service).await?;
        Ok(match seen.phase {
            Phase::Absent => vec![Change::new(format!("set up and start {name}"))],
            Phase::Running => match ready::ask(self.service, &self.session.settings).await {
                Ok(()) => Vec::new(),
                Err(error) => vec![Change::new(format!(
                    "wait for {name}, which does not answer: {error:#}"
                ))],
            },
            _ => vec![Change::new(format!("start {name}"))],
        })
    }

    async fn brought(&self, about: About<'_>) -> Result<Vec<Change>> {
        let session = &self.session;
        let brought = flow::try_bring_up(&*session.runtime, &session.settings, self.service, about);
        match brought.await {
            Ok(changes) => Ok(changes.into_iter().map(Change::new).collect()),
            Err(error) if !self.service.required() => {
                about.say(
                    Level::Warning,
                    format!("failed, but is optional, so the rest goes on: {error:#}"),
                );
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

impl Planned for ServiceStep {
    fn id(&self) -> Id {
        self.service.name()
    }

    fn needs(&self) -> &'static [Id] {
        &[]
    }

    fn limit(&self) -> Duration {
        self.service.start_limit() + PREPARE
    }

    fn preview(&self) -> BoxFuture<'_, Result<Vec<Change>>> {
        self.previewed().boxed()
    }

    fn bring<'a>(
        &'a self,
        about: About<'a>,
        made: &'a mut Vec<Change>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            made.extend(self.brought(about).await?);
            Ok(())
        }
        .boxed()
    }

    fn ready(&self) -> BoxFuture<'_, Look<(), String>> {
        // Bringing it up has waited already, with its reasons.
        std::future::ready(Look::Done(())).boxed()
    }

    fn last_lines(&self) -> Vec<String> {
        Vec::new()
    }
}
