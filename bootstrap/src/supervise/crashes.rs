//! How often a process has crashed while it was waited for. A supervisor counts from its own beginning: what
//! crashed and came back before that, perhaps weeks ago, says nothing of whether it comes up now.

use std::sync::OnceLock;

/// Counts from the first look on.
#[derive(Debug, Default)]
pub struct Crashes(OnceLock<u32>);

impl Crashes {
    /// How many there were since the first look, of the supervisor's count.
    pub fn since_first_look(&self, restarts: u32) -> u32 {
        restarts.saturating_sub(*self.0.get_or_init(|| restarts))
    }
}

#[cfg(test)]
mod tests {
    use super::Crashes;

    #[test]
    fn what_was_before_the_first_look_does_not_count() {
        let crashes = Crashes::default();
        let seen = [7, 7, 8, 10].map(|restarts| crashes.since_first_look(restarts));
        assert_eq!(seen, [0, 0, 1, 3]);
        // Another supervisor, which begins anew.
        assert_eq!(crashes.since_first_look(0), 0);
    }
}
