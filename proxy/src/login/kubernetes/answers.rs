//! Answers that are remembered for a while: so many at most, by hashes of what was asked about.
//! Pure: the moment is an argument.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::session::table::Key;

/// What is known of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<V> {
    /// Yes, and this.
    Yes(V),
    /// No.
    No,
}

/// How long answers count.
#[derive(Clone, Copy, Debug)]
pub struct Ages {
    /// A yes.
    pub yes: Duration,
    /// A no.
    pub no: Duration,
}

/// Answers of both kinds. Strangers who try make many a no; they take no room from a yes.
#[derive(Debug)]
pub struct Answers<V> {
    ages: Ages,
    yes: Shelf<V>,
    no: Shelf<()>,
}

impl<V: Clone> Answers<V> {
    /// None yet; at most so many of each kind.
    pub fn new(ages: Ages, most: usize) -> Self {
        Self {
            ages,
            yes: Shelf::new(most),
            no: Shelf::new(most),
        }
    }

    /// What is known now.
    pub fn find(&self, key: &Key, now: u64) -> Option<Known<V>> {
        if let Some(value) = self.yes.find(key, now) {
            return Some(Known::Yes(value.clone()));
        }
        self.no.find(key, now).map(|()| Known::No)
    }

    /// What was answered to a question that was asked at this moment: what was changed while the
    /// answer was on its way counts as changed after it.
    pub fn learn(&mut self, key: Key, known: &Known<V>, asked: u64) {
        let until = |age: Duration| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            asked.saturating_add(age)
        };
        match known {
            Known::Yes(value) => {
                self.no.forget(&key);
                self.yes
                    .put(key, value.clone(), asked, until(self.ages.yes));
            }
            Known::No => {
                self.yes.forget(&key);
                self.no.put(key, (), asked, until(self.ages.no));
            }
        }
    }
}

/// Values until a moment.
#[derive(Debug)]
struct Shelf<V> {
    all: HashMap<Key, (V, u64, u64)>,
    /// By when they end, then by when they came.
    order: BTreeMap<(u64, u64), Key>,
    next: u64,
    most: usize,
}

impl<V> Shelf<V> {
    fn new(most: usize) -> Self {
        Self {
            all: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            most,
        }
    }

    fn find(&self, key: &Key, now: u64) -> Option<&V> {
        let (value, until, _) = self.all.get(key)?;
        (now < *until).then_some(value)
    }

    fn forget(&mut self, key: &Key) {
        if let Some((_, until, number)) = self.all.remove(key) {
            self.order.remove(&(until, number));
        }
    }

    fn put(&mut self, key: Key, value: V, now: u64, until: u64) {
        self.forget(&key);
        while let Some(first) = self.order.first_entry() {
            let over = first.key().0 <= now;
            if !over && self.all.len() < self.most {
                break;
            }
            self.all.remove(&first.remove());
        }
        if until <= now || self.most == 0 {
            return;
        }
        self.next += 1;
        self.order.insert((until, self.next), key);
        self.all.insert(key, (value, until, self.next));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGES: Ages = Ages {
        yes: Duration::from_millis(100),
        no: Duration::from_millis(20),
    };

    fn key(number: u8) -> Key {
        [number; 32]
    }

    #[test]
    fn answers_count_from_when_they_were_asked_for() {
        let mut answers = Answers::new(AGES, 10);
        answers.learn(key(1), &Known::Yes("ada"), 1000);
        answers.learn(key(2), &Known::No, 1000);
        assert_eq!(answers.find(&key(1), 1099), Some(Known::Yes("ada")));
        assert_eq!(answers.find(&key(1), 1100), None);
        assert_eq!(answers.find(&key(2), 1019), Some(Known::No));
        assert_eq!(answers.find(&key(2), 1020), None);
    }

    #[test]
    fn the_newest_answer_counts() {
        let mut answers = Answers::new(AGES, 10);
        answers.learn(key(1), &Known::Yes("ada"), 0);
        answers.learn(key(1), &Known::No, 1);
        assert_eq!(answers.find(&key(1), 2), Some(Known::No));
        answers.learn(key(1), &Known::Yes("ada"), 3);
        assert_eq!(answers.find(&key(1), 3), Some(Known::Yes("ada")));
        assert_eq!(answers.find(&key(1), 103), None);
    }

    #[test]
    fn strangers_push_nobody_out() {
        let mut answers = Answers::new(AGES, 4);
        answers.learn(key(0), &Known::Yes(()), 0);
        for number in 1..=200 {
            answers.learn(key(number), &Known::No, 1);
        }
        assert_eq!(answers.find(&key(0), 2), Some(Known::Yes(())));
        assert_eq!(answers.no.all.len(), 4);
    }

    proptest! {
        #[test]
        fn bounded_and_never_older_than_told(
            most in 0_usize..6,
            steps in prop::collection::vec((0_u8..12, any::<bool>(), 0_u64..40), 1..80),
        ) {
            let mut answers = Answers::new(AGES, most);
            let mut now = 0;
            let mut last = HashMap::new();
            for (number, good, pause) in steps {
                now += pause;
                let known = match good {
                    true => Known::Yes(now),
                    false => Known::No,
                };
                answers.learn(key(number), &known, now);
                last.insert(number, (known, now));
                prop_assert!(answers.yes.all.len() <= most && answers.no.all.len() <= most);
                prop_assert_eq!(answers.yes.all.len(), answers.yes.order.len());
                prop_assert_eq!(answers.no.all.len(), answers.no.order.len());
                for (number, (known, asked)) in &last {
                    let age = match known {
                        Known::Yes(_) => 100,
                        Known::No => 20,
                    };
                    // It is forgotten, or it is the newest and not too old.
                    if let Some(found) = answers.find(&key(*number), now) {
                        prop_assert_eq!(&found, known);
                        prop_assert!(now < asked + age);
                    }
                }
            }
        }

        #[test]
        fn what_has_room_is_found(numbers in prop::collection::btree_set(0_u8..50, 1..20), wait in 0_u64..100) {
            let mut answers = Answers::new(AGES, 20);
            for number in &numbers {
                answers.learn(key(*number), &Known::Yes(*number), 7);
            }
            for number in numbers {
                prop_assert_eq!(answers.find(&key(number), 7 + wait), Some(Known::Yes(number)));
            }
        }
    }
}
