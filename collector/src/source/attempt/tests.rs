//! Deadlines and second opinions, on tokio's paused clock. The peers here are scripts, because
//! the order of answers is what is tested; real servers are in the end-to-end tests.

use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::*;

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_millis(1000);

/// What a connection does when it is asked.
#[derive(Clone, Debug)]
enum Script {
    Answers(Duration),
    Fails(Duration, Reason),
    Silent,
    /// The prober itself is suspended while it waits.
    Suspends(Duration),
}

struct Scripted(Script);

impl Session for Scripted {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        let script = self.0.clone();
        Box::pin(async move {
            match script {
                Script::Answers(after) => {
                    tokio::time::sleep(after).await;
                    Ok(Seen::default())
                }
                Script::Fails(after, reason) => {
                    tokio::time::sleep(after).await;
                    Err(Failure::new(reason, "scripted"))
                }
                Script::Silent => std::future::pending().await,
                Script::Suspends(pause) => {
                    tokio::time::advance(pause).await;
                    std::future::pending().await
                }
            }
        })
    }
}

/// Gives fresh connections by script, and counts them.
struct Fresh {
    scripts: Mutex<Vec<Script>>,
    opened: Mutex<usize>,
}

impl Fresh {
    fn new(script: Script) -> Self {
        Self {
            scripts: Mutex::new(vec![script]),
            opened: Mutex::new(0),
        }
    }
}

impl Probe for Fresh {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            *self.opened.lock().unwrap() += 1;
            let script = self.scripts.lock().unwrap().last().cloned().unwrap();
            match script {
                Script::Fails(after, reason) => {
                    tokio::time::sleep(after).await;
                    Err(Failure::new(reason, "scripted"))
                }
                script => Ok(Box::new(Scripted(script)) as Box<dyn Session>),
            }
        })
    }
}

async fn asked(held: Script, fresh: Script) -> (Attempt, bool, usize) {
    let probe = Fresh::new(fresh);
    let mut session: Option<Box<dyn Session>> = Some(Box::new(Scripted(held)));
    let attempt = look(&probe, &mut session, Ask::Look, TIMEOUT).await;
    let opened = *probe.opened.lock().unwrap();
    (attempt, session.is_some(), opened)
}

fn reason(attempt: &Attempt) -> Option<Reason> {
    attempt.result.as_ref().err().map(|failure| failure.reason)
}

#[tokio::test(start_paused = true)]
async fn a_quick_answer_needs_no_second_connection() {
    let (attempt, held, opened) = asked(Script::Answers(20 * MS), Script::Silent).await;
    assert!(attempt.result.is_ok() && held);
    assert_eq!((attempt.latency, opened), (20 * MS, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_within_the_deadline_is_good() {
    let (attempt, held, opened) = asked(Script::Answers(800 * MS), Script::Silent).await;
    assert!(attempt.result.is_ok() && held);
    assert_eq!((attempt.latency, opened), (800 * MS, 1));
}

#[tokio::test(start_paused = true)]
async fn silence_on_both_counts_twice_at_the_deadline() {
    let (attempt, held, _) = asked(Script::Silent, Script::Silent).await;
    assert_eq!(reason(&attempt), Some(Reason::Timeout));
    assert_eq!((attempt.latency, attempt.looks, held), (TIMEOUT, 2, false));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_connection_is_replaced_when_a_fresh_one_answers() {
    let (attempt, held, opened) = asked(Script::Silent, Script::Answers(10 * MS)).await;
    assert!(attempt.result.is_ok() && held && attempt.silent);
    assert_eq!((attempt.latency, opened), (510 * MS, 1));
}

#[tokio::test(start_paused = true)]
async fn refused_beside_silence_is_certain() {
    let (attempt, held, _) = asked(Script::Silent, Script::Fails(MS, Reason::Refused)).await;
    assert_eq!((reason(&attempt), held), (Some(Reason::Refused), false));
    assert_eq!(attempt.latency, 501 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_asked_again_on_a_fresh_one() {
    let lost = Script::Fails(MS, Reason::ConnectionClosed);
    let (attempt, held, _) = asked(lost.clone(), Script::Answers(MS)).await;
    assert!(attempt.result.is_ok() && held && attempt.lost.is_some());
    let (attempt, _, _) = asked(lost, Script::Fails(MS, Reason::Refused)).await;
    assert_eq!(reason(&attempt), Some(Reason::Refused));
}

#[tokio::test(start_paused = true)]
async fn the_services_own_failure_needs_no_second_opinion() {
    let (attempt, _, opened) =
        asked(Script::Fails(MS, Reason::ReadOnly), Script::Answers(MS)).await;
    assert_eq!((reason(&attempt), opened), (Some(Reason::ReadOnly), 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_held_connection_the_deadline_covers_connecting() {
    let probe = Fresh::new(Script::Fails(3 * TIMEOUT, Reason::Refused));
    let mut session = None;
    let attempt = look(&probe, &mut session, Ask::Look, TIMEOUT).await;
    assert_eq!(
        (reason(&attempt), attempt.latency),
        (Some(Reason::Timeout), TIMEOUT)
    );
    assert_eq!(attempt.looks, 1);
}

#[tokio::test(start_paused = true)]
async fn a_prober_that_slept_over_the_deadline_looks_again_before_it_blames() {
    let asleep = Script::Suspends(4 * TIMEOUT);
    let (attempt, held, _) = asked(asleep.clone(), Script::Answers(MS)).await;
    assert!(attempt.result.is_ok() && held);
    let (attempt, _, _) = asked(asleep.clone(), Script::Silent).await;
    assert_eq!(reason(&attempt), Some(Reason::Timeout));
    let (attempt, _, _) = asked(asleep.clone(), asleep).await;
    assert_eq!(reason(&attempt), Some(Reason::ProberFault));
}
