//! Whether this process is the one that tells people. Must not know how that is agreed on.

use tokio::sync::watch;

/// `true` while this process tells; a reader hears when that changes.
pub type Leads = watch::Receiver<bool>;

/// A process that is alone: it always tells.
pub fn always() -> Leads {
    // A receiver keeps its last value when the sender is gone.
    watch::channel(true).1
}
