//! Ever longer waits up to a limit. Must not know what is repeated.

use std::time::Duration;

/// Doubles from `first` to `limit`.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    current: Duration,
}

impl Backoff {
    /// Starts at `first`, or at `limit` where that is shorter.
    pub fn new(first: Duration, limit: Duration) -> Self {
        let first = first.min(limit);
        Self {
            first,
            limit,
            current: first,
        }
    }

    /// The wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.current;
        self.current = (wait * 2).min(self.limit);
        wait
    }

    /// All is well again: the next wait is the first one.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_and_starts_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.next_wait()).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(350), ms(350)]);
        backoff.reset();
        assert_eq!(backoff.next_wait(), ms(100));
    }
}
