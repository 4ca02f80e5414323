//! Where `now` comes from: the monotonic clock, anchored once to the calendar.
//! Must not know what is timed.

use comind_model::timestamp::Timestamp;
use tokio::time::Instant;

/// Gives timestamps that never run backwards, so that no delay is ever negative.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    calendar: Timestamp,
}

impl Clock {
    /// A clock anchored to the system's calendar time now.
    pub fn system() -> Self {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Self {
            anchor: Instant::now(),
            calendar: Timestamp::from_micros(micros),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The calendar time of a moment of the monotonic clock.
    pub fn at(&self, moment: Instant) -> Timestamp {
        self.calendar + moment.saturating_duration_since(self.anchor)
    }
}
