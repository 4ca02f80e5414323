//! When a watch is opened again, and what the store hears meanwhile, on tokio's paused clock.
//! The watches here are scripts, because time is what is tested.

use std::collections::VecDeque;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a watch does when it is run, one after the other.
#[derive(Debug)]
enum Script {
    /// Tells these parts as the whole, and is silent from then on.
    Tells(&'static [&'static str]),
    /// Gives this many signs of life, a second apart, then is silent.
    Lives(u32),
    Fails(Reason),
}

struct Scripted(VecDeque<Script>);

impl Watch for Scripted {
    fn run<'a>(&'a mut self, teller: &'a mut Teller) -> BoxFuture<'a, Failure> {
        let script = self.0.pop_front();
        Box::pin(async move {
            match script {
                Some(Script::Tells(names)) => {
                    teller.begin();
                    for name in names {
                        let part = Target::part(&teller.target().name.clone(), *name, "part");
                        let attention = Vec::new();
                        let outcome = Outcome::Good { attention };
                        teller.part(part, outcome, Facts::default(), None).await;
                    }
                    teller.finish().await;
                    teller.alive(Seen::default()).await;
                }
                Some(Script::Lives(signs)) => {
                    for _ in 0..signs {
                        tokio::time::sleep(SECOND).await;
                        teller.alive(Seen::default()).await;
                    }
                }
                Some(Script::Fails(reason)) => return Failure::new(reason, "scripted"),
                None => {}
            }
            std::future::pending().await
        })
    }

    fn patience(&self) -> Duration {
        5 * SECOND
    }
}

struct Fixture {
    told: mpsc::Receiver<Input>,
    again: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(scripts: impl Into<VecDeque<Script>>) -> Fixture {
    let (store, told) = mpsc::channel(64);
    let target = Arc::new(Target::new("t", "argocd", SECOND));
    let teller = Teller::new(target, Clock::system(), store, Hints::default());
    let watch = Box::new(Scripted(scripts.into()));
    let again = Arc::new(Notify::new());
    let bell = again.clone();
    let task = tokio::spawn(async move { run(watch, teller, &bell, 10 * SECOND).await });
    Fixture { told, again, task }
}

impl Fixture {
    /// What the store heard next, in a word.
    async fn next(&mut self) -> String {
        match self.told.recv().await.unwrap() {
            Input::Part { target, .. } => format!("part {}", target.name),
            Input::Gone { parts, .. } => format!("gone {}", parts.join(" ")),
            Input::Observed { observation, .. } => match observation.outcome {
                Outcome::Good { .. } => "alive".to_owned(),
                Outcome::Bad { reason, .. } => reason.to_string(),
            },
            Input::Watch(_) => "watch".to_owned(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_whole_no_longer_holds_is_gone() {
    let mut watch = start([Script::Tells(&["a", "b"]), Script::Tells(&["b"])]);
    for wanted in ["part a", "part b", "alive"] {
        assert_eq!(watch.next().await, wanted);
    }
    watch.again.notify_one();
    for wanted in ["part b", "gone a", "alive"] {
        assert_eq!(watch.next().await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_watch_and_signs_of_life_keep_it() {
    let started = Instant::now();
    let mut watch = start([Script::Lives(20), Script::Lives(1)]);
    for _ in 0..20 {
        assert_eq!(watch.next().await, "alive");
    }
    assert_eq!(watch.next().await, "watch_stale");
    assert_eq!(started.elapsed().as_secs(), 25);
    assert_eq!(watch.next().await, "alive");
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_and_tried_again_ever_slower() {
    let fails = || Script::Fails(Reason::PermissionDenied);
    let mut watch = start([fails(), fails(), fails(), fails(), Script::Tells(&["a"])]);
    let started = Instant::now();
    for _ in 0..4 {
        assert_eq!(watch.next().await, "permission_denied");
    }
    assert_eq!(watch.next().await, "part a");
    let waited = started.elapsed();
    assert!(waited >= SECOND / 2 && waited < 10 * SECOND, "{waited:?}");
}
