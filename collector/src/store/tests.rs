//! The store's order of telling, and what a reload keeps.

use comind_model::fact::Facts;
use comind_model::health::Health;
use comind_model::observation::{Depth, Outcome};
use comind_model::reason::Reason;

use super::*;

fn target(name: &str) -> Arc<Target> {
    Arc::new(Target {
        required: true,
        ..Target::new(name, "tcp", Duration::from_secs(5))
    })
}

fn watched(name: &str, keep: bool) -> Watched {
    Watched {
        target: target(name),
        keep,
    }
}

fn observed(name: &str, good: bool) -> Input {
    let outcome = match good {
        true => Outcome::Good { attention: vec![] },
        false => Outcome::Bad {
            reason: Reason::Refused,
            message: "refused".into(),
        },
    };
    Input::Observed {
        observation: Observation {
            target: name.into(),
            at: Timestamp::default(),
            depth: Depth::Look,
            outcome,
            latency: Duration::from_millis(1),
            looks: 1,
            hint: None,
            facts: Facts::default(),
        },
        connect: None,
    }
}

struct Fixture {
    inbox: mpsc::Sender<Input>,
    readers: Readers,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    fn start() -> Self {
        let (store, inbox, readers) = Store::new(Clock::system(), Arc::default(), HashMap::new());
        let stop = CancellationToken::new();
        tokio::spawn(store.run(Vitals::default(), stop.clone()));
        Self {
            inbox,
            readers,
            stop,
        }
    }

    async fn tell(&self, input: Input) {
        self.inbox.send(input).await.unwrap();
    }

    fn health(&self, name: &str) -> Option<Health> {
        let snapshot = self.readers.snapshot();
        snapshot.target(name).map(|state| state.standing().health)
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_in_the_snapshot_before_it_is_told() {
    let store = Fixture::start();
    let (mut events, before) = store.readers.subscribe();
    store.tell(Input::Watch(vec![watched("a", false)])).await;
    store.tell(observed("a", true)).await;
    let event = events.recv().await.unwrap();
    assert_eq!((event.seq, event.to), (before.seq + 1, Health::Up));
    let after = store.readers.snapshot();
    assert!(after.seq >= event.seq);
    assert_eq!(after.timeline.last().unwrap().seq, event.seq);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_unchanged_and_drops_the_removed() {
    let store = Fixture::start();
    let (mut events, _) = store.readers.subscribe();
    store
        .tell(Input::Watch(vec![watched("a", false), watched("b", false)]))
        .await;
    store.tell(observed("a", true)).await;
    store.tell(observed("b", true)).await;
    events.recv().await.unwrap();
    events.recv().await.unwrap();
    store
        .tell(Input::Watch(vec![watched("c", false), watched("a", true)]))
        .await;
    // A look of the removed one that ended late makes nothing.
    store.tell(observed("b", false)).await;
    store.tell(observed("c", true)).await;
    assert_eq!(&*events.recv().await.unwrap().target, "c");
    assert_eq!(store.health("a"), Some(Health::Up));
    assert_eq!(store.health("b"), None);
    let names: Vec<_> = store
        .readers
        .snapshot()
        .targets
        .iter()
        .map(|s| s.target().name.to_string())
        .collect();
    assert_eq!(names, ["c", "a"]);
}

#[tokio::test(start_paused = true)]
async fn silence_becomes_unknown_by_itself() {
    let store = Fixture::start();
    let (mut events, _) = store.readers.subscribe();
    store.tell(Input::Watch(vec![watched("a", false)])).await;
    store.tell(observed("a", true)).await;
    assert_eq!(events.recv().await.unwrap().to, Health::Up);
    let event = events.recv().await.unwrap();
    assert_eq!((event.to, event.reason), (Health::Unknown, Reason::Silence));
}

#[tokio::test(start_paused = true)]
async fn the_timeline_is_bounded() {
    let store = Fixture::start();
    let (mut events, _) = store.readers.subscribe();
    store.tell(Input::Watch(vec![watched("a", false)])).await;
    for round in 0..2 * TIMELINE {
        store.tell(observed("a", round % 2 == 0)).await;
        events.recv().await.unwrap();
    }
    assert_eq!(store.readers.snapshot().timeline.len(), TIMELINE);
}

fn part(name: &str, good: bool) -> Input {
    let Input::Observed {
        mut observation, ..
    } = observed(name, good)
    else {
        unreachable!("observed() makes nothing else");
    };
    observation.depth = Depth::Watch;
    Input::Part {
        target: Arc::new(Target::part(&"a".into(), name, "part")),
        observation,
    }
}

#[tokio::test(start_paused = true)]
async fn parts_come_go_and_are_unknown_while_their_parent_is_out() {
    let store = Fixture::start();
    let (mut events, _) = store.readers.subscribe();
    store.tell(part("a/early", true)).await;
    store.tell(Input::Watch(vec![watched("a", false)])).await;
    store.tell(observed("a", true)).await;
    store.tell(part("a/x", true)).await;
    store.tell(part("a/y", false)).await;
    store.tell(observed("a", false)).await;
    let mut seen = Vec::new();
    let mut last = 0;
    for _ in 0..6 {
        let event = events.recv().await.unwrap();
        assert!(last == 0 || event.seq == last + 1, "numbers without a gap");
        last = event.seq;
        seen.push(format!("{} {} {}", event.target, event.to, event.reason));
    }
    let wanted = [
        "a up ok",
        "a/x up ok",
        "a/y down refused",
        "a down refused",
        "a/x unknown parent_out",
        "a/y unknown parent_out",
    ];
    assert_eq!(seen, wanted);

    // What the watch tells between two failed looks counts only until the second.
    for (told, to) in [
        (part("a/x", true), Health::Up),
        (observed("a", false), Health::Unknown),
        (part("a/x", true), Health::Up),
    ] {
        store.tell(told).await;
        let event = events.recv().await.unwrap();
        assert_eq!((&*event.target, event.to), ("a/x", to));
    }
    let gone = Input::Gone {
        parent: "a".into(),
        parts: vec!["a/x".into()],
    };
    store.tell(gone).await;
    // Parts stay with a parent that stays, and go with one that goes.
    let both = vec![watched("b", false), watched("a", true)];
    store.tell(Input::Watch(both)).await;
    store.tell(observed("b", true)).await;
    events.recv().await.unwrap();
    assert_eq!(store.health("a/early"), None);
    assert_eq!(store.health("a/x"), None);
    assert_eq!(store.health("a/y"), Some(Health::Unknown));
    store.tell(Input::Watch(vec![watched("b", true)])).await;
    store.tell(observed("b", false)).await;
    events.recv().await.unwrap();
    assert_eq!(store.health("a/y"), None);
}
