//! What a kind of service has to bring: how to connect, how to look, how to look deeply.
//! Must not know schedules, retries, deadlines or verdicts; `source` has those.
//!
//! A kind is one file in `probe/` and one line in `kinds::KINDS`.

pub mod argocd;
pub mod canary;
pub mod dns;
pub mod docker;
pub mod elasticmq;
pub mod failure;
pub mod http;
pub mod kubernetes;
pub mod minio;
pub mod postgresql;
pub mod redis;
pub mod tcp;
pub mod tls;

use comind_model::fact::Facts;
use comind_model::observation::Attention;
use futures_util::future::BoxFuture;

use crate::probe::failure::Failure;
use crate::source::watch::Watch;

/// What a good look saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// What works but should be seen to, worst first.
    pub attention: Vec<Attention>,
    /// What was learned besides.
    pub facts: Facts,
}

/// How one target is looked at. Built once from the config, shared by its lanes.
pub trait Probe: Send + Sync + 'static {
    /// Opens the connection that looks are made on. Called again after each loss; the
    /// first look on a new connection follows at once under the same deadline.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>>;

    /// Whether [`Probe::deep`] asks anything.
    fn has_deep(&self) -> bool {
        false
    }

    /// What tells by itself how the target's parts are; none for most kinds.
    fn watch(&self) -> Option<Box<dyn Watch>> {
        None
    }

    /// Does the target's real work on a connection of its own, so that it also proves
    /// that a new client gets in; removes what it made.
    fn deep(&self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async { Ok(Seen::default()) })
    }
}

/// A held connection. Dropping it closes it.
pub trait Session: Send {
    /// One look: one question, one answer. No retry, no sleep, no verdict.
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>>;

    /// The cheapest question that proves the peer alive, asked between looks.
    fn heartbeat(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { self.look().await.map(drop) })
    }

    /// Resolves once the connection is lost. Never, where nothing is held.
    /// Must be safe to drop and ask again.
    fn closed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
