//! How much is told: so many by themselves, what comes in swarms as a number, and the rest counted. A
//! cluster keeps Events for an hour, and must not be filled by whoever guesses passwords. Pure: `now`
//! is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comind_model::login::Why;

use super::note::{self, Note};
use crate::audit::entry::Entry;

/// So many at once after a rest …
const BURST: u32 = 30;
/// … and then one each.
const EACH: Duration = Duration::from_secs(2);
/// After the first of a kind, the others are told together after so long.
const GATHER: Duration = Duration::from_secs(60);
/// Kinds that are gathered at once.
const KINDS: usize = 32;

/// By which login, and why.
type Kind = (Arc<str>, &'static str);

/// What was told and what was not.
#[derive(Debug)]
pub struct Book {
    left: u32,
    /// Up to here it was filled up.
    filled: Duration,
    gathered: BTreeMap<Kind, Gathered>,
    untold: u64,
    /// When those are told.
    untold_at: Duration,
    /// Those that were told neither by themselves nor in a number of their kind; whoever counts them takes
    /// them.
    pub passed_over: u64,
}

#[derive(Debug)]
struct Gathered {
    first: Note,
    more: u64,
    due: Duration,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            left: BURST,
            filled: Duration::ZERO,
            gathered: BTreeMap::new(),
            untold: 0,
            untold_at: Duration::MAX,
            passed_over: 0,
        }
    }
}

/// What comes in swarms: guesses, and the ends of many sessions for one reason.
fn kind(entry: &Entry) -> Option<Kind> {
    match entry {
        Entry::Refused { login, reason, .. } => Some((login.clone(), reason)),
        Entry::Ends { session, why, .. } => match why {
            Why::Stopped | Why::Changed | Why::Unknown => {
                Some((session.login.clone(), why.as_str()))
            }
            Why::Expired | Why::Idle | Why::Logout | Why::Revoked | Why::Renewed => None,
        },
        Entry::Begins(_) => None,
    }
}

impl Book {
    /// What is to be told of this at once.
    pub fn take(&mut self, entry: &Entry, now: Duration) -> Option<Note> {
        let Some(kind) = kind(entry) else {
            return self.allow(now).then(|| note::of(entry));
        };
        if let Some(gathered) = self.gathered.get_mut(&kind) {
            gathered.more += 1;
            return None;
        }
        if self.gathered.len() >= KINDS {
            self.pass_over(now);
            return None;
        }
        if !self.allow(now) {
            return None;
        }
        let first = note::of(entry);
        let gathered = Gathered {
            first: first.clone(),
            more: 0,
            due: now + GATHER,
        };
        self.gathered.insert(kind, gathered);
        Some(first)
    }

    fn allow(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.filled).as_secs() / EACH.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST);
        self.filled += EACH * earned;
        if self.left == 0 {
            self.pass_over(now);
            return false;
        }
        self.left -= 1;
        true
    }

    fn pass_over(&mut self, now: Duration) {
        self.passed_over += 1;
        self.untold += 1;
        self.untold_at = self.untold_at.min(now + GATHER);
    }

    /// When something is due, if nothing happens before.
    pub fn next(&self) -> Option<Duration> {
        let gathered = self.gathered.values().map(|gathered| gathered.due);
        let untold = (self.untold > 0).then_some(self.untold_at);
        gathered.chain(untold).min()
    }

    /// The numbers that are due.
    pub fn due(&mut self, now: Duration) -> Vec<Note> {
        let mut notes = Vec::new();
        self.gathered.retain(|(login, why), gathered| {
            if gathered.due > now {
                return true;
            }
            if gathered.more == 0 {
                return false;
            }
            notes.push(note::more(&gathered.first, gathered.more, login, why));
            gathered.more = 0;
            gathered.due = now.saturating_add(GATHER);
            true
        });
        if self.untold > 0 && self.untold_at <= now {
            notes.push(note::untold(self.untold));
            self.untold = 0;
            self.untold_at = Duration::MAX;
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::Session;
    use jiff::Timestamp;

    fn session() -> Box<Session> {
        Box::new(Session {
            id: "00ff".into(),
            user: "ada".into(),
            login: "staff".into(),
            route: "r".into(),
            host: "h".into(),
            client: [192, 0, 2, 7].into(),
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
        })
    }

    fn refused(login: &str) -> Entry {
        Entry::Refused {
            login: login.into(),
            route: "r".into(),
            host: "h".into(),
            client: [192, 0, 2, 7].into(),
            user: None,
            reason: "wrong",
        }
    }

    fn ends(why: Why) -> Entry {
        Entry::Ends {
            session: session(),
            why,
            by: None,
            requests: 0,
            received: 0,
            sent: 0,
        }
    }

    const START: Duration = Duration::from_secs(1000);

    #[test]
    fn guesses_are_one_event_and_then_a_number_a_minute() {
        let mut book = Book::default();
        assert!(book.take(&refused("staff"), START).is_some());
        for _ in 0..100_000 {
            assert_eq!(book.take(&refused("staff"), START), None);
        }
        assert!(book.take(&refused("others"), START).is_some());
        assert!(book.due(START).is_empty());
        assert_eq!(book.next(), Some(START + GATHER));
        let told = book.due(START + GATHER);
        assert_eq!(told.len(), 1);
        assert!(told[0].text.starts_with("100000 more"), "{told:?}");
        // Then there is silence, and the next one counts as a first.
        assert!(book.due(START + 2 * GATHER).is_empty());
        assert!(book.take(&refused("staff"), START + 2 * GATHER).is_some());
        assert_eq!(book.passed_over, 0);
    }

    #[test]
    fn the_end_of_the_program_is_not_an_event_for_each() {
        let mut book = Book::default();
        let told = (0..500).filter_map(|_| book.take(&ends(Why::Stopped), START));
        assert_eq!(told.count(), 1);
        let told = book.due(Duration::MAX);
        assert!(told[0].text.starts_with("499 more sessions"), "{told:?}");
        // Somebody's own doing is told for each.
        let told = (0..5).filter_map(|_| book.take(&ends(Why::Revoked), START));
        assert_eq!(told.count(), 5);
    }

    #[test]
    fn too_many_sessions_are_a_number() {
        let mut book = Book::default();
        let begins = Entry::Begins(session());
        let told = (0..1000).filter_map(|_| book.take(&begins, START)).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(book.passed_over, 970);
        let said = book.due(START + GATHER);
        assert!(said[0].text.starts_with("970 "), "{said:?}");
        // What was earned since counts, and no more than that.
        let later = START + GATHER;
        let told = (0..1000).filter_map(|_| book.take(&begins, later)).count();
        assert_eq!(told, 30);
    }

    #[test]
    fn kinds_are_bounded() {
        let mut book = Book::default();
        for number in 0..1000_u32 {
            let now = START + EACH * number;
            let _ = book.take(
                &refused(&format!("login-{number}")),
                now.min(START + GATHER / 2),
            );
        }
        assert!(book.gathered.len() <= KINDS);
        assert!(book.passed_over >= 1000 - KINDS as u64);
        assert!(book.due(Duration::MAX).len() <= KINDS + 1);
        assert_eq!(book.next(), None);
    }
}
