//! How long a session lasts. Pure: the moment is an argument.

use std::time::Duration;

use comind_model::login::Why;

use crate::moment::Moment;

/// How long a session may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// At most.
    pub ttl: Duration,
    /// After the client was last heard.
    pub idle: Duration,
}

/// Why a session that began then, and was last heard then, is over by now; nothing while it lasts.
pub fn over(terms: Terms, began: Moment, heard: Moment, now: Moment) -> Option<Why> {
    if now.since(began) >= terms.ttl {
        return Some(Why::Expired);
    }
    (now.since(heard) >= terms.idle).then_some(Why::Idle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms {
        ttl: Duration::from_secs(100),
        idle: Duration::from_secs(10),
    };

    fn at(steady: u64, wall: u64) -> Moment {
        Moment {
            steady: steady * 1000,
            wall: wall * 1000,
        }
    }

    #[test]
    fn it_ends_by_its_time_or_by_silence() {
        let began = at(5, 1005);
        assert_eq!(over(TERMS, began, at(90, 1090), at(95, 1095)), None);
        assert_eq!(
            over(TERMS, began, at(90, 1090), at(100, 1100)),
            Some(Why::Idle)
        );
        assert_eq!(
            over(TERMS, began, at(104, 1104), at(105, 1105)),
            Some(Why::Expired)
        );
    }

    #[test]
    fn a_sleep_counts_and_a_clock_that_is_set_back_gives_nothing() {
        let began = at(5, 1005);
        assert_eq!(over(TERMS, began, began, at(6, 1020)), Some(Why::Idle));
        assert_eq!(over(TERMS, began, began, at(20, 10)), Some(Why::Idle));
        assert_eq!(
            over(TERMS, began, at(99, 0), at(106, 7)),
            Some(Why::Expired)
        );
    }

    proptest! {
        #[test]
        fn what_is_over_stays_over(began in 0_u64..1000, heard in 0_u64..1000, now in 0_u64..2000, later in 0_u64..2000) {
            let moment = |at: u64| Moment { steady: at * 100, wall: at * 100 };
            let (began, heard) = (moment(began), moment(began + heard));
            let before = over(TERMS, began, heard, moment(now));
            let after = over(TERMS, began, heard, moment(now + later));
            prop_assert!(before.is_none() || after.is_some());
        }
    }
}
