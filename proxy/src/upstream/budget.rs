//! How many requests may be tried again: a share of all, so that an upstream in trouble is not
//! asked twice by everybody. Pure but for its counter.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A retry costs so much …
const COST: i64 = 10;
/// … and each request brings one: at most a tenth of the requests is tried again.
const BROUGHT: i64 = 1;
/// What may be saved up: so many retries at once. As many as are commonly under way, since one break may
/// meet all of them: a tunnel's API server that starts again, a pod that is killed.
const MOST: i64 = 1000 * COST;

/// What is left of it.
#[derive(Debug)]
pub struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(MOST))
    }
}

impl Budget {
    /// A request came.
    pub fn request(&self) {
        if self.0.load(Relaxed) < MOST {
            self.0.fetch_add(BROUGHT, Relaxed);
        }
    }

    /// Whether one may be tried again; takes its cost.
    pub fn retry(&self) -> bool {
        let taken = self.0.fetch_sub(COST, Relaxed) >= COST;
        if !taken {
            self.0.fetch_add(COST, Relaxed);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_tried_again() {
        let budget = Budget::default();
        assert_eq!((0..2000).filter(|_| budget.retry()).count(), 1000);
        let retried = (0..1000).filter(|_| {
            budget.request();
            budget.retry()
        });
        assert_eq!(retried.count(), 100);
    }
}
