//! How long to wait before a crashed process is started again: a pure rule.

use std::time::Duration;

/// The first restart comes nearly at once: most crashes are single ones.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(30);
/// A process that ran this long has proved itself: the next crash counts as the first again.
const PROVED: Duration = Duration::from_secs(60);

/// Crashes in a row, none of them after a proved run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backoff {
    crashes: u32,
}

impl Backoff {
    /// Notes a crash after the process `ran` so long; returns how long to wait now.
    pub fn crashed(&mut self, ran: Duration) -> Duration {
        if ran >= PROVED {
            self.crashes = 0;
        }
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.crashes).unwrap_or(u32::MAX));
        self.crashes = self.crashes.saturating_add(1).min(31);
        doubled.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn doubles_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12)
            .map(|_| backoff.crashed(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 30_000);
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            backoff.crashed(Duration::from_secs(1));
        }
        assert_eq!(backoff.crashed(Duration::from_secs(59)).as_secs(), 30);
        assert_eq!(backoff.crashed(Duration::from_secs(60)).as_millis(), 100);
        assert_eq!(backoff.crashed(Duration::ZERO).as_millis(), 200);
    }
}
