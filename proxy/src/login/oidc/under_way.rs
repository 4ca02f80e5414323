//! Logins that have begun elsewhere and have not come back: each is good once, for a while, and
//! for the browser that began it. Pure: the moment is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::session::table::Key;

/// So many may be under way.
const MOST: usize = 10_000;
/// A login takes no longer.
const LIMIT: Duration = Duration::from_secs(600);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// The login.
    pub login: Arc<str>,
    /// The host that it is for.
    pub host: String,
    /// What the browser's cookie must be, as its hash.
    pub cookie: Key,
    /// What the token must hold.
    pub nonce: String,
    /// What proves that whoever asks for the token is who asked for the code.
    pub verifier: String,
    /// Where the provider sends back to.
    pub redirect: String,
    /// Where they wanted to go.
    pub wanted: String,
    /// Its route.
    pub route: Arc<str>,
    /// When it began, in milliseconds.
    pub began: u64,
}

/// All of them, by the hash of their state.
#[derive(Debug, Default)]
pub struct All(HashMap<Key, UnderWay>);

impl All {
    /// One begins; false where there are too many.
    pub fn begin(&mut self, state: Key, one: UnderWay) -> bool {
        if self.0.len() >= MOST {
            let now = one.began;
            self.0.retain(|_, known| lasts(known, now));
        }
        if self.0.len() >= MOST {
            return false;
        }
        self.0.insert(state, one);
        true
    }

    /// One comes back. It is gone from now on, whatever comes of it.
    pub fn take(&mut self, state: &Key, host: &str, cookie: &Key, now: u64) -> Option<UnderWay> {
        let one = self.0.remove(state)?;
        let good = lasts(&one, now) && one.host == host && one.cookie == *cookie;
        good.then_some(one)
    }
}

fn lasts(one: &UnderWay, now: u64) -> bool {
    Duration::from_millis(now.saturating_sub(one.began)) < LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(began: u64) -> UnderWay {
        UnderWay {
            login: "staff".into(),
            host: "a.test".to_owned(),
            cookie: [7; 32],
            nonce: String::new(),
            verifier: String::new(),
            redirect: String::new(),
            wanted: "/".to_owned(),
            route: "r".into(),
            began,
        }
    }

    #[test]
    fn it_is_good_once_in_time_at_its_host_and_for_its_browser() {
        let ways = [
            ("a.test", [7; 32], 1000, true),
            ("b.test", [7; 32], 1000, false),
            ("a.test", [8; 32], 1000, false),
            ("a.test", [7; 32], 601_000, false),
        ];
        for (host, cookie, now, good) in ways {
            let mut all = All::default();
            assert!(all.begin([1; 32], one(1000)));
            let taken = all.take(&[1; 32], host, &cookie, now);
            assert_eq!(taken.is_some(), good, "{host} {now}");
            assert_eq!(all.take(&[1; 32], "a.test", &[7; 32], 1000), None);
        }
    }

    #[test]
    fn they_are_bounded_and_old_ones_make_room() {
        let mut all = All::default();
        for number in 0..MOST as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            assert!(all.begin(key, one(0)));
        }
        assert!(!all.begin([255; 32], one(1)));
        assert!(all.begin([255; 32], one(600_000)));
    }
}
