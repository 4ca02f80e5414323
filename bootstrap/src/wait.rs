//! Waiting with a deadline and a reason.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What one look at a condition found.
pub enum Look<T, E> {
    /// It holds.
    Done(T),
    /// Not yet, and this is what is missing.
    NotYet(String),
    /// It never will.
    Hopeless(E),
}

/// Why waiting ended without success.
pub enum Gave<E> {
    /// The deadline passed; the text is what was missing at the last look.
    TimedOut(String),
    /// Waiting on made no sense.
    Hopeless(E),
}

/// Looks until the condition holds, cannot hold any more, or `limit` has passed.
///
/// `missing` hears each new reason once.
///
/// # Errors
/// [`Gave`], with the last reason.
pub async fn until<T, E, F>(
    limit: Duration,
    mut missing: impl FnMut(&str),
    mut look: impl FnMut() -> F,
) -> Result<T, Gave<E>>
where
    F: Future<Output = Look<T, E>>,
{
    let end = Instant::now() + limit;
    let mut last = String::from("nothing was seen yet");
    let mut heard = BTreeSet::new();
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::Hopeless(why)) => return Err(Gave::Hopeless(why)),
            Ok(Look::NotYet(why)) => {
                if heard.len() < MAX_HEARD && heard.insert(why.clone()) {
                    missing(&why);
                }
                last = why;
            }
            Err(_) => return Err(Gave::TimedOut(last)),
        }
        if Instant::now() + PAUSE > end {
            return Err(Gave::TimedOut(last));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for something that goes somewhere, as long as more of it goes: `gone` says how much has, and `heard`
/// hears of it now and then. Nothing when no more has gone for `silence`.
pub async fn while_going<T>(
    going: impl Future<Output = T>,
    gone: &AtomicU64,
    silence: Duration,
    mut heard: impl FnMut(u64),
) -> Option<T> {
    let mut going = std::pin::pin!(going);
    let mut before = gone.load(Ordering::Relaxed);
    let mut since = Instant::now();
    loop {
        let tick = Instant::now() + HEARD.min(silence);
        if let Ok(done) = tokio::time::timeout_at(tick, &mut going).await {
            return Some(done);
        }
        let now = gone.load(Ordering::Relaxed);
        if now != before {
            (before, since) = (now, Instant::now());
            heard(now);
        } else if since.elapsed() >= silence {
            return None;
        }
    }
}

/// How often it is told how much has gone.
const HEARD: Duration = Duration::from_secs(5);

/// A reason with a changing figure in it is not told forever.
const MAX_HEARD: usize = 20;

/// Between two looks: short beside any server's start, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::{Gave, Look, until, while_going};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn says_each_reason_once_and_the_last_one_at_the_deadline() {
        let mut heard = Vec::new();
        let mut looks = 0_usize;
        let gave = until::<(), (), _>(
            Duration::from_millis(300),
            |why| heard.push(why.to_owned()),
            || {
                let why = ["first", "second"][looks.min(5) % 2];
                looks += 1;
                async move { Look::NotYet(why.to_owned()) }
            },
        )
        .await;
        assert!(matches!(gave, Err(Gave::TimedOut(why)) if why == "second"));
        assert_eq!(heard, ["first", "second"]);
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_outlive_the_deadline() {
        let gave =
            until::<(), (), _>(Duration::from_millis(50), |_| {}, std::future::pending).await;
        assert!(matches!(gave, Err(Gave::TimedOut(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_is_waited_for_and_what_stalls_is_not() {
        let gone = AtomicU64::new(0);
        let second = Duration::from_secs(1);
        let piece = async || {
            tokio::time::sleep(second).await;
            gone.fetch_add(1, Ordering::Relaxed);
        };
        let slow = async {
            for _ in 0..10 {
                piece().await;
            }
        };
        let mut heard = Vec::new();
        let went = while_going(slow, &gone, second * 2, |now| heard.push(now)).await;
        assert_eq!(went, Some(()));
        assert!(heard.is_sorted() && heard.len() > 2, "{heard:?}");
        let stalls = async {
            piece().await;
            std::future::pending::<()>().await;
        };
        assert_eq!(while_going(stalls, &gone, second * 2, drop).await, None);
        assert_eq!(gone.load(Ordering::Relaxed), 11);
    }
}
