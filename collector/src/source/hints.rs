//! Hints that reach a source from outside: a container died, a pod went away. They make the
//! look lane look at once. Must not know who gives them, nor what the look then finds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use comind_model::observation::Hint;
use tokio::sync::mpsc;

/// Where hints for each running source are put in. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    boxes: Arc<Mutex<HashMap<Arc<str>, mpsc::Sender<Hint>>>>,
}

impl Hints {
    /// The letter box of the source of `target`, until [`Hints::leave`]. It holds one hint:
    /// one that waits is as good as many.
    pub fn enter(&self, target: &Arc<str>) -> mpsc::Receiver<Hint> {
        let (sender, receiver) = mpsc::channel(1);
        self.lock().insert(target.clone(), sender);
        receiver
    }

    /// The source of `target` has ended.
    pub fn leave(&self, target: &str) {
        self.lock().remove(target);
    }

    /// Asks the source of `target` to look at once. Whether there is such a source.
    pub fn ring(&self, target: &str, hint: Hint) -> bool {
        let sender = self.lock().get(target).cloned();
        let Some(sender) = sender else {
            return false;
        };
        // Full: a hint already waits there.
        let _ = sender.try_send(hint);
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, mpsc::Sender<Hint>>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
