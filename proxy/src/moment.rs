//! Moments by two clocks, and what follows from them: how long something has lasted, and whether this
//! machine slept meanwhile. Pure but for reading the clocks.

use std::time::Duration;

use jiff::Timestamp;

use crate::run::Clock;

/// A moment by two clocks, in milliseconds. The one that never goes back stands still while a
/// machine sleeps; the other may be set. Whichever has gone further counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since the proxy began.
    pub steady: u64,
    /// Since the Unix epoch.
    pub wall: u64,
}

impl Moment {
    /// Now, with a clock that began with the program.
    pub fn now(clock: Clock) -> Self {
        Self {
            steady: clock.millis(),
            wall: u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0),
        }
    }

    /// How long it is since `before`.
    pub fn since(self, before: Self) -> Duration {
        let steady = self.steady.saturating_sub(before.steady);
        let wall = self.wall.saturating_sub(before.wall);
        Duration::from_millis(steady.max(wall))
    }
}

/// Between two looks that are a second apart it cannot be so long, unless this program did not run.
const SLEPT: Duration = Duration::from_secs(10);

/// Notices that nobody looked for a while: the machine slept, or the program was stopped. A clock that is
/// set forward looks the same, and what follows from it does no harm.
#[derive(Debug)]
pub struct Awake {
    clock: Clock,
    last: Moment,
}

impl Default for Awake {
    fn default() -> Self {
        let clock = Clock::default();
        Self {
            clock,
            last: Moment::now(clock),
        }
    }
}

impl Awake {
    /// To be asked once a second: whether much more than that has passed since the last time.
    pub fn slept(&mut self) -> bool {
        self.slept_until(Moment::now(self.clock))
    }

    fn slept_until(&mut self, now: Moment) -> bool {
        let before = std::mem::replace(&mut self.last, now);
        now.since(before) >= SLEPT
    }
}

/// Returns once `limit` has passed by whichever clock goes further; after a sleep that is when this
/// machine wakes.
pub async fn passes(limit: Duration) {
    let clock = Clock::default();
    let began = Moment::now(clock);
    loop {
        let left = limit.saturating_sub(Moment::now(clock).since(began));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady: u64, wall: u64) -> Moment {
        Moment {
            steady: steady * 1000,
            wall: wall * 1000,
        }
    }

    #[test]
    fn sleep_is_noticed_by_either_clock_and_once() {
        let mut awake = Awake {
            clock: Clock::default(),
            last: at(5, 1005),
        };
        assert!(!awake.slept_until(at(6, 1006)));
        // Stopped: both went on.
        assert!(awake.slept_until(at(36, 1036)));
        assert!(!awake.slept_until(at(37, 1037)));
        // Suspended: one stood still.
        assert!(awake.slept_until(at(38, 9000)));
        // Set back: that is no sleep.
        assert!(!awake.slept_until(at(39, 1)));
        assert!(!awake.slept_until(at(40, 2)));
    }
}
