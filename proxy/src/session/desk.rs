//! Tells of sessions and ends them, for whoever runs in the same process. Must not know who asks, nor
//! who may.

use std::fmt;
use std::sync::Arc;

use comind_model::login::Why;
use comind_model::session::{By, Listed, Sessions, Which};

use crate::login::gate::Gate;
use crate::serve::worker::Shared;

/// Where the system's name stands; in a pod it is the pod's.
const NAME: &str = "/proc/sys/kernel/hostname";

/// The sessions of one proxy.
pub struct Desk {
    shared: Arc<Shared>,
    place: String,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// Of this proxy.
    pub fn new(shared: Arc<Shared>) -> Self {
        let name = std::fs::read_to_string(NAME).unwrap_or_default();
        Self {
            shared,
            place: name.trim().to_owned(),
        }
    }

    /// The logins in force.
    fn gate(&self) -> Option<Arc<Gate>> {
        self.shared.current.load().terms.gate.clone()
    }
}

impl Sessions for Desk {
    fn place(&self) -> &str {
        &self.place
    }

    fn open(&self) -> Option<usize> {
        Some(self.gate()?.common.sessions.open())
    }

    fn list(&self, by: By, most: usize) -> Option<Listed> {
        let gate = self.gate()?;
        let all = gate.common.sessions.list();
        let seen = all.iter().map(|session| {
            let login = gate.get(&session.place.login);
            session.seen(login.map_or("", |login| login.told.means.as_str()))
        });
        Some(Listed::choose(seen.collect(), by, most))
    }

    fn end(&self, which: Which<'_>, who: &str) -> usize {
        let Some(gate) = self.gate() else { return 0 };
        let sessions = &gate.common.sessions;
        let end = |is: &dyn Fn(&super::table::Session) -> bool| {
            sessions.end_all(is, Why::Revoked, Some(who))
        };
        match which {
            Which::Id(id) => end(&|one| *one.id == *id),
            Which::User(user) => end(&|one| *one.who.user == *user),
            Which::UserOf(id) => match sessions.list().iter().find(|one| *one.id == *id) {
                Some(of) => end(&|one| one.who.user == of.who.user),
                None => 0,
            },
        }
    }
}
