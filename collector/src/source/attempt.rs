//! One attempt to look, with its deadline and its second opinion.
//!
//! A held connection can fail for reasons of its own (an idle cut, a restart in between),
//! so what fails on a held connection is asked again on a fresh one before it counts.
//! Silence on a held connection is given half of the deadline before a fresh one is asked
//! beside it; if both stay silent until the deadline, that counts as two looks.
//!
//! Must not know schedules, states or kinds.

use std::time::Duration;

use comind_model::reason::Reason;
use tokio::time::{Instant, timeout_at};

use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session};

/// Which question a look asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ask {
    /// The full look.
    Look,
    /// Only whether the peer of the held connection lives.
    Heartbeat,
}

/// How an attempt went.
#[derive(Debug)]
pub struct Attempt {
    /// What it saw.
    pub result: Result<Seen, Failure>,
    /// How long it took in all.
    pub latency: Duration,
    /// How long connecting took, if it had to.
    pub connect: Option<Duration>,
    /// How many looks the result stands for.
    pub looks: u8,
    /// When the held connection turned out to be lost, if it did.
    pub lost: Option<Instant>,
    /// Whether the held connection stayed silent for half of the deadline.
    pub silent: bool,
    /// Whether only a heartbeat was asked and answered: no full look was made.
    pub heartbeat_only: bool,
}

impl Attempt {
    fn new(started: Instant, result: Result<Seen, Failure>) -> Self {
        Self {
            result,
            latency: started.elapsed(),
            connect: None,
            looks: 1,
            lost: None,
            silent: false,
            heartbeat_only: false,
        }
    }

    /// Whether it timed out because the prober was not there to hear the answer.
    fn missed(&self, timeout: Duration) -> bool {
        let timed_out = matches!(&self.result, Err(failure) if failure.reason == Reason::Timeout);
        timed_out && self.latency > timeout + LATE
    }
}

/// A deadline that is noticed this much too late was missed by the prober itself, which was
/// suspended or starved: the answer may lie unread in a socket.
const LATE: Duration = Duration::from_millis(250);

/// Looks on the held session, or on a fresh one that then becomes the held one.
pub async fn look(
    probe: &dyn Probe,
    held: &mut Option<Box<dyn Session>>,
    ask: Ask,
    timeout: Duration,
) -> Attempt {
    let first = look_once(probe, held, ask, timeout).await;
    if !first.missed(timeout) {
        return first;
    }
    own_fault(
        look_fresh(probe, held, Instant::now(), timeout).await,
        timeout,
    )
}

/// Silence that we were too late to hear twice says nothing of the target.
fn own_fault(mut attempt: Attempt, timeout: Duration) -> Attempt {
    if attempt.missed(timeout) {
        let late = attempt.latency.saturating_sub(timeout).as_millis();
        let message = format!("the prober itself woke {late} ms too late to hear an answer");
        attempt.result = Err(Failure::new(Reason::ProberFault, message));
    }
    attempt
}

async fn look_once(
    probe: &dyn Probe,
    held: &mut Option<Box<dyn Session>>,
    ask: Ask,
    timeout: Duration,
) -> Attempt {
    let started = Instant::now();
    let Some(session) = held.take() else {
        return look_fresh(probe, held, started, timeout).await;
    };
    match ask_held(probe, session, ask, started, timeout).await {
        Held::Answered(session, seen) => {
            *held = Some(session);
            let mut attempt = Attempt::new(started, Ok(seen));
            attempt.heartbeat_only = ask == Ask::Heartbeat;
            attempt
        }
        Held::Replaced(fresh) => {
            let mut attempt = Attempt::new(started, Ok(fresh.seen));
            *held = Some(fresh.session);
            attempt.connect = Some(fresh.connect);
            attempt.silent = true;
            attempt
        }
        Held::Lost => {
            let lost = Instant::now();
            let mut attempt = look_fresh(probe, held, lost, timeout).await;
            attempt.lost = Some(lost);
            attempt
        }
        Held::Failed(failure) => Attempt::new(started, Err(failure)),
        Held::Silent(failure) => {
            let mut attempt = Attempt::new(started, Err(failure));
            attempt.looks = 2;
            attempt.silent = true;
            attempt
        }
    }
}

/// A deep look. One that is hung up on in the middle is made once more under the same
/// deadline: a cut on the way, or a connection that an administrator ended, is no outage.
pub async fn deep(probe: &dyn Probe, timeout: Duration) -> Attempt {
    let first = deep_once(probe, timeout).await;
    if !first.missed(timeout) {
        return first;
    }
    own_fault(deep_once(probe, timeout).await, timeout)
}

async fn deep_once(probe: &dyn Probe, timeout: Duration) -> Attempt {
    let started = Instant::now();
    let looked = async {
        match probe.deep().await {
            Err(failure) if failure.hung_up() => probe.deep().await,
            result => result,
        }
    };
    let result = match timeout_at(started + timeout, looked).await {
        Ok(result) => result,
        Err(_) => Err(silence("the deep look did not end", timeout)),
    };
    Attempt::new(started, result)
}

struct Fresh {
    session: Box<dyn Session>,
    seen: Seen,
    connect: Duration,
}

enum Held {
    Answered(Box<dyn Session>, Seen),
    Replaced(Fresh),
    Lost,
    Failed(Failure),
    Silent(Failure),
}

async fn look_fresh(
    probe: &dyn Probe,
    held: &mut Option<Box<dyn Session>>,
    started: Instant,
    timeout: Duration,
) -> Attempt {
    match timeout_at(started + timeout, fresh(probe)).await {
        Ok(Ok(fresh)) => {
            *held = Some(fresh.session);
            let mut attempt = Attempt::new(started, Ok(fresh.seen));
            attempt.connect = Some(fresh.connect);
            attempt
        }
        Ok(Err(failure)) => Attempt::new(started, Err(failure)),
        Err(_) => Attempt::new(
            started,
            Err(silence("no answer on a new connection", timeout)),
        ),
    }
}

async fn fresh(probe: &dyn Probe) -> Result<Fresh, Failure> {
    let started = Instant::now();
    let mut session = probe.connect().await?;
    let connect = started.elapsed();
    let seen = session.look().await?;
    Ok(Fresh {
        session,
        seen,
        connect,
    })
}

async fn ask_session(session: &mut dyn Session, ask: Ask) -> Result<Seen, Failure> {
    match ask {
        Ask::Look => session.look().await,
        Ask::Heartbeat => session.heartbeat().await.map(|()| Seen::default()),
    }
}

async fn ask_held(
    probe: &dyn Probe,
    mut session: Box<dyn Session>,
    ask: Ask,
    started: Instant,
    timeout: Duration,
) -> Held {
    let deadline = started + timeout;
    let raced = {
        let mut asked = std::pin::pin!(ask_session(&mut *session, ask));
        match timeout_at(started + timeout / 2, &mut asked).await {
            Ok(answer) => Raced::Held(answer),
            Err(_) => race(asked, probe, deadline, timeout).await,
        }
    };
    match raced {
        Raced::Held(Ok(seen)) => Held::Answered(session, seen),
        Raced::Held(Err(failure)) if failure.lost_connection() => Held::Lost,
        Raced::Held(Err(failure)) | Raced::Failed(failure) => Held::Failed(failure),
        Raced::Fresh(fresh) => Held::Replaced(fresh),
        Raced::Silent(failure) => Held::Silent(failure),
    }
}

enum Raced {
    Held(Result<Seen, Failure>),
    Fresh(Fresh),
    Failed(Failure),
    Silent(Failure),
}

/// The held connection is silent: a fresh one is asked beside it, and whoever answers first
/// is right. A certain failure of the fresh one (refused) is an answer too.
async fn race<F>(
    mut asked: std::pin::Pin<&mut F>,
    probe: &dyn Probe,
    deadline: Instant,
    timeout: Duration,
) -> Raced
where
    F: Future<Output = Result<Seen, Failure>>,
{
    let mut second = std::pin::pin!(fresh(probe));
    let mut second_silent = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut asked => return match answer {
                Err(failure) if failure.lost_connection() && !second_silent => {
                    match timeout_at(deadline, &mut second).await {
                        Ok(Ok(fresh)) => Raced::Fresh(fresh),
                        Ok(Err(failure)) => Raced::Failed(failure),
                        Err(_) => Raced::Silent(silence("no answer on the held connection, nor on a new one", timeout)),
                    }
                }
                answer => Raced::Held(answer),
            },
            answer = &mut second, if !second_silent => match answer {
                Ok(fresh) => return Raced::Fresh(fresh),
                Err(failure) if failure.reason == Reason::Timeout => second_silent = true,
                Err(failure) => return Raced::Failed(failure),
            },
            () = tokio::time::sleep_until(deadline) => {
                return Raced::Silent(silence("no answer on the held connection, nor on a new one", timeout));
            }
        }
    }
}

fn silence(what: &str, timeout: Duration) -> Failure {
    Failure::new(
        Reason::Timeout,
        format!("{what} within {} ms", timeout.as_millis()),
    )
}

#[cfg(test)]
mod tests;
