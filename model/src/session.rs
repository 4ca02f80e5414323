//! Sessions of people at the proxy, for whoever shows them or ends them: values, the rule by which some
//! of many are chosen, and the questions that can be asked. Must not know who holds sessions, who asks,
//! nor who may.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::timestamp::Timestamp;

/// One session, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// For naming it; of no use to whoever would act as its user.
    pub id: Arc<str>,
    /// Whose it is: as whoever knows them says, so not to be trusted as text.
    pub user: Arc<str>,
    /// The login that let them in.
    pub login: Arc<str>,
    /// How that proved who they are: `oidc`, `basic`, `bearer`, `certificate`.
    pub means: &'static str,
    /// The route that it began at.
    pub route: Arc<str>,
    /// The host that it is for: as the client asked for it, so not to be trusted as text.
    pub host: Arc<str>,
    /// From where.
    pub client: IpAddr,
    /// When it began.
    pub since: Timestamp,
    /// When it ends at the latest.
    pub until: Timestamp,
    /// When its client was last heard.
    pub heard: Timestamp,
    /// Requests so far.
    pub requests: u64,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// Requests, streams and WebSockets that it carries now.
    pub live: usize,
}

/// What comes first in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The newest.
    #[default]
    Since,
    /// The next to end.
    Until,
    /// The last to be heard.
    Heard,
    /// By name.
    User,
    /// By host, then route.
    Host,
    /// By address.
    Client,
    /// The one that carries the most now.
    Live,
    /// The one with the most requests.
    Requests,
    /// The one with the most bytes, both ways together.
    Bytes,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Since,
        Self::Until,
        Self::Heard,
        Self::User,
        Self::Host,
        Self::Client,
        Self::Live,
        Self::Requests,
        Self::Bytes,
    ];

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Since => "since",
            Self::Until => "until",
            Self::Heard => "heard",
            Self::User => "user",
            Self::Host => "host",
            Self::Client => "client",
            Self::Live => "live",
            Self::Requests => "requests",
            Self::Bytes => "bytes",
        }
    }

    /// By its word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == word)
    }

    /// Which of two comes first. No two sessions are equal, so that a list stays as it is while nothing
    /// changes.
    pub fn order(self, a: &Seen, b: &Seen) -> Ordering {
        let order = match self {
            Self::Since => Ordering::Equal,
            Self::Until => a.until.cmp(&b.until),
            Self::Heard => b.heard.cmp(&a.heard),
            Self::User => a.user.cmp(&b.user),
            Self::Host => (&a.host, &a.route).cmp(&(&b.host, &b.route)),
            Self::Client => a.client.cmp(&b.client),
            Self::Live => b.live.cmp(&a.live),
            Self::Requests => b.requests.cmp(&a.requests),
            Self::Bytes => b.bytes().cmp(&a.bytes()),
        };
        let newest = || (Reverse(a.since), &a.id).cmp(&(Reverse(b.since), &b.id));
        order.then_with(newest)
    }
}

impl Seen {
    /// Both ways together.
    pub fn bytes(&self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

/// Some of all sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// So many there are.
    pub open: usize,
    /// The first of them.
    pub first: Vec<Seen>,
}

impl Listed {
    /// The first `most` of all, in order.
    pub fn choose(mut all: Vec<Seen>, by: By, most: usize) -> Self {
        let open = all.len();
        if most == 0 {
            all.clear();
        } else if most < open {
            all.select_nth_unstable_by(most - 1, |a, b| by.order(a, b));
            all.truncate(most);
        }
        all.sort_unstable_by(|a, b| by.order(a, b));
        Self { open, first: all }
    }
}

/// Whose sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The one with this id.
    Id(&'a str),
    /// All of the user whose session has this id.
    UserOf(&'a str),
    /// All of this user.
    User(&'a str),
}

/// Whoever holds sessions. Asked from any thread; nothing of it waits.
pub trait Sessions: fmt::Debug + Send + Sync {
    /// Where they are held, such as the name of a pod: others hold others.
    fn place(&self) -> &str;

    /// How many there are; nothing where nobody can log in.
    fn open(&self) -> Option<usize>;

    /// The first `most` of them; nothing where nobody can log in.
    fn list(&self, by: By, most: usize) -> Option<Listed>;

    /// Ends some, with all that they carry; gives how many. `who` did it stands in the audit log.
    fn end(&self, which: Which<'_>, who: &str) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(number: u64) -> Seen {
        Seen {
            id: format!("{number:04}").into(),
            user: format!("user-{}", number % 3).into(),
            login: "staff".into(),
            means: "basic",
            route: "r".into(),
            host: format!("h{}", number % 5).into(),
            client: [127, 0, 0, (number % 7) as u8].into(),
            since: Timestamp::from_micros((number % 11) as i64),
            until: Timestamp::from_micros((number % 13) as i64),
            heard: Timestamp::from_micros((number % 4) as i64),
            requests: number % 6,
            received: number % 8,
            sent: number % 9,
            live: (number % 2) as usize,
        }
    }

    #[test]
    fn every_order_has_a_word_of_its_own() {
        for by in By::ALL {
            assert_eq!(By::of(by.as_str()), Some(by));
        }
        assert_eq!(By::of("password"), None);
    }

    #[test]
    fn the_newest_and_the_busiest_come_first() {
        let (mut a, mut b) = (seen(1), seen(2));
        (a.since, b.since) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        (a.sent, b.sent) = (u64::MAX, 7);
        let first = |by| {
            Listed::choose(vec![a.clone(), b.clone()], by, 1).first[0]
                .id
                .clone()
        };
        assert_eq!(first(By::Since), b.id);
        assert_eq!(first(By::Bytes), a.id);
        assert_eq!(first(By::User), a.id);
    }

    proptest! {
        #[test]
        fn the_first_of_many_are_those_of_the_whole_list(
            count in 0_u64..60, most in 0_usize..70, order in 0_usize..By::ALL.len(),
        ) {
            let by = By::ALL[order];
            let all: Vec<_> = (0..count).map(seen).collect();
            let mut turned = all.clone();
            turned.reverse();
            let whole = Listed::choose(all, by, usize::MAX);
            let some = Listed::choose(turned, by, most);
            prop_assert_eq!(some.open, whole.first.len());
            let kept = most.min(whole.first.len());
            prop_assert_eq!(&some.first[..], &whole.first[..kept]);
        }
    }
}
