//! What deep looks write: a token that no other look writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unique among all probers that look at the same target: process, time and a count.
pub fn token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!("{:x}-{nanos:x}-{count:x}", std::process::id())
}

/// How long ago a token was made; `None` for what is none, or was made in the future.
pub fn age(token: &str) -> Option<Duration> {
    let nanos = u64::from_str_radix(token.split('-').nth(1)?, 16).ok()?;
    let made = UNIX_EPOCH + Duration::from_nanos(nanos);
    SystemTime::now().duration_since(made).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        assert_ne!(token(), token());
    }

    #[test]
    fn a_token_tells_its_age() {
        let long_ago = format!("1-{:x}-0", 1_000_000_000);
        assert!(age(&token()).is_some_and(|age| age < Duration::from_secs(60)));
        assert!(age(&long_ago).is_some_and(|age| age > Duration::from_secs(60)));
        assert_eq!(age("anything"), None);
        assert_eq!(age("any-thing"), None);
    }
}
