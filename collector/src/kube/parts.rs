//! Turns the feeds of one target into its parts: what each object means is the kind's own.
//! Must not know kinds of object, nor when a watch counts as dead.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use comind_model::fact::Facts;
use comind_model::observation::{Hint, Outcome};
use comind_model::reason::Reason;
use comind_model::target::Target;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::kube::feed::{Feed, Told};
use crate::probe::Seen;
use crate::probe::failure::Failure;
use crate::source::watch::{Teller, WATCH, WATCH_BROKEN};

/// Objects that may wait to be told.
const WAITING: usize = 256;
/// Parts that one target may have; what is beyond is counted and not told.
pub const MOST_PARTS: usize = 5_000;

/// What one object means.
#[derive(Clone, Debug)]
pub struct Part {
    /// The state that it is.
    pub target: Target,
    /// How it is.
    pub outcome: Outcome,
    /// What was learned besides.
    pub facts: Facts,
}

struct Message {
    feed: usize,
    told: Told<Part>,
    hint: Hint,
}

/// The feeds of one watch. Dropping them ends their tasks.
pub struct Feeds {
    clock: Clock,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
    tasks: JoinSet<()>,
    count: usize,
}

impl Feeds {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            clock,
            sender,
            receiver,
            tasks: JoinSet::new(),
            count: 0,
        }
    }

    /// One more. `judge` says what an object means.
    pub fn add<K>(&mut self, feed: Feed<K>, mut judge: impl FnMut(K) -> Part + Send + 'static)
    where
        K: Clone + DeserializeOwned + Debug + Send + 'static + kube::Resource,
    {
        let place = self.count;
        self.count += 1;
        let (tell, mut told) = mpsc::channel(WAITING);
        self.tasks.spawn(feed.run(tell));
        let (clock, sender) = (self.clock, self.sender.clone());
        self.tasks.spawn(async move {
            while let Some(told) = told.recv().await {
                let hint = Hint {
                    what: WATCH,
                    at: clock.now(),
                };
                let message = Message {
                    feed: place,
                    told: judged(told, &mut judge),
                    hint,
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Tells what the feeds tell, until one of them cannot go on.
    pub async fn tell(mut self, teller: &mut Teller) -> Failure {
        let mut known = Known::new(self.count);
        teller.begin();
        while let Some(Message { feed, told, hint }) = self.receiver.recv().await {
            match told {
                Told::Begin => known.begin(feed),
                Told::There(part) => {
                    if known.there(feed, &part) {
                        let Part {
                            target,
                            outcome,
                            facts,
                        } = part;
                        teller.part(target, outcome, facts, Some(hint)).await;
                    }
                }
                Told::Listed => {
                    for part in known.listed(feed) {
                        teller.gone(&part).await;
                    }
                    if known.complete() {
                        teller.finish().await;
                    }
                }
                Told::Gone(part) => {
                    known.gone(feed, &part.target.name);
                    teller.gone(&part.target.name).await;
                }
                Told::Alive => {}
                Told::Broken => {
                    let target = teller.target().name.clone();
                    teller.hint(&target, WATCH_BROKEN);
                    continue;
                }
                Told::Failed(failure) => return failure,
            }
            if known.complete() {
                teller.alive(known.seen()).await;
            }
        }
        Failure::new(Reason::ProberFault, "the feeds of the watch ended")
    }
}

fn judged<K>(told: Told<K>, judge: &mut impl FnMut(K) -> Part) -> Told<Part> {
    match told {
        Told::Begin => Told::Begin,
        Told::There(object) => Told::There(judge(object)),
        Told::Listed => Told::Listed,
        Told::Gone(object) => Told::Gone(judge(object)),
        Told::Alive => Told::Alive,
        Told::Broken => Told::Broken,
        Told::Failed(failure) => Told::Failed(failure),
    }
}

/// How a part is, for counting.
#[derive(Clone, Copy, PartialEq)]
enum Well {
    Up,
    Degraded,
    Down,
}

/// Which parts came from which feed, so that a list can say what is gone.
struct Known {
    parts: HashMap<Arc<str>, (usize, &'static str, Well)>,
    /// For each feed whose list is being told: what of it was not told yet.
    missing: Vec<Option<HashSet<Arc<str>>>>,
    listed: Vec<bool>,
    too_many: usize,
}

impl Known {
    fn new(feeds: usize) -> Self {
        Self {
            parts: HashMap::new(),
            missing: vec![None; feeds],
            listed: vec![false; feeds],
            too_many: 0,
        }
    }

    fn begin(&mut self, feed: usize) {
        let of_feed = self.parts.iter().filter(|(_, (from, _, _))| *from == feed);
        self.missing[feed] = Some(of_feed.map(|(name, _)| name.clone()).collect());
        self.too_many = 0;
    }

    /// Whether it is to be told.
    fn there(&mut self, feed: usize, part: &Part) -> bool {
        let name = &part.target.name;
        if let Some(missing) = &mut self.missing[feed] {
            missing.remove(name);
        }
        if self.parts.len() >= MOST_PARTS && !self.parts.contains_key(name) {
            self.too_many += 1;
            return false;
        }
        let well = match &part.outcome {
            Outcome::Good { attention } if attention.is_empty() => Well::Up,
            Outcome::Good { .. } => Well::Degraded,
            Outcome::Bad { .. } => Well::Down,
        };
        self.parts
            .insert(name.clone(), (feed, part.target.kind, well));
        true
    }

    fn gone(&mut self, feed: usize, name: &str) {
        self.parts.remove(name);
        if let Some(missing) = &mut self.missing[feed] {
            missing.remove(name);
        }
    }

    fn listed(&mut self, feed: usize) -> Vec<Arc<str>> {
        self.listed[feed] = true;
        let missing = self.missing[feed].take().unwrap_or_default();
        for name in &missing {
            self.parts.remove(name);
        }
        missing.into_iter().collect()
    }

    fn complete(&self) -> bool {
        self.listed.iter().all(|listed| *listed)
    }

    /// What is said of the target itself: how many parts it has, and how they are.
    fn seen(&self) -> Seen {
        let mut counts: HashMap<&'static str, [u32; 3]> = HashMap::new();
        for (_, kind, well) in self.parts.values() {
            counts.entry(kind).or_default()[*well as usize] += 1;
        }
        let mut seen = Seen::default();
        for (kind, [up, degraded, down]) in counts {
            let mut set = |name, count: u32| {
                seen.facts
                    .set_labelled(name, "kind", kind, f64::from(count));
            };
            set("parts", up + degraded + down);
            set("parts_degraded", degraded);
            set("parts_down", down);
        }
        if self.too_many > 0 {
            seen.facts.set("parts_left_out", self.too_many as f64);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Part {
        Part {
            target: Target::part(&"t".into(), name, "pod"),
            outcome: Outcome::Good { attention: vec![] },
            facts: Facts::default(),
        }
    }

    #[test]
    fn a_list_says_what_is_gone_of_its_own_feed_only() {
        let mut known = Known::new(2);
        for (feed, name) in [(0, "a"), (0, "b"), (1, "c")] {
            known.begin(feed);
            known.there(feed, &part(name));
            // The second list of feed 0 begins before its first ended: nothing is lost.
        }
        known.begin(0);
        known.there(0, &part("b"));
        assert_eq!(known.listed(0), [Arc::<str>::from("a")]);
        assert!(!known.complete());
        known.begin(1);
        assert_eq!(known.listed(1), [Arc::<str>::from("c")]);
        assert!(known.complete());
        let facts = known.seen().facts;
        assert_eq!(facts.get("parts{kind=pod}"), Some(&1.0.into()));
    }

    #[test]
    fn parts_are_bounded_and_the_rest_is_counted() {
        let mut known = Known::new(1);
        known.begin(0);
        let told = (0..MOST_PARTS + 3)
            .filter(|n| known.there(0, &part(&n.to_string())))
            .count();
        assert_eq!(told, MOST_PARTS);
        assert!(known.there(0, &part("0")), "known ones go on");
        known.listed(0);
        let left_out = known.seen().facts;
        assert_eq!(left_out.get("parts_left_out"), Some(&3.0.into()));
    }
}
