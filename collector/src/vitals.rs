//! Signs of life of our own tasks: each beats in its loop, and one that does not for longer than
//! it may is wedged; one that ended badly is started again and counted, or missed for good.
//! Must not know what the tasks do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A loop that waits for events beats at least this often.
pub const BEAT: Duration = Duration::from_secs(5);
/// What such a loop is allowed by default: three beats, and a slow disk between them.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// All tasks that are to live as long as the program.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Mutex<BTreeMap<&'static str, Sign>>>);

#[derive(Clone, Debug)]
struct Sign {
    last: Instant,
    patience: Duration,
    restarts: u64,
    ended: Option<String>,
}

/// How one task is.
#[derive(Clone, Debug, PartialEq)]
pub struct Vital {
    /// The task.
    pub task: &'static str,
    /// How long it has been silent.
    pub silent: Duration,
    /// How often it, or one of its kind, ended badly and was started again.
    pub restarts: u64,
    /// What is wrong with it, if anything.
    pub problem: Option<String>,
}

impl Vitals {
    /// A task that must beat at least this often.
    pub fn task(&self, name: &'static str, patience: Duration) -> Pulse {
        let sign = Sign {
            last: Instant::now(),
            patience,
            restarts: 0,
            ended: None,
        };
        self.signs().insert(name, sign);
        Pulse {
            vitals: self.clone(),
            name,
        }
    }

    /// One of many tasks of a kind ended badly and is started again.
    pub fn restarted(&self, name: &'static str) {
        let mut signs = self.signs();
        let sign = signs.entry(name).or_insert_with(|| Sign {
            last: Instant::now(),
            patience: Duration::MAX,
            restarts: 0,
            ended: None,
        });
        sign.restarts += 1;
    }

    /// How all are at `now`.
    pub fn all(&self, now: Instant) -> Vec<Vital> {
        let vital = |(task, sign): (&&'static str, &Sign)| {
            let silent = now.saturating_duration_since(sign.last);
            let problem = match &sign.ended {
                Some(why) => Some(format!("{task} has ended: {why}")),
                None if silent > sign.patience => Some(format!(
                    "{task} has given no sign of life for {:.1} s",
                    silent.as_secs_f64()
                )),
                None => None,
            };
            Vital {
                task,
                silent,
                restarts: sign.restarts,
                problem,
            }
        };
        self.signs().iter().map(vital).collect()
    }

    fn signs(&self) -> MutexGuard<'_, BTreeMap<&'static str, Sign>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The heart of one task. Dropped in a panic it says that the task has ended.
#[derive(Debug)]
pub struct Pulse {
    vitals: Vitals,
    name: &'static str,
}

impl Pulse {
    /// A sign of life.
    pub fn beat(&self) {
        if let Some(sign) = self.vitals.signs().get_mut(self.name) {
            sign.last = Instant::now();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let mut signs = self.vitals.signs();
        if !std::thread::panicking() {
            signs.remove(self.name);
        } else if let Some(sign) = signs.get_mut(self.name) {
            sign.ended = Some("it panicked; the log says where".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(vitals: &Vitals) -> Vec<String> {
        let all = vitals.all(Instant::now());
        all.into_iter().filter_map(|vital| vital.problem).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_task_is_wedged_until_it_beats() {
        let vitals = Vitals::default();
        let pulse = vitals.task("store", Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(problems(&vitals), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        let wanted = "store has given no sign of life for 11.0 s";
        assert_eq!(problems(&vitals), [wanted]);
        pulse.beat();
        assert_eq!(problems(&vitals), Vec::<String>::new());
        drop(pulse);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(problems(&vitals), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_task_that_panics_has_ended() {
        let vitals = Vitals::default();
        let pulse = vitals.task("notifier", PATIENCE);
        let task = tokio::spawn(async move {
            pulse.beat();
            panic!("on purpose");
        });
        assert!(task.await.is_err());
        let problems = problems(&vitals);
        assert!(
            problems[0].starts_with("notifier has ended"),
            "{problems:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_are_counted_and_nobody_is_missed() {
        let vitals = Vitals::default();
        vitals.restarted("source");
        vitals.restarted("source");
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(vitals.all(Instant::now())[0].restarts, 2);
        assert_eq!(problems(&vitals), Vec::<String>::new());
    }
}
