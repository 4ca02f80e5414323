//! Tells people what is wrong: from the states to alerts (`comind_model::alert`), and from
//! alerts to Alertmanagers and webhooks. One task decides, one a receiver tells, so that a dead
//! receiver delays nobody. Must not know probes, HTTP routes or the page.

pub mod alertmanager;
pub mod notifier;
pub mod outbox;
pub mod post;
pub mod status;
pub mod webhook;

use std::sync::Arc;

use crate::config::maintenance::Maintenance;
use crate::config::notify::Notify;

/// What the config says about telling.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Whom to tell, and when.
    pub notify: Notify,
    /// When not to.
    pub maintenance: Arc<[Maintenance]>,
}
